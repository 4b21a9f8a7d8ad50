package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/privyseal/privyseal/internal/clitest"
)

var update = flag.Bool("update", false, "write docs/cli-ceremony.md anew")

const cliPage = "../../docs/cli-ceremony.md"

// docs/cli-ceremony.md is what the commands say of themselves.
func TestCLIPage(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	page.WriteString("# The offline tool's commands\n\n" +
		"Written from the commands' own help by `go test ./cmd/privyseal-ceremony -run CLIPage -update`.\n" +
		"What they are for is told in [ceremony.md](ceremony.md). Exit codes: 0 done, 1 refused or failed,\n" +
		"2 the command line is wrong.\n")
	clitest.Describe(&page, commands())
	if *update {
		if err := os.WriteFile(cliPage, page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page.Bytes()) {
		t.Error("docs/cli-ceremony.md is not what the commands say: run go test ./cmd/privyseal-ceremony -run CLIPage -update")
	}
}

// Every command of the pages exists, with its flags.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		fenced := false
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if !fenced || !strings.HasPrefix(line, "privyseal-ceremony ") {
				continue
			}
			seen++
			line, _, _ = strings.Cut(line, "#")
			line, _, _ = strings.Cut(line, ">")
			line, _, _ = strings.Cut(line, " 3<")
			if err := documented(strings.Fields(line)[1:]); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), line, err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("the pages have %d commands; has their form changed?", seen)
	}
}

// documented finds the command of a line and parses its flags, without running it.
func documented(words []string) error {
	cmd, rest, err := commands().Find(words)
	if err != nil {
		return err
	}
	cmd.RunE, cmd.Args = func(*cobra.Command, []string) error { return nil }, cobra.ArbitraryArgs
	return cmd.ParseFlags(rest)
}
