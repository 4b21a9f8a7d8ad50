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
		switch {
		case f.Tag.Get("reload") != "restart" && f.Type.Kind() == reflect.Struct:
			changed = append(changed, needsRestart(key, old.Field(i), fresh.Field(i))...)
		case f.Tag.Get("reload") == "restart" && !reflect.DeepEqual(old.Field(i).Interface(), fresh.Field(i).Interface()):
			changed = append(changed, key)
		}
	}
	return changed
}
