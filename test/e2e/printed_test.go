package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// printedCommand finds a client's command line, with or without variables set
// in front of it.
var printedCommand = regexp.MustCompile(`^\s*\$?\s*((?:[A-Z_]+=\S+\s+)*(certbot|lego|curl)\s.*)$`)

// printedLines returns the commands that `privyseal dev` printed, by client.
// Lines that end with a backslash go on.
func printedLines(out string) map[string][]string {
	out = strings.ReplaceAll(out, "\\\n", " ")
	lines := map[string][]string{}
	for line := range strings.Lines(out) {
		if m := printedCommand.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			lines[m[2]] = append(lines[m[2]], m[1])
		}
	}
	return lines
}

// TestPrintedLinesWork copies what `privyseal dev` prints into a shell.
func TestPrintedLinesWork(t *testing.T) {
	l := newSite(t, "")
	var lines map[string][]string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && len(lines) < 3; time.Sleep(20 * time.Millisecond) {
		lines = printedLines(l.Out.String())
	}
	for _, client := range []string{"curl", "certbot", "lego"} {
		t.Run(client, func(t *testing.T) {
			if len(lines[client]) == 0 {
				t.Fatalf("no %s line in:\n%s", client, l.Out.String())
			}
			need(t, client)
			for _, line := range lines[client] {
				cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
				cmd.Dir = t.TempDir() // not where the server was started
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s\n%v\n%s", line, err, out)
				}
			}
		})
	}
	if !strings.Contains(l.Out.String(), l.root()) {
		t.Errorf("the printed lines do not show the absolute path %s", l.root())
	}
	if matches, err := filepath.Glob(filepath.Join(l.Dir, "clients", "*")); err != nil || len(matches) == 0 {
		t.Errorf("the clients left nothing in %s", filepath.Join(l.Dir, "clients"))
	}
}

func TestPrintedLinesParser(t *testing.T) {
	got := printedLines("Privyseal is up.\n\n  A=b certbot certonly \\\n    --server x\n  $ curl -s y\nlego is a client\nuse certbot\n  lego --http run\n")
	if len(got["certbot"]) != 1 || got["certbot"][0] != "A=b certbot certonly      --server x" {
		t.Errorf("certbot lines %q", got["certbot"])
	}
	if len(got["curl"]) != 1 || got["curl"][0] != "curl -s y" {
		t.Errorf("curl lines %q", got["curl"])
	}
}
