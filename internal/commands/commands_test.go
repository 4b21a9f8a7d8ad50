package commands

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFS17_CheckSaysWhoseCertificatesRenew: an endpoint that says nothing is warned
// of with the line that it lacks.
func TestFS17_CheckSaysWhoseCertificatesRenew(t *testing.T) {
	t.Parallel()
	o := &devca.Options{
		Dir: t.TempDir(), HTTPS: "127.0.0.1:1", EST: "127.0.0.1:2", HTTP: "127.0.0.1:3", Ops: "127.0.0.1:4",
		HTTP01: 5002, ALPN: 5001, Tiers: 2, Given: func(string) bool { return false },
	}
	file, err := o.SetUp(t.Context(), time.Now, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const list = "      accept_protocols:\n        - est\n        - scep\n        - acme\n        - operator\n"
	for _, c := range []struct {
		text     string
		warnings int
	}{{string(text), 0}, {strings.ReplaceAll(string(text), list, ""), 2}} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		check := checkCommand(time.Now)
		check.SetOut(&out)
		check.SetArgs([]string{"--config", file})
		err := check.ExecuteContext(t.Context())
		said := out.String()
		if err != nil || !strings.Contains(said, " is good (") {
			t.Errorf("%v\n%s", err, said)
		}
		lines := strings.Count(said, "accept_protocols: [est, scep, acme, operator]")
		if strings.Count(said, "warning: ") != c.warnings || lines != c.warnings {
			t.Errorf("want %d warnings:\n%s", c.warnings, said)
		}
	}
}

// TestFT12_VerifyFindsTheArchive: verify and audit verify read the segments of
// audit.archive without being told.
func TestFT12_VerifyFindsTheArchive(t *testing.T) {
	t.Parallel()
	o := &devca.Options{
		Dir: t.TempDir(), HTTPS: "127.0.0.1:1", EST: "127.0.0.1:2", HTTP: "127.0.0.1:3", Ops: "127.0.0.1:4",
		HTTP01: 5002, ALPN: 5001, Tiers: 2, Given: func(string) bool { return false },
	}
	file, err := o.SetUp(t.Context(), time.Now, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("\naudit:\n"), []byte("\naudit:\n  retention: 24h\n  archive: segments\n"), 1)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file)
	if err != nil || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0].String(), "audit.archive: there is no folder") {
		t.Fatalf("a folder that there is not: %v, %v", cfg.Warnings, err)
	}
	archiveEvents(t, cfg)
	for name, cmd := range map[string]*cobra.Command{
		"verify": verifyCommand(time.Now), "audit verify": auditVerifyCommand(time.Now),
	} {
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetArgs([]string{"--config", file})
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if said := out.String(); !strings.Contains(said, "3 ") || strings.Contains(said, "older events") {
			t.Errorf("%s: %s", name, said)
		}
	}
	if err := os.Rename(cfg.Audit.Archive, cfg.Audit.Archive+"-moved"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := auditVerifyCommand(time.Now)
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--config", file})
	if err := cmd.ExecuteContext(t.Context()); err != nil ||
		!strings.Contains(out.String(), "2 older events neither in the database nor in a segment") {
		t.Errorf("the folder is gone: %v, %s", err, out.String())
	}
}

// archiveEvents writes three audit events and moves the first two to a segment.
func archiveEvents(t *testing.T, cfg *config.File) {
	t.Helper()
	if err := os.Mkdir(cfg.Audit.Archive, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := cfg.OpenStore(t.Context(), "chain", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Open(t.Context(), cfg.Audit.Key, cfg.Audit.Passphrase.Secret(cfg.Dir), keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := audit.NewKeeper(s, key, s.Node(), audit.FolderIn(cfg.State.Dir), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cut := time.Now().Add(time.Minute)
	err = errors.Join(s.Migrate(t.Context()), keeper.Open(t.Context(), ""),
		s.AppendAudit(t.Context(), store.Event{At: time.Now(), Action: "test.act"}), keeper.Checkpoint(t.Context()),
		s.AppendAudit(t.Context(), store.Event{At: cut, Action: "test.act"}))
	if err != nil {
		t.Fatal(err)
	}
	if files, err := keeper.Archive(t.Context(), cfg.Audit.Archive, cut); err != nil || len(files) != 1 {
		t.Fatalf("Archive = %v, %v", files, err)
	}
	if err := errors.Join(key.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
}
