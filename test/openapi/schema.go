package main

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// reference puts the schema of a named type among the components and returns what
// refers to it.
func (w *writer) reference(t reflect.Type) yaml.MapSlice {
	name := t.Name()
	if _, there := w.schemas[name]; !there {
		w.schemas[name] = nil // it may contain itself
		w.order = append(w.order, name)
		if t.Kind() == reflect.Struct {
			w.schemas[name] = w.object(t)
		} else {
			values, names := w.comments.enum(name)
			w.schemas[name] = entries("type", "string", "description", w.comments.types[name],
				"enum", values, "x-enum-varnames", names)
		}
	}
	return ref(name)
}

func (w *writer) object(t reflect.Type) yaml.MapSlice {
	var required []string
	properties := yaml.MapSlice{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "" {
			required = append(required, name)
		}
		schema := w.schema(f.Type, f.Tag)
		if what := w.comments.field(t, f); what != "" {
			if _, is := schema.ToMap()["$ref"]; is { // nothing may stand beside it
				schema = entries("allOf", []any{schema})
			}
			schema = append(schema, entries("description", what)...)
		}
		properties = append(properties, yaml.MapItem{Key: name, Value: schema})
	}
	return entries("type", "object", "description", w.comments.types[t.Name()], "required", required,
		"properties", properties)
}

// schema is the schema of a field of type t, with what its tag adds.
func (w *writer) schema(t reflect.Type, tag reflect.StructTag) yaml.MapSlice {
	schema := w.plain(t)
	for _, rule := range strings.FieldsFunc(tag.Get("schema"), func(r rune) bool { return r == ',' }) {
		key, value, _ := strings.Cut(rule, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			panic("schema tag: " + rule)
		}
		schema = append(schema, yaml.MapItem{Key: key, Value: n})
	}
	return schema
}

func (w *writer) plain(t reflect.Type) yaml.MapSlice {
	switch t {
	case reflect.TypeFor[time.Time]():
		return entries("type", "string", "format", "date-time")
	case reflect.TypeFor[json.RawMessage]():
		return yaml.MapSlice{}
	case reflect.TypeFor[[]byte]():
		return entries("type", "string", "format", "byte")
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.plain(t.Elem())
	case reflect.Slice:
		return entries("type", "array", "items", w.plain(t.Elem()))
	case reflect.Struct:
		return w.reference(t)
	case reflect.Bool:
		return entries("type", "boolean")
	case reflect.Int:
		return entries("type", "integer")
	case reflect.Int64:
		return entries("type", "integer", "format", "int64")
	case reflect.String:
		if t.Name() != "string" {
			return w.reference(t)
		}
		return entries("type", "string")
	default:
		panic("no schema for " + t.String())
	}
}
