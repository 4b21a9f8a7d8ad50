package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/test/need"
)

const folder = "../../api"

// openapi.yaml is what the declarations make.
func TestDescriptionIsCurrent(t *testing.T) {
	t.Parallel()
	text, err := document(folder)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, api.Spec) {
		t.Error("api/openapi.yaml is not what the declarations say: run make generate")
	}
}

// Every operation that is declared is served, under its own name.
func TestEveryOperationIsServed(t *testing.T) {
	t.Parallel()
	c, err := readComments(folder)
	if err != nil {
		t.Fatal(err)
	}
	var served []string
	for _, r := range new(admin.Server).Operations() {
		served = append(served, r.Name)
		if r.Permission == "" || r.Summary == "" || r.Streams() != (len(r.Types) > 0) ||
			(r.Answer == "") != (len(r.ByStatus()) > 0) {
			t.Errorf("%s: its declaration lacks something or says too much", r.Name)
		}
	}
	slices.Sort(served)
	if declared := slices.Sorted(slices.Values(c.operations)); !slices.Equal(served, declared) {
		t.Errorf("served are %v,\ndeclared are %v", served, declared)
	}
}

// A public linter finds nothing. That ExportLine is used by x-line-schema alone is
// what it is for: OpenAPI 3.0 has no words for the lines of a stream.
func TestLinterFindsNothing(t *testing.T) {
	t.Parallel()
	run(t, ".", nil, need.Program(t, "redocly"),
		"lint", "--max-problems=20", "--skip-rule=no-unused-components", folder+"/openapi.yaml")
}

// A public generator makes a client that compiles.
func TestGeneratedClientCompiles(t *testing.T) {
	t.Parallel()
	generator := need.Program(t, "oapi-codegen")
	spec, err := filepath.Abs(folder + "/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	module := "module client\n\ngo 1.26.0\n\nrequire github.com/oapi-codegen/runtime v1.8.0\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, generator, "-generate", "types,client", "-package", "client", "-o", "client.go", spec)
	run(t, dir, []string{"GOFLAGS=-mod=mod"}, "go", "build", ".")
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
}
