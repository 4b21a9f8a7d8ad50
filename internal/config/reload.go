package config

import (
	"reflect"
	"strings"
)

// NeedsRestart names the sections that a server reads once, at its start, and
// that differ between two configurations.
func NeedsRestart(old, fresh *Config) []string {
	return needsRestart("", reflect.ValueOf(*old), reflect.ValueOf(*fresh))
}

func needsRestart(path string, old, fresh reflect.Value) []string {
	var changed []string
	for i := range old.NumField() {
		f := old.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		key := strings.TrimPrefix(path+"."+name, ".")
		tagged, a, b := f.Tag.Get("reload") == "restart", old.Field(i), fresh.Field(i)
		switch {
		case !tagged && f.Type.Kind() == reflect.Struct:
			changed = append(changed, needsRestart(key, a, b)...)
		case tagged && !reflect.DeepEqual(a.Interface(), b.Interface()):
			changed = append(changed, key)
		}
	}
	return changed
}
