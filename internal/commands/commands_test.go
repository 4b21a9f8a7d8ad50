package commands

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/devca"
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
