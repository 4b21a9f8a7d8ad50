package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused runs the program, which must end by itself with status 1, and returns
// what it said on standard error.
func refused(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	var log strings.Builder
	cmd.Stderr = &log
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%s: %v, want exit status 1\n%s", strings.Join(args, " "), err, log.String())
	}
	return log.String()
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("the message lacks %q:\n%s", p, text)
		}
	}
}

// TestServeRefuses starts `privyseal serve` with files that are wrong in one
// place each.
func TestServeRefuses(t *testing.T) {
	l := newSite(t, "")
	stop(t, l.Process)
	good := string(read(t, l.config()))
	change := func(t *testing.T, from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("privyseal.yaml has no %q:\n%s", from, good)
		}
		path := filepath.Join(l.Dir, "changed.yaml")
		if err := os.WriteFile(path, []byte(strings.Replace(good, from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("unknown key", func(t *testing.T) {
		out := refused(t, l.Dir, "serve", "--config", change(t, "listeners:", "listenerz:"))
		wantText(t, out, "listenerz", "listeners")
	})
	t.Run("missing secret", func(t *testing.T) {
		at := strings.Index(good, "key_encryption: ")
		if at < 0 {
			t.Fatalf("no key_encryption in:\n%s", good)
		}
		line, _, _ := strings.Cut(good[at:], "\n")
		out := refused(t, l.Dir, "serve", "--config", change(t, line, "key_encryption: file:no/such/secret"))
		wantText(t, out, "file:no/such/secret", "key_encryption")
	})
	t.Run("a secret instead of a reference", func(t *testing.T) {
		at := strings.Index(good, "key_encryption: ")
		line, _, _ := strings.Cut(good[at:], "\n")
		out := refused(t, l.Dir, "serve", "--config", change(t, line, "key_encryption: c2VjcmV0LXRoaW5n"))
		if strings.Contains(out, "c2VjcmV0LXRoaW5n") {
			t.Errorf("the secret is shown:\n%s", out)
		}
	})
	t.Run("wrong database", func(t *testing.T) {
		at := strings.Index(good, "url: sqlite:")
		if at < 0 {
			t.Fatalf("no url: sqlite: in:\n%s", good)
		}
		line, _, _ := strings.Cut(good[at:], "\n")
		out := refused(t, l.Dir, "serve", "--config", change(t, line, "url: postgres://nobody@127.0.0.1:1/none"))
		wantText(t, out, "127.0.0.1:1")
	})
	t.Run("address in use", func(t *testing.T) {
		busy, err := net.Listen("tcp", l.Addr.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = busy.Close() }()
		out := refused(t, l.Dir, "serve", "--config", l.config())
		wantText(t, out, "https", l.Addr.HTTPS)
	})
	t.Run("no file", func(t *testing.T) {
		wantText(t, refused(t, l.Dir, "serve", "--config", "absent.yaml"), "absent.yaml")
	})
	// And the good file, made by dev, starts the same server.
	p := launch(t, "/", "serve", "--config", l.config())
	ready(t, p, l.Addr)
	stop(t, p)
	l.start(t)
}

// TestDevRefusesTheWorld: dev serves loopback only, and a refusal leaves
// nothing behind.
func TestDevRefusesTheWorld(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	out := refused(t, "/", "dev", "--dir", dir, "--https-addr", "0.0.0.0:0")
	wantText(t, out, "--unsafe-listen", "0.0.0.0")
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}
