package strictyaml

import (
	"path/filepath"
	"reflect"
	"strings"
)

// Resolve makes relative paths start at dir: those in the fields of the struct
// into, and of structs, lists and pointers in it, that have the tag path:"file",
// and those behind "file:" in fields with the tag path:"key". Empty ones stay so.
func Resolve(dir string, into any) { resolve(dir, "", reflect.ValueOf(into).Elem()) }

func resolve(dir, tag string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			resolve(dir, tag, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			resolve(dir, tag, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				resolve(dir, f.Tag.Get("path"), v.Field(i))
			}
		}
	case reflect.String:
		path := v.String()
		if tag == "key" {
			path, _ = strings.CutPrefix(path, "file:")
		}
		switch {
		case path == "" || tag == "" || tag == "key" && path == v.String():
		case tag == "key":
			v.SetString("file:" + Under(dir, path))
		default:
			v.SetString(Under(dir, path))
		}
	}
}

// Under makes a relative path start at dir.
func Under(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
