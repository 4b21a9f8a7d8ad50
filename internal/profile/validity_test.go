package profile

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

func TestG1_20_Validity(t *testing.T) {
	t.Parallel()
	sec := now.Truncate(time.Second)
	for _, tc := range []struct {
		name, profile string
		before, after time.Duration // from now; 0 is unsaid
		wantBefore    time.Duration
		wantAfter     time.Duration
		reason        string
	}{
		{"default", "tls-server", 0, 0, -time.Hour, 90*Day - time.Hour - time.Second, ""},
		{"short", "tls-server-short", 0, 0, -time.Hour, 7*Day - time.Hour - time.Second, ""},
		{"730 days", "tls-server", 0, 730 * Day, 0, 730 * Day, ""},
		{"729 days", "tls-server", 0, 729 * Day, -time.Hour, 729 * Day, ""},
		{"731 days", "tls-server", 0, 731 * Day, 0, 0, "validity"},
		{"later", "tls-server", time.Hour, 0, time.Hour, 90*Day + time.Hour - time.Second, ""},
		{"too late", "tls-server", 25 * time.Hour, 0, 0, 0, "validity"},
		{"too early", "tls-server", -2 * time.Hour, 0, 0, 0, "validity"},
		{"backwards", "tls-server", 2 * time.Hour, time.Hour, 0, 0, "validity"},
		{"over", "tls-server", 0, -time.Minute, 0, 0, "validity"},
		{"far", "tls-server", 0, 290 * Year, 0, 0, "validity"},
		{"8 days short", "tls-server-short", 0, 8 * Day, 0, 0, "validity"},
	} {
		r := Request{PublicKey: ecKey().Public(), Names: ids("dns:a.example.com")}
		if tc.before != 0 {
			r.NotBefore = sec.Add(tc.before)
		}
		if tc.after != 0 {
			r.NotAfter = sec.Add(tc.after)
		}
		tpl, err := compiled(t, tc.profile).Apply(r, now)
		if reason(err) != tc.reason {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.reason)
			continue
		}
		if err != nil {
			continue
		}
		if b, a := tpl.NotBefore.Sub(sec), tpl.NotAfter.Sub(sec); b != tc.wantBefore || a != tc.wantAfter {
			t.Errorf("%s: from %s to %s, want %s to %s", tc.name, b, a, tc.wantBefore, tc.wantAfter)
		}
		if tpl.ClampNotAfter != (tc.after == 0) {
			t.Errorf("%s: clamp %v", tc.name, tpl.ClampNotAfter)
		}
	}
	if _, err := compiled(t, "tls-server").Apply(Request{PublicKey: ecKey().Public(), Names: ids("dns:a.example.com"),
		NotAfter: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, now); reason(err) != "validity" {
		t.Errorf("year 10000: %v", err)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	p := compiled(t, "tls-server")
	r := Request{CSR: csr(t, ecKey(), "", "dns:a.example.com")}
	digest := func(r Request, at time.Time) [32]byte {
		tpl, err := p.Apply(r, at)
		if err != nil {
			t.Fatal(err)
		}
		return tpl.Digest()
	}
	first := digest(r, now)
	if first != digest(r, now.Add(time.Hour)) {
		t.Error("the digest changes while time passes")
	}
	other := Request{CSR: csr(t, ecKey(), "", "dns:b.example.com")}
	ended := r
	ended.NotAfter = now.Add(Day)
	if first == digest(other, now) || first == digest(ended, now) || first == digest(Request{CSR: csr(t, rsaKey(), "", "dns:a.example.com")}, now) {
		t.Error("the digest misses a difference")
	}
}

func TestX3_Fit(t *testing.T) {
	t.Parallel()
	apply := func(r Request, change func(*Config)) *Template {
		r.PublicKey, r.Names = ecKey().Public(), ids("dns:a.example.com")
		tpl, err := compiled(t, "tls-server", change).Apply(r, now)
		if err != nil {
			t.Fatal(err)
		}
		return tpl
	}
	same := func(*Config) {}
	sec := now.Truncate(time.Second)
	begin, end := sec.Add(-time.Minute), sec.Add(30*Day)
	usual := apply(Request{}, same)
	f := usual.Fit(begin, end)
	if !f.NotBefore.Equal(begin) || !f.NotAfter.Equal(end) || f.Digest() != usual.Digest() {
		t.Errorf("from %s to %s", f.NotBefore, f.NotAfter)
	}
	if f = usual.Fit(sec.Add(-Day), sec.Add(Year)); !f.NotBefore.Equal(usual.NotBefore) || !f.NotAfter.Equal(usual.NotAfter) {
		t.Error("moved without need")
	}
	asked := apply(Request{NotBefore: sec.Add(-30 * time.Minute), NotAfter: sec.Add(60 * Day)}, same)
	if f = asked.Fit(begin, end); !f.NotBefore.Equal(asked.NotBefore) || !f.NotAfter.Equal(asked.NotAfter) {
		t.Error("what the request asked for was moved")
	}
	strict := apply(Request{}, func(c *Config) { c.Validity.BeyondIssuer = "refuse" })
	if f = strict.Fit(begin, end); !f.NotAfter.Equal(strict.NotAfter) {
		t.Error("cut although the profile refuses")
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	name, _ := pki.ParseName("CN=Example Issuing CA,O=Example,C=CH")
	p := compiled(t, "issuing-ca", func(c *Config) {
		c.NameConstraints = &NameConstraints{Permitted: Subtrees{DNS: []string{"example.com"}, IP: []string{"10.0.0.0/8"}}}
	})
	tpl, err := p.Apply(Request{PublicKey: ecKey().Public(), Subject: &name}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !tpl.CA || tpl.MaxPathLen != 0 || tpl.KeyUsage&caUsage != caUsage || len(tpl.Extra) != 1 || !tpl.Extra[0].Critical || tpl.ClampNotAfter {
		t.Errorf("%+v", tpl)
	}
	if _, err := pki.ParseNameConstraints(tpl.Extra[0].Value); err != nil {
		t.Error(err)
	}
	root := compiled(t, "root-ca") // G1-50
	if _, err := root.Apply(Request{PublicKey: ecKey().Public(), Subject: &name}, now); reason(err) != "key_type" {
		t.Errorf("a P-256 root: %v", err)
	}
	if _, err := p.Apply(Request{PublicKey: rsaKey().Public(), Subject: &name}, now); reason(err) != "key_size" {
		t.Errorf("an RSA-2048 CA: %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	p := compiled(b, "tls-server")
	r := Request{CSR: csr(b, ecKey(), "CN=a.example.com", "dns:a.example.com dns:b.example.com")}
	for b.Loop() {
		if _, err := p.Apply(r, now); err != nil {
			b.Fatal(err)
		}
	}
}
