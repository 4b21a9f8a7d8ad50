package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// printedCommand finds a client's command line, with or without variables set
// in front of it.
var printedCommand = regexp.MustCompile(`^\s*\$?\s*((?:[A-Z_]+=\S+\s+)*(?:\S*/)?(certbot|lego|curl|privyseal)\s.*)$`)

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

// nobody is the user id under which the printed lines are tried by root.
const nobody = "65534"

// unprivileged returns a folder and a form of the program for a user who is not
// root: the user of the test, or, if that is root, nobody.
func unprivileged(t *testing.T) (dir, program string, prefix []string) {
	t.Helper()
	if os.Getuid() != 0 {
		return t.TempDir(), binary, nil
	}
	dir, err := os.MkdirTemp("", "privyseal-e2e-") // TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	need.Programs(t, "setpriv")
	prefix = []string{"setpriv", "--reuid=" + nobody, "--regid=" + nobody, "--clear-groups", "--"}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "privyseal-as-nobody")
	script := "#!/bin/sh\nexec " + strings.Join(prefix, " ") + " '" + binary + "' \"$@\"\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, program, prefix
}

// TestPrintedLinesWork copies what `privyseal dev` prints into a shell, without
// root.
func TestPrintedLinesWork(t *testing.T) {
	dir, program, prefix := unprivileged(t)
	l := newSiteOf(t, lab.Server{Binary: program, Dir: filepath.Join(dir, "privyseal-dev")})
	var lines map[string][]string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && len(lines) < 4; time.Sleep(20 * time.Millisecond) {
		lines = printedLines(l.Out.String())
	}
	for _, client := range []string{"curl", "certbot", "lego", "privyseal"} {
		t.Run(client, func(t *testing.T) {
			if len(lines[client]) == 0 {
				t.Fatalf("no %s line in:\n%s", client, l.Out.String())
			}
			if client != "privyseal" {
				need.Programs(t, client)
			}
			for _, line := range lines[client] {
				shell := append(slices.Clone(prefix), "sh", "-c", line)
				// Not from where the server was started.
				if out, err := attempt(t, "/", []string{"HOME=" + dir}, shell[0], shell[1:]...); err != nil {
					t.Errorf("%s\n%v\n%s", line, err, out)
				}
			}
		})
	}
	if !strings.Contains(l.Out.String(), l.root()) {
		t.Errorf("the printed lines do not show the absolute path %s", l.root())
	}
	for _, chain := range []string{"certbot/config/live/certbot.localhost/fullchain.pem", "lego/certificates/lego.localhost.crt"} {
		name := strings.TrimSuffix(filepath.Base(strings.TrimSuffix(chain, "/fullchain.pem")), ".crt")
		l.checkChain(t, read(t, filepath.Join(l.Dir, "clients", chain)), name)
	}
}

func TestPrintedLinesParser(t *testing.T) {
	got := printedLines("Privyseal is up.\n\n  /x/privyseal eab create\n  A=b certbot certonly \\\n    --server x\n  $ curl -s y\nlego is a client\nuse certbot\n  lego --http run\n")
	if len(got["certbot"]) != 1 || got["certbot"][0] != "A=b certbot certonly      --server x" {
		t.Errorf("certbot lines %q", got["certbot"])
	}
	if len(got["privyseal"]) != 1 || got["privyseal"][0] != "/x/privyseal eab create" {
		t.Errorf("privyseal lines %q", got["privyseal"])
	}
	if len(got["curl"]) != 1 || got["curl"][0] != "curl -s y" {
		t.Errorf("curl lines %q", got["curl"])
	}
}
