package server

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/config"
)

// TestDevWritesWhatIsTested: the tests of the configuration change a copy of the
// file that dev writes.
func TestDevWritesWhatIsTested(t *testing.T) {
	t.Parallel()
	dir, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, devConfig))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("..", "config", "testdata", "dev.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
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
			l := newLab(t)
			root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range lost {
				if err := os.RemoveAll(filepath.Join(l.dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			o := &devOptions{
				dir: l.dir, https: l.addr.https, est: l.addr.est, http: l.addr.http, ops: l.addr.ops, http01: 5002, alpn: 5001, tiers: 2,
				given: func(string) bool { return true },
			}
			var out bytes.Buffer
			file, err := o.setUp(t.Context(), testEnv(io.Discard), &out)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file); err != nil {
				t.Error(err)
			}
			now, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
			if err != nil {
				t.Fatal(err)
			}
			kept := bytes.Equal(root, now)
			if kept != (name == "after the ceremony") || kept == strings.Contains(out.String(), "passphrase") {
				t.Errorf("root kept: %v, said %q", kept, out.String())
			}
		})
	}
}

func TestLegoLine(t *testing.T) {
	t.Parallel()
	for v5, want := range map[bool]string{
		false: "lego --server https://x/directory --accept-tos --email you@example.com --path '/a b/lego' --http --http.port 127.0.0.1:5002 -d lego.localhost run",
		true:  "lego run --server https://x/directory --accept-tos --email you@example.com --path '/a b/lego' --http --http.address 127.0.0.1:5002 -d lego.localhost",
	} {
		if got := legoFor(v5, "https://x/directory", "5002", "/a b/lego"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestLegoOnPathDecides puts programs that answer --help like lego on PATH.
func TestLegoOnPathDecides(t *testing.T) {
	for help, want := range map[string]string{"GLOBAL OPTIONS: --server value": "lego --server", "COMMANDS: run": "lego run --server"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "lego"), []byte("#!/bin/sh\necho '"+help+"'\n"), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":/bin:/usr/bin")
		if got := legoLine(context.Background(), "u", "1", "p"); !strings.HasPrefix(got, want) {
			t.Errorf("help %q gave %s", help, got)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if got := legoLine(context.Background(), "u", "1", "p"); !strings.HasPrefix(got, "lego --server") {
		t.Errorf("without lego: %s", got)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"/plain/path-1_2.pem", "/with space", "/it's", "/$HOME/`x`", `/back\slash`} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%s became %s (%v)", s, out, err)
		}
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
