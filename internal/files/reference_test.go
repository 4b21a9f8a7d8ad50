package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/files"
)

func TestReadReference(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"kek": 0o400, "group": 0o440, "open": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("hunter2\r\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "empty"), []byte("\n"), 0o400),
		os.WriteFile(filepath.Join(filepath.Dir(dir), "outside"), []byte("hunter2"), 0o400)); err != nil {
		t.Fatal(err)
	}
	handed := map[string]string{"CREDENTIALS_DIRECTORY": dir, "PIN": "hunter2", "NONE": ""}
	none, relative := map[string]string{}, map[string]string{"CREDENTIALS_DIRECTORY": "."}
	for _, tc := range []struct {
		ref  string
		env  map[string]string
		want string // in the error; empty for the secret
	}{
		{"file:kek", none, ""},
		{"file:" + filepath.Join(dir, "kek"), none, ""},
		{"env:PIN", handed, ""},
		{"credential:kek", handed, ""},
		{"credential:group", handed, ""},
		{"credential:kek", none, "LoadCredential=kek:/PATH into the unit, and CREDENTIALS_DIRECTORY"},
		{"credential:kek", relative, "CREDENTIALS_DIRECTORY names no folder"},
		{"credential:gone", handed, "secret credential:gone: systemd has not handed it over: write LoadCredential=gone:"},
		{"credential:open", handed, "has mode 0644"},
		{"credential:empty", handed, "secret credential:empty: it is empty"},
		{"credential:../outside", handed, "which has no / and no colon"},
		{"credential:..", handed, "which has no / and no colon"},
		{"credential:a:b", handed, "which has no / and no colon"},
		{"credential:", handed, "want a reference"},
		{"file:gone", none, "secret file:gone: no such file"},
		{"file:open", none, "has mode 0644"},
		{"env:GONE", handed, "secret env:GONE: the variable is not set"},
		{"env:NONE", handed, "secret env:NONE: it is empty"},
		{"hunter2", handed, "want a reference, file:PATH, env:NAME or credential:NAME, not the secret"},
		{"vault:hunter2", handed, "want a reference"},
	} {
		lookup := func(name string) (string, bool) { v, ok := tc.env[name]; return v, ok }
		got, err := files.ReadReference(tc.ref, dir, lookup)
		switch {
		case tc.want == "" && (err != nil || string(got) != "hunter2"):
			t.Errorf("%s: %q, %v", tc.ref, got, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.ref, err, tc.want)
		case err != nil && (got != nil || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: the secret is in %q, %v", tc.ref, got, err)
		}
	}
}
