package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// certbot runs certbot with folders of its own.
type certbot struct {
	l   *site
	dir string
}

func (c certbot) args(verb string, more ...string) []string {
	args := []string{verb, "--non-interactive", "--server", c.l.Directory("default"),
		"--config-dir", c.dir + "/c", "--work-dir", c.dir + "/w", "--logs-dir", c.dir + "/l"}
	return append(args, more...)
}

func (c certbot) env() []string { return []string{"REQUESTS_CA_BUNDLE=" + c.l.root()} }

func (c certbot) run(t *testing.T, verb string, more ...string) string {
	t.Helper()
	return execute(t, c.dir, c.env(), "certbot", c.args(verb, more...)...)
}

func TestCertbot(t *testing.T) {
	need.Programs(t, "certbot", "openssl")
	each(t, func(t *testing.T, l *site) {
		c := certbot{l, t.TempDir()}
		standalone := []string{"--http-01-port", lab.Port(l.Addr.HTTP01), "--http-01-address", "127.0.0.1"}
		c.run(t, "certonly", append(standalone, "--agree-tos", "--register-unsafely-without-email", "--standalone",
			"--preferred-challenges", "http", "-d", "a.lab.test", "-d", "b.lab.test", "-d", "c.d.lab.test")...)
		live := filepath.Join(c.dir, "c", "live", "a.lab.test", "fullchain.pem")
		first := l.checkChain(t, read(t, live), "a.lab.test", "b.lab.test", "c.d.lab.test")

		c.run(t, "renew", "--force-renewal", "--no-random-sleep-on-renew", "--http-01-port", lab.Port(l.Addr.HTTP01))
		second := l.checkChain(t, read(t, live), "a.lab.test", "b.lab.test", "c.d.lab.test")
		if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
			t.Error("the renewed certificate has the old serial")
		}

		c.run(t, "revoke", "--cert-name", "a.lab.test", "--reason", "keycompromise", "--no-delete-after-revoke")
		out, err := attempt(t, c.dir, c.env(), "certbot", c.args("revoke", "--cert-name", "a.lab.test", "--no-delete-after-revoke")...)
		// certbot 2.1 stumbles over the error; its log has what the server said.
		log := read(t, filepath.Join(c.dir, "l", "letsencrypt.log"))
		if err == nil || !strings.Contains(string(log), "urn:ietf:params:acme:error:alreadyRevoked") {
			t.Errorf("the second revocation: %v\n%s", err, out)
		}
	})
}

// TestCertbotEAB registers at the endpoint that requires an external account.
func TestCertbotEAB(t *testing.T) {
	need.Programs(t, "certbot")
	each(t, func(t *testing.T, l *site) {
		c := certbot{l, t.TempDir()}
		register := func(more ...string) (string, error) {
			args := append(c.args("register", "--agree-tos", "-m", "a@lab.test", "--no-eff-email"), more...)
			args[3] = l.Directory("eab")
			return attempt(t, c.dir, c.env(), "certbot", args...)
		}
		if out, err := register(); err == nil {
			t.Errorf("an account without EAB was made:\n%s", out)
		}
		kid, hmac := l.createEAB(t)
		if out, err := register("--eab-kid", kid, "--eab-hmac-key", "d3Jvbmc"); err == nil {
			t.Errorf("an account with a wrong EAB key was made:\n%s", out)
		}
		if out, err := register("--eab-kid", kid, "--eab-hmac-key", hmac); err != nil {
			t.Errorf("register with EAB: %v\n%s", err, out)
		}
	})
}
