package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
)

// This file reads what a client sends. It takes a parameter or field that the
// operation does not have for a mistake: "dryrun": true must not sign. What it says
// names fields and parameters and repeats no value, which could be a secret.

// badParameter is the fault of a parameter.
func badParameter(format string, args ...any) error {
	return fault.New(fault.Malformed, format, args...).Because("parameter")
}

// readParams sets the parameters from the path and the query.
func readParams(r *http.Request, known []api.Param, into reflect.Value) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the query cannot be read: want name=value with & between").
			Because("parameter")
	}
	var names []string
	for _, p := range known {
		values := query[p.Name]
		if p.In == "path" {
			value, err := pathValue(r, p.Name)
			if err != nil {
				return err
			}
			values = []string{value}
		} else {
			names = append(names, p.Name)
			delete(query, p.Name)
		}
		switch {
		case len(values) > 1:
			return badParameter("query parameter %q is given twice", p.Name)
		case len(values) == 0 && p.Required:
			return badParameter("query parameter %q is missing", p.Name)
		case len(values) == 0:
			continue
		}
		if want := setText(into.FieldByIndex(p.Field.Index), values[0]); want != "" {
			return badParameter("parameter %q: want %s", p.Name, want)
		}
	}
	if len(query) > 0 {
		unknown := slices.Min(slices.Collect(maps.Keys(query)))
		return badParameter("there is no query parameter %s here; %s", shown(unknown), choice(names))
	}
	return nil
}

// pathValue is a parameter of the path. The router leaves it encoded where the
// client encoded more than it had to.
func pathValue(r *http.Request, name string) (string, error) {
	value := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return value, nil
	}
	value, err := url.PathUnescape(value)
	if err != nil {
		return "", badParameter("parameter %q of the path is not percent-encoded as RFC 3986 says", name)
	}
	return value, nil
}

// setText sets a parameter's field, or says what is wanted.
func setText(field reflect.Value, text string) (want string) {
	switch field.Interface().(type) {
	case time.Time:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			at, err = time.Parse(time.DateOnly, text)
		}
		if err != nil {
			return "a time such as 2030-01-02T15:04:05Z"
		}
		field.Set(reflect.ValueOf(at))
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return "a whole number"
		}
		field.SetInt(int64(n))
	default:
		field.SetString(text)
	}
	return ""
}

// badBody is the fault of a body, or of a field of it.
func badBody(field, what string) error {
	if field != "" {
		what = field + ": " + what
	}
	return fault.New(fault.Malformed, "the body: %s", what).Because("body")
}

// readBody sets the fields of a struct from a JSON object. Of an operation without
// fields the body may be empty.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, into reflect.Value) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		// A client that is still writing would see a broken connection, and no answer.
		_, _ = io.Copy(io.Discard, r.Body)
		return fault.New(fault.TooLarge, "the body is longer than %d bytes", large.Limit)
	case err != nil:
		return fault.Wrap(fault.Malformed, err, "the body ended before its end").Because("body")
	case into.NumField() == 0 && len(bytes.TrimSpace(text)) == 0:
		return nil
	case len(bytes.TrimSpace(text)) == 0:
		return badBody("", "it is empty; want a JSON object")
	}
	return decode(text, into)
}

// decode sets the fields of a struct from JSON text.
func decode(text []byte, into reflect.Value) error {
	if !utf8.Valid(text) {
		return badBody("", "it is not UTF-8")
	}
	var object json.RawMessage
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&object); err != nil {
		return badBody("", fmt.Sprintf("it is not JSON from octet %d on; want an object", d.InputOffset()))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badBody("", "it goes on after its JSON object")
	}
	if object[0] != '{' {
		return badBody("", "want a JSON object")
	}
	return decodeValue(json.NewDecoder(bytes.NewReader(object)), into, "")
}

// decodeValue reads the next value of valid JSON. encoding/json alone takes the last
// of two fields of one name, and a field's name in any case.
func decodeValue(d *json.Decoder, into reflect.Value, name string) error {
	item := into.Type()
	if into.Kind() == reflect.Slice {
		item = item.Elem()
	}
	if item.Kind() != reflect.Struct || item == reflect.TypeFor[time.Time]() {
		if err := d.Decode(into.Addr().Interface()); err != nil {
			return badBody(name, "want "+wanted(into.Type()))
		}
		return nil
	}
	begin, err := d.Token()
	switch {
	case err != nil:
		return badBody(name, "it cannot be read")
	case begin == nil: // null is as good as nothing
		return nil
	case begin == json.Delim('{') && into.Kind() == reflect.Struct:
		return decodeFields(d, into, name)
	case begin != json.Delim('[') || into.Kind() != reflect.Slice:
		return badBody(name, "want "+wanted(into.Type()))
	}
	into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	for i := 0; d.More(); i++ {
		value := reflect.New(item).Elem()
		if err := decodeValue(d, value, fmt.Sprintf("%s[%d]", name, i)); err != nil {
			return err
		}
		into.Set(reflect.Append(into, value))
	}
	_, err = d.Token()
	return err
}

// decodeFields reads the fields of an object up to its end.
func decodeFields(d *json.Decoder, into reflect.Value, name string) error {
	fields := fieldsOf(into.Type())
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return badBody(name, "it cannot be read")
		}
		field, _ := key.(string)
		i := slices.Index(fields, field)
		switch {
		case i < 0:
			return badBody(name, fmt.Sprintf("there is no field %s; %s", shown(field), choice(fields)))
		case seen[field]:
			return badBody(name, fmt.Sprintf("field %q is given twice", field))
		}
		seen[field] = true
		if err := decodeValue(d, into.Field(i), strings.TrimPrefix(name+"."+field, ".")); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// fieldsOf returns the names that a struct's fields have in JSON, in their order.
func fieldsOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// wanted says in words what JSON a type is.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "base64 in a string"
		}
		return "a list, each " + wanted(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return "a time such as \"2030-01-02T15:04:05Z\""
		}
		return "an object"
	default:
		return "a string"
	}
}

// nameLike is what may be repeated of a name that is not known.
var nameLike = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,39}$`)

// shown is an unknown name, unless it does not look like one: then it may be
// something that was put in the wrong place.
func shown(name string) string {
	if nameLike.MatchString(name) {
		return strconv.Quote(name)
	}
	return "of that name"
}

func choice(names []string) string {
	if len(names) == 0 {
		return "there is none"
	}
	return "there are: " + strings.Join(names, ", ")
}
