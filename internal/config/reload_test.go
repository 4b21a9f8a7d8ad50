package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNeedsRestart changes one thing at a time.
func TestNeedsRestart(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"": func(c *Config) {
			c.ACME.Website = "https://x"
			c.Endpoints = nil
			c.PKCS11.Module = "/x"
			c.Listeners.EST.TLS.Issuer = "x"
		},
		"state":                func(c *Config) { c.State.Passphrase = "env:X" },
		"database":             func(c *Config) { c.Database.Migrate = !c.Database.Migrate },
		"key_encryption":       func(c *Config) { c.KeyEncryption = "env:X" },
		"challenge":            func(c *Config) { c.Challenge.AllowCIDRs = nil },
		"limits":               func(c *Config) { c.Limits.PendingOrders++ },
		"audit":                func(c *Config) { c.Audit.Retention++ },
		"log":                  func(c *Config) { c.Log.Level = "debug" },
		"listeners.https.addr": func(c *Config) { c.Listeners.HTTPS.Addr = "x" },
		"listeners.est.addr":   func(c *Config) { c.Listeners.EST.Addr = "x" },
		"listeners.http":       func(c *Config) { c.Listeners.HTTP.Addr = "x" },
		"listeners.ops":        func(c *Config) { c.Listeners.Ops.Pprof = true },
		"listeners.socket":     func(c *Config) { c.Listeners.Socket = "x" },
	} {
		l := newLab(t)
		old, err := Load(l.file())
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := old.Reload()
		if err != nil {
			t.Fatal(err)
		}
		change(&fresh.Config)
		var expected []string
		if want != "" {
			expected = []string{want}
		}
		if diff := cmp.Diff(expected, NeedsRestart(&old.Config, &fresh.Config)); diff != "" {
			t.Errorf("%s: %s", want, diff)
		}
	}
}
