// Package strictyaml reads YAML files that people write, and finds every mistake
// in one pass: unknown and repeated keys with their place and the key that was
// probably meant, and nothing that YAML does behind the reader's back (anchors,
// aliases, merge keys, tags, a second document).
package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File         string
	Line, Column int    // from 1; 0 when the file does not mention it
	Key          string // such as listeners.https.addr; empty for a syntax error
	What         string
}

// String is the form of a compiler's message, which editors can follow.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.What)
	return b.String()
}

// Problems is everything that is wrong, in the order of the file.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Document is a parsed YAML file: where each key stands, and what is wrong.
type Document struct {
	file     string
	at       map[string]*token.Position
	problems Problems
	unread   bool // holds what is not read
}

// Decode reads one strict YAML document into the struct that into points to.
// Unknown and repeated keys are problems, each with its place and, where one is
// near, the key that was probably meant.
func Decode(file string, text []byte, into any) *Document {
	d := &Document{file: file, at: map[string]*token.Position{}}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		d.add("", err)
		return d
	}
	var docs []ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body != nil {
			docs = append(docs, doc.Body)
		}
	}
	switch {
	case len(docs) == 0:
		d.problems = append(d.problems, Problem{File: file, What: "the file is empty"})
		return d
	case len(docs) > 1:
		d.problem("", place(docs[1]), "a second document begins here; the file holds one")
		return d
	}
	d.walk("", docs[0], reflect.TypeOf(into).Elem())
	if d.unread {
		return d
	}
	if err := yaml.NodeToValue(docs[0], into); err != nil {
		d.add("", err)
	}
	return d
}

// walk records the place of every key below n and reports those that t does not
// have.
func (d *Document) walk(path string, n ast.Node, t reflect.Type) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		// An alias may contain itself, and a reader of the file should not have
		// to look elsewhere.
		d.notRead(path, place(n))
		return
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		fields, open := keysOf(t)
		for _, kv := range n.Values {
			d.entry(path, kv, fields, open)
		}
	case *ast.MappingValueNode:
		fields, open := keysOf(t)
		d.entry(path, n, fields, open)
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return
		}
		for i, item := range n.Values {
			p := fmt.Sprintf("%s[%d]", path, i)
			d.at[p] = place(item)
			d.walk(p, item, t.Elem())
		}
	case *ast.StringNode:
		// The library reports a bad duration without its place.
		if t == reflect.TypeFor[time.Duration]() {
			if _, err := time.ParseDuration(n.Value); err != nil {
				d.problem(path, place(n), fmt.Sprintf("%q: want a duration such as 90s, 15m or 24h", n.Value))
			}
		}
	}
}

// place is where a node begins. The token of a mapping is its first colon.
func place(n ast.Node) *token.Position {
	switch m := n.(type) {
	case *ast.MappingNode:
		if len(m.Values) > 0 {
			return m.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken().Position
	}
	return n.GetToken().Position
}

func (d *Document) entry(path string, kv *ast.MappingValueNode, fields map[string]reflect.Type, open reflect.Type) {
	tok := kv.Key.GetToken()
	if kv.Key.IsMergeKey() {
		d.notRead(path, tok.Position)
		return
	}
	key := tok.Value
	p := strings.TrimPrefix(path+"."+key, ".")
	d.at[p] = tok.Position
	if t, known := fields[key]; known {
		d.walk(p, kv.Value, t)
		return
	}
	if open != nil {
		d.walk(p, kv.Value, open)
		return
	}
	if fields == nil {
		return
	}
	what := "unknown key"
	if near := Nearest(key, slices.Sorted(maps.Keys(fields))); near != "" {
		what += fmt.Sprintf("; did you mean %q?", near)
	}
	d.problem(p, tok.Position, what)
}

// keysOf returns the keys of a struct, or the type of a map's values, or neither
// for a type that reads itself.
func keysOf(t reflect.Type) (fields map[string]reflect.Type, open reflect.Type) {
	if readsItself(t) {
		return nil, nil
	}
	if t.Kind() == reflect.Map {
		return nil, t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, nil
	}
	fields = map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case rest == "inline":
			inner, _ := keysOf(f.Type)
			maps.Copy(fields, inner)
		case name == "":
			fields[strings.ToLower(f.Name)] = f.Type
		default:
			fields[name] = f.Type
		}
	}
	return fields, nil
}

func readsItself(t reflect.Type) bool {
	for _, i := range []reflect.Type{
		reflect.TypeFor[encoding.TextUnmarshaler](), reflect.TypeFor[yaml.BytesUnmarshaler](), reflect.TypeFor[yaml.InterfaceUnmarshaler](),
	} {
		if reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

func (d *Document) notRead(path string, at *token.Position) {
	d.unread = true
	d.problem(path, at, "anchors, aliases, merge keys and tags are not read")
}

func (d *Document) problem(key string, at *token.Position, what string) {
	d.problems = append(d.problems, Problem{File: d.file, Line: at.Line, Column: at.Column, Key: key, What: what})
}

// Report reports something wrong with the value at key, at the place of the key or
// of its nearest parent that the file mentions.
func (d *Document) Report(key, format string, args ...any) {
	p := Problem{File: d.file, Key: key, What: fmt.Sprintf(format, args...)}
	for k := key; k != ""; k = parent(k) {
		if at, ok := d.at[k]; ok {
			p.Line, p.Column = at.Line, at.Column
			break
		}
	}
	d.problems = append(d.problems, p)
}

func parent(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}

// add reports an error of the YAML library. Its own text quotes the source,
// which a report that may be pasted anywhere should not.
func (d *Document) add(key string, err error) {
	var located interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &located) && located.GetToken() != nil {
		at := located.GetToken().Position
		for k, p := range d.at { // the key at or before the value
			if p.Line == at.Line && p.Column <= at.Column && len(k) > len(key) {
				key = k
			}
		}
		d.problem(key, at, located.GetMessage())
		return
	}
	if len(d.problems) > 0 {
		return // walk has said so, with the place
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	d.problems = append(d.problems, Problem{File: d.file, Key: key, What: first})
}

// Err returns the problems in the order of the file, or nil.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		if a.Column != b.Column {
			return a.Column - b.Column
		}
		return strings.Compare(a.Key, b.Key)
	})
	return d.problems
}

// Nearest returns the candidate with the fewest edits from s, or "" when even
// that one is more than a third of its length away.
func Nearest(s string, candidates []string) string {
	best, fewest := "", 0
	for _, c := range candidates {
		n := edits(strings.ToLower(s), c)
		if n <= max(len(c)/3, 1) && (best == "" || n < fewest) {
			best, fewest = c, n
		}
	}
	return best
}

// edits is the number of letters inserted, left out, replaced or swapped with
// their neighbour between two ASCII words (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Marshal returns v as YAML for people, items of lists indented.
func Marshal(v any) ([]byte, error) { return yaml.MarshalWithOptions(v, yaml.IndentSequence(true)) }

// Canonical returns v as YAML that is the same for the same v, for digests that
// outlive a release.
func Canonical(v any) ([]byte, error) { return yaml.Marshal(v) }
