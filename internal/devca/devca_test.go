package devca

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/config"
)

func options(dir string) *Options {
	return &Options{
		Dir: dir, HTTPS: "127.0.0.1:1", EST: "127.0.0.1:2", HTTP: "127.0.0.1:3", Ops: "127.0.0.1:4",
		HTTP01: 5002, ALPN: 5001, Tiers: 2, Given: func(string) bool { return false },
	}
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDevWritesWhatIsTested: the tests of the configuration change a copy of the
// file that dev writes.
func TestDevWritesWhatIsTested(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := options(dir).SetUp(t.Context(), time.Now, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := read(t, "..", "config", "testdata", "dev.yaml")
	if diff := cmp.Diff(want, read(t, dir, ConfigFile)); diff != "" {
		t.Error(diff)
	}
}

// TestInterruptedSetUp removes what a crash would not have written yet, and
// starts again.
func TestInterruptedSetUp(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string][]string{
		"before the ceremony": {"privyseal.yaml", "chain.pem", "root.pem", "root.crl", "offline", "keys/audit.key", "secrets/audit"},
		"during the ceremony": {"privyseal.yaml", "chain.pem", "offline/certs/ca.pem"},
		"after the ceremony":  {"privyseal.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t.TempDir())
			if _, err := o.SetUp(t.Context(), time.Now, io.Discard); err != nil {
				t.Fatal(err)
			}
			root := read(t, o.Dir, "root.pem")
			for _, f := range lost {
				if err := os.RemoveAll(filepath.Join(o.Dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			file, err := o.SetUp(t.Context(), time.Now, &out)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file); err != nil {
				t.Error(err)
			}
			kept := root == read(t, o.Dir, "root.pem")
			if kept != (name == "after the ceremony") || kept == strings.Contains(out.String(), "passphrase") {
				t.Errorf("root kept: %v, said %q", kept, out.String())
			}
		})
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:1": "localhost:1", "[::1]:1": "localhost:1", "localhost:1": "localhost:1", ":1": "localhost:1", "0.0.0.0:1": "localhost:1", "10.0.0.1:1": "10.0.0.1:1",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}
