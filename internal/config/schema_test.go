package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path"
	"reflect"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "write golden files anew")

// TestSchemaIsCurrent keeps schema.json equal to the configuration's types and
// their comments. `go test ./internal/config -run Schema -update` writes it.
func TestSchemaIsCurrent(t *testing.T) {
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", Anonymous: true, ExpandedStruct: true,
		Namer: func(t reflect.Type) string {
			if t.Name() == "Config" { // several packages have one
				return path.Base(t.PkgPath()) + "." + t.Name()
			}
			return t.Name()
		},
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case reflect.TypeFor[time.Duration]():
				return &jsonschema.Schema{Type: "string", Description: "A duration such as 90s, 15m or 24h.", Examples: []any{"15m"}}
			case reflect.TypeFor[netip.Prefix]():
				return &jsonschema.Schema{Type: "string", Description: "A network such as 10.0.0.0/8.", Examples: []any{"10.0.0.0/8"}}
			}
			return nil
		},
	}
	const root = "../.."
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// The comments are found by paths that begin at the module's root.
	t.Chdir(root)
	for _, pkg := range []string{
		"internal/config", "internal/profile", "internal/challenge", "internal/limit", "internal/crl", "internal/scep",
		"internal/credential", "internal/access",
	} {
		if err := r.AddGoComments("github.com/privyseal/privyseal", "./"+pkg); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r.Reflect(&Config{})); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got.Bytes(), Schema) {
		t.Error("schema.json is not what the types say: go test ./internal/config -run Schema -update")
	}
}
