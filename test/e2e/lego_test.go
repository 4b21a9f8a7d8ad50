package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/need"
)

func TestLego(t *testing.T) {
	need.Programs(t, "lego", "openssl", "curl")
	each(t, func(t *testing.T, l *site) {
		dir := t.TempDir()
		env := []string{"LEGO_CA_CERTIFICATES=" + l.root(), "EXEC_PATH=" + l.dns.Hook(t), "EXEC_SEQUENCE_INTERVAL=1"}
		lego := func(more ...string) []string {
			return append([]string{"--server", l.Directory("default"), "--accept-tos", "--email", "a@lab.test", "--path", dir}, more...)
		}
		chain := func(name string) []byte { return read(t, filepath.Join(dir, "certificates", name+".crt")) }

		http := []string{"--http", "--http.port", l.Addr.HTTP01, "-d", "h.lab.test", "-d", "i.lab.test"}
		execute(t, dir, env, "lego", append(lego(http...), "run")...)
		first := l.checkChain(t, chain("h.lab.test"), "h.lab.test", "i.lab.test")
		execute(t, dir, env, "lego", append(lego(http...), "renew", "--days", "1000", "--no-random-sleep")...)
		if second := l.checkChain(t, chain("h.lab.test"), "h.lab.test", "i.lab.test"); first.SerialNumber.Cmp(second.SerialNumber) == 0 {
			t.Error("the renewed certificate has the old serial")
		}

		execute(t, dir, env, "lego", append(lego("--tls", "--tls.port", l.Addr.ALPN, "-k", "rsa2048", "-d", "t.lab.test"), "run")...)
		l.checkChain(t, chain("t.lab.test"), "t.lab.test")

		execute(t, dir, env, "lego", append(lego("--dns", "exec", "--dns.disable-cp", "--dns.resolvers", l.dns.Addr(), "-k", "ec384",
			"-d", "*.w.lab.test", "-d", "w.lab.test"), "run")...)
		l.checkChain(t, chain("_.w.lab.test"), "*.w.lab.test", "w.lab.test")

		execute(t, dir, env, "lego", append(lego("-d", "t.lab.test"), "revoke", "--reason", "4")...)
	})
}

// TestLegoRefused: a name whose challenge fails gives no certificate, and the
// client shows the reason.
func TestLegoRefused(t *testing.T) {
	need.Programs(t, "lego")
	l := newSite(t, "")
	dir := t.TempDir()
	l.dns.Add(t, "far.lab.test. IN A 169.254.169.254")
	out, err := attempt(t, dir, []string{"LEGO_CA_CERTIFICATES=" + l.root()}, "lego", "--server", l.Directory("default"), "--accept-tos",
		"--email", "a@lab.test", "--path", dir, "--http", "--http.port", l.Addr.HTTP01, "-d", "far.lab.test", "run")
	if err == nil || !strings.Contains(out, "urn:ietf:params:acme:error:connection") || !strings.Contains(out, "link-local") {
		t.Errorf("lego: %v\n%s", err, out)
	}
}
