package profile

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// TestNobodyIsNotCertified: a certificate names somebody, and a CA by its subject.
func TestNobodyIsNotCertified(t *testing.T) {
	t.Parallel()
	device := compiled(t, "device")
	for what, r := range map[string]Request{
		"an empty request": {CSR: csr(t, ecKey(), "", "")},
		"a key alone":      {PublicKey: ecKey().Public()},
	} {
		if got, err := device.Apply(r, now); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
	_, err := device.Apply(Request{CSR: csr(t, ecKey(), "", "")}, now)
	if !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "no_name" {
		t.Error(err)
	}
	ca := compiled(t, "issuing-ca", func(c *Config) { c.SAN = SAN{DNS: &DNSNames{}}; c.Subject.Fields = nil; c.Subject.Others = "drop" })
	if _, err := ca.Apply(Request{CSR: csr(t, ecKey(), "", "dns:ca.example.com")}, now); err == nil ||
		fault.Of(err).Reason != "no_name" {
		t.Errorf("a CA without a subject: %v", err)
	}
}

// TestX13_SizesBetween: of RSA keys the sizes that are listed are taken, not those
// between them.
func TestX13_SizesBetween(t *testing.T) {
	t.Parallel()
	p := compiled(t, "device", func(c *Config) { c.Keys = []string{"rsa-2048", "rsa-4096"} })
	between, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Apply(Request{CSR: csr(t, between, "CN=d", "")}, now)
	if !fault.Is(err, fault.BadPublicKey) || fault.Of(err).Reason != "key_size" {
		t.Errorf("3072 bits: %v", err)
	}
	if _, err := p.Apply(Request{CSR: csr(t, rsaKey(), "CN=d", "")}, now); err != nil {
		t.Errorf("2048 bits: %v", err)
	}
}

// TestOCSP_O15_OtherFeatures are refused where the profile drops nothing.
func TestOCSP_O15_OtherFeatures(t *testing.T) {
	t.Parallel()
	p := compiled(t, "tls-server", func(c *Config) { c.MustStaple = true })
	for _, feature := range []string{"\x30\x03\x02\x01\x11", "\x30\x06\x02\x01\x05\x02\x01\x11", "\x05\x00", ""} {
		asked := csr(t, ecKey(), "", "dns:a.example.com", pkix.Extension{Id: oidTLSFeature, Value: []byte(feature)})
		if _, err := p.Apply(Request{CSR: asked}, now); !fault.Is(err, fault.BadCSR) ||
			!strings.Contains(err.Error(), "other than status_request") {
			t.Errorf("%x: %v", feature, err)
		}
	}
}

// TestYearsBeyondWhatACertificateCanSay are refused by name.
func TestYearsBeyondWhatACertificateCanSay(t *testing.T) {
	t.Parallel()
	p := compiled(t, "tls-server")
	far := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for what, r := range map[string]Request{"notBefore": {NotBefore: far, NotAfter: now.Add(time.Hour)},
		"notAfter": {NotAfter: far}} {
		r.CSR = csr(t, ecKey(), "", "dns:a.example.com")
		if _, err := p.Apply(r, now); !fault.Is(err, fault.Malformed) || !strings.Contains(err.Error(), "beyond 9999") {
			t.Errorf("%s: %v", what, err)
		}
		if err := p.CheckPeriod(r.NotBefore, r.NotAfter, now); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s, checked before: %v", what, err)
		}
	}
}

// TestCheckNamesIsApplys: what a front-end asks about before is what Apply says.
func TestCheckNamesIsApplys(t *testing.T) {
	t.Parallel()
	p := compiled(t, "tls-server", func(c *Config) { c.SAN.DNS.Deny = []string{"*.secret.example"} })
	bad := []pki.Identifier{{Type: pki.DNS, Value: "a.secret.example"}, {Type: pki.Email, Value: "a@example.com"}}
	err := p.CheckNames(append(slices.Clone(bad), pki.Identifier{Type: pki.DNS, Value: "good.example"}))
	if f := fault.Of(err); f == nil || f.Kind != fault.RejectedIdentifier || len(f.Sub) != 2 ||
		f.Sub[1].Identifier.Value != "a@example.com" {
		t.Errorf("%+v", f)
	}
	if err := p.CheckNames([]pki.Identifier{{Type: pki.DNS, Value: "good.example"}}); err != nil {
		t.Error(err)
	}
	for _, id := range bad {
		if p.CheckNames([]pki.Identifier{id}) == nil {
			t.Errorf("%s passes", id.Value)
		}
	}
}

// TestSPIFFEIDs of workloads, and what only looks like one.
func TestSPIFFEIDs(t *testing.T) {
	t.Parallel()
	for uri, ok := range map[string]bool{
		"spiffe://example.org/ns/Default/sa-1_x.y":       true,
		"spiffe://example.org":                           false,
		"spiffe://example.org/":                          false,
		"spiffe:///path":                                 false,
		"https://example.org/path":                       false,
		"spiffe://" + strings.Repeat("a", 256) + "/path": false,
		"spiffe://Example.org/path":                      false,
		"spiffe://example.org:443/path":                  false,
		"spiffe://user@example.org/path":                 false,
		"spiffe://example.org/a//b":                      false,
		"spiffe://example.org/a/../b":                    false,
		"spiffe://example.org/a/.":                       false,
		"spiffe://example.org/a/":                        false,
		"spiffe://example.org/a%2fb":                     false,
		"spiffe://example.org/a?b":                       false,
		"spiffe://example.org/a#b":                       false,
		"spiffe://example.org/a b":                       false,
		"spiffe://example.org/{a}":                       false,
	} {
		if err := checkSPIFFE(uri); (err == nil) != ok {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// TestX13_KeyWords that are none.
func TestX13_KeyWords(t *testing.T) {
	t.Parallel()
	for _, w := range []string{"rsa-2049", "rsa-512", "rsa-16384", "rsa-", "rsa-x", "dsa-2048", "2048",
		"rsa-2048++", "ec-p224", ""} {
		if k, err := compileKeys([]string{w}, 1024); err == nil {
			t.Errorf("%q is %+v", w, k)
		}
	}
}

// TestDurationsOfMoreThanACentury are refused, also as a sum.
func TestDurationsOfMoreThanACentury(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"101y", "99y9999d", "100y1s"} {
		if d, err := ParseDuration(s); err == nil || !strings.Contains(err.Error(), "100 years") {
			t.Errorf("%s is %s, %v", s, d, err)
		}
	}
}
