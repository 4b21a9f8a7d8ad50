package strictyaml

import (
	"encoding"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

func (d *Document) decode(text []byte, into any) {
	body := d.parse(text)
	if body == nil {
		return
	}
	defer func() {
		if recover() != nil {
			d.problem("", nil, "not YAML that can be read")
		}
	}()
	d.value("", body, reflect.ValueOf(into).Elem(), 0)
}

// standard is what fields of the standard library's types take: their own errors
// repeat the value.
var standard = map[reflect.Type]string{
	reflect.TypeFor[time.Duration](): "a duration such as 90s, 15m or 24h",
	reflect.TypeFor[netip.Prefix]():  "a network such as 10.0.0.0/8",
}

// value reads n into v. A null leaves v as it is.
func (d *Document) value(path string, n ast.Node, v reflect.Value, depth int) {
	if depth > maxDepth {
		d.problem(path, place(n), tooDeep)
		return
	}
	if _, null := n.(*ast.NullNode); null {
		return
	}
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		d.value(path, n, fresh.Elem(), depth)
		v.Set(fresh)
		return
	}
	if s, ok := scalarOf(n); ok {
		if err := s.into(v); err != nil {
			d.problem(path, place(n), err.Error())
		}
		return
	}
	pairs, isMapping := pairsOf(n)
	list, isList := n.(*ast.SequenceNode)
	switch {
	case isMapping && !isText(v.Type()) && (v.Kind() == reflect.Struct || v.Kind() == reflect.Map):
		d.mapping(path, pairs, v, depth)
	case isList && !isText(v.Type()) && v.Kind() == reflect.Slice:
		d.list(path, list, v, depth)
	default:
		d.problem(path, place(n), "want "+wanted(v.Type()))
	}
}

func (d *Document) list(path string, n *ast.SequenceNode, v reflect.Value, depth int) {
	items := reflect.MakeSlice(v.Type(), len(n.Values), len(n.Values))
	for i, item := range n.Values {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.at[p] = place(item)
		d.value(p, item, items.Index(i), depth+1)
	}
	v.Set(items)
}

func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// mapping reads keys and values into a struct or a map.
func (d *Document) mapping(path string, pairs []*ast.MappingValueNode, v reflect.Value, depth int) {
	fields := fieldsOf(v.Type())
	seen := map[string]*token.Position{}
	for _, kv := range pairs {
		key, at, ok := d.key(path, kv)
		if !ok {
			continue
		}
		p := strings.TrimPrefix(path+"."+key, ".")
		if first := seen[key]; first != nil {
			d.problem(p, at, fmt.Sprintf("defined twice, first at %d:%d", first.Line, first.Column))
			continue
		}
		seen[key], d.at[p] = at, at
		if v.Kind() == reflect.Map {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(p, kv.Value, item, depth+1)
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
			continue
		}
		index, known := fields[key]
		if !known {
			what := "unknown key"
			if near := Nearest(key, slices.Sorted(maps.Keys(fields))); near != "" {
				what += fmt.Sprintf("; did you mean %q?", near)
			}
			d.problem(p, at, what)
			continue
		}
		d.value(p, kv.Value, v.FieldByIndex(index), depth+1)
	}
}

// key returns a key, which messages name: it has to be short and to print.
func (d *Document) key(path string, kv *ast.MappingValueNode) (string, *token.Position, bool) {
	at := place(kv)
	s, ok := scalarOf(kv.Key)
	strange := strings.ContainsFunc(s.text, func(r rune) bool { return !unicode.IsPrint(r) })
	if !ok || s.text == "" || len(s.text) > maxKey || strange {
		d.problem(path, at, "a key here is no plain word of at most 128 octets")
		return "", at, false
	}
	return s.text, at, true
}

// fieldsOf returns the keys of a struct; those of an inlined one are its own.
func fieldsOf(t reflect.Type) map[string][]int {
	fields := map[string][]int{}
	if t.Kind() != reflect.Struct {
		return fields
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case rest == "inline":
			for inner, index := range fieldsOf(f.Type) {
				fields[inner] = append([]int{i}, index...)
			}
		case name == "":
			fields[strings.ToLower(f.Name)] = []int{i}
		default:
			fields[name] = []int{i}
		}
	}
	return fields
}

// isText reports whether a type is written as one scalar, whatever its kind.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// scalar is a value that is neither a list nor a mapping.
type scalar struct {
	text  string
	plain bool // neither in quotes nor a block of text
}

func scalarOf(n ast.Node) (scalar, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return scalar{n.Value, n.Token.Type == token.StringType}, true
	case *ast.LiteralNode:
		return scalar{n.Value.Value, false}, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return scalar{n.GetToken().Value, true}, true
	}
	return scalar{}, false
}

// into sets v to what the scalar means there. Its errors do not repeat the text.
func (s scalar) into(v reflect.Value) error {
	t := v.Type()
	if reader, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err := reader.UnmarshalText([]byte(s.text))
		if err != nil && (standard[t] != "" || len(s.text) > 3 && strings.Contains(err.Error(), s.text)) {
			return fmt.Errorf("want %s", wanted(t))
		}
		return err
	}
	wrong := fmt.Errorf("want %s", wanted(t))
	switch {
	case t == reflect.TypeFor[time.Duration]():
		length, err := time.ParseDuration(s.text)
		if err != nil {
			return wrong
		}
		v.SetInt(int64(length))
	case t.Kind() == reflect.String:
		v.SetString(s.text)
	case t.Kind() == reflect.Bool && s.plain && slices.Contains([]string{"true", "True", "TRUE"}, s.text):
		v.SetBool(true)
	case t.Kind() == reflect.Bool && s.plain && slices.Contains([]string{"false", "False", "FALSE"}, s.text):
		v.SetBool(false)
	case v.CanInt() && s.plain:
		n, ok := whole(s.text)
		if !ok || v.OverflowInt(n) {
			return wrong
		}
		v.SetInt(n)
	default:
		return wrong
	}
	return nil
}

var (
	decimal = regexp.MustCompile(`^[-+]?[0-9]+$`)
	octal   = regexp.MustCompile(`^0o[0-7]+$`)
	hexa    = regexp.MustCompile(`^0x[0-9a-fA-F]+$`)
)

// whole reads a whole number of the core schema (YAML 1.2, section 10.3.2).
func whole(s string) (int64, bool) {
	base := 10
	switch {
	case octal.MatchString(s):
		s, base = s[2:], 8
	case hexa.MatchString(s):
		s, base = s[2:], 16
	case !decimal.MatchString(s):
		return 0, false
	}
	n, err := strconv.ParseInt(s, base, 64)
	return n, err == nil
}

// wanted is what a field of a type takes.
func wanted(t reflect.Type) string {
	switch {
	case standard[t] != "":
		return standard[t]
	case isText(t): // which says best itself, at an empty text
		if err := (scalar{}).into(reflect.New(t).Elem()); err != nil {
			return strings.TrimPrefix(err.Error(), "want ")
		}
		return "one value"
	case t.Kind() == reflect.String:
		return "one value"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return "keys and values"
	}
	return "a whole number in decimal, such as 10, without quotes"
}
