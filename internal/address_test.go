package internal

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFR20_OneAddress: who a client is, behind a proxy or not, is found out in web and
// nowhere else.
func TestFR20_OneAddress(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range []string{".RemoteAddr", "X-Forwarded", "x-forwarded", "X-Real-IP"} {
			if filepath.Dir(path) != "web" && bytes.Contains(text, []byte(name)) && filepath.Dir(path) != "config" {
				t.Errorf("%s reads %s: web.Client tells who a client is", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
