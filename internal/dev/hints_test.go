package dev

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
