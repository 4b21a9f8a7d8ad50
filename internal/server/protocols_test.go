package server

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
)

// TestFS17_ConfigurationSaysWhoseCertificatesRenew: what is unknown is refused, and
// an endpoint that says nothing is warned of with the line that it lacks, at start
// and at each reload. The check says so too: see internal/commands.
func TestFS17_ConfigurationSaysWhoseCertificatesRenew(t *testing.T) {
	t.Parallel()
	const list = "      accept_protocols:\n        - est\n        - scep\n        - acme\n        - operator\n"
	l := newLab(t)
	if cfg, err := config.Load(l.file()); err != nil || len(cfg.Warnings) != 0 {
		t.Fatalf("dev's own: %v, %v", cfg.Warnings, err)
	}
	text := l.read(t)
	for _, key := range []string{"endpoints[2].est", "endpoints[3].scep"} {
		l.write(t, text)
		l.change(t, list, strings.Replace(list, "- acme", "- cmp", 1))
		_, err := config.Load(l.file())
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "want one of est, scep, acme, operator") {
			t.Errorf("cmp at %s: %v", key, err)
		}
		text = strings.Replace(text, list, "", 1)
	}
	l.write(t, text)
	const line = "accept_protocols: [est, scep, acme, operator]"
	r := l.serve(t)
	wants := func(n int) {
		t.Helper()
		if got := strings.Count(r.log.String(), line); got != n {
			t.Errorf("%d warnings in the log, want %d", got, n)
		}
	}
	wants(2)
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	wants(4)
}
