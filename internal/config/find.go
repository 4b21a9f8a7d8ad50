package config

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
)

// Schema is the JSON Schema of the configuration file.
//
//go:embed schema.json
var Schema []byte

// Places are where a configuration file is looked for.
var Places = []string{"privyseal.yaml", "privyseal-dev/privyseal.yaml", "/etc/privyseal/privyseal.yaml"}

// Find returns the file that was named, or the first that is in its place.
func Find(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	for _, place := range Places {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("no configuration file: none of %s is here; "+
		"name one with --config, or begin with `privyseal dev`", strings.Join(Places, ", "))
}
