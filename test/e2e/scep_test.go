package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/need"
)

// scepclient runs micromdm's client in a folder; it keeps files there.
func (l *site) scepclient(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	full := append([]string{
		"-server-url", "http://" + l.Addr.HTTP + "/scep/default", "-private-key", "k", "-certificate", "c",
		"-cn", "dev1", "-organization", "LAB", "-country", "US", "-keySize", "2048", "-debug",
	}, args...)
	return attempt(t, dir, nil, "scepclient", full...)
}

// TestSCEPClient enrols with micromdm's scepclient at an EC CA and renews twice.
func TestSCEPClient(t *testing.T) {
	need.Programs(t, "scepclient", "openssl")
	each(t, func(t *testing.T, l *site) {
		secret := strings.TrimSpace(string(read(t, filepath.Join(l.Dir, "scep-challenge"))))
		dir := t.TempDir()
		serials := map[string]bool{}
		check := func(dir string) {
			t.Helper()
			execute(t, dir, nil, "openssl", "verify", "-CAfile", l.root(), "-untrusted", filepath.Join(l.Dir, "chain.pem"), "c")
			serial := execute(t, dir, nil, "openssl", "x509", "-in", "c", "-noout", "-serial")
			if serials[serial] {
				t.Errorf("%s twice", serial)
			}
			serials[serial] = true
		}
		for i, args := range [][]string{{"-challenge", secret}, nil, nil} {
			if out, err := l.scepclient(t, dir, append(args, "-key-encipherment-selector")...); err != nil {
				t.Fatalf("%d: %v\n%s", i, err, out)
			}
			check(dir)
		}
		if out, err := l.scepclient(t, t.TempDir(), "-challenge", "a wrong one", "-key-encipherment-selector"); err == nil || !strings.Contains(out, "badRequest") {
			t.Errorf("a wrong challenge: %v\n%s", err, out)
		}
		// Without a selector the client encrypts to all that it is given.
		config := strings.Replace(string(read(t, l.config())), "path: default", "path: default\n      ca_bundle: ra-only", 1)
		if err := os.WriteFile(l.config(), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		l.operate(t, "config", "reload")
		plain := t.TempDir()
		if out, err := l.scepclient(t, plain, "-challenge", secret); err != nil {
			t.Fatalf("ra-only: %v\n%s", err, out)
		}
		check(plain)
	})
}
