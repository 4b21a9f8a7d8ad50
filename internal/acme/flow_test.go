package acme

import (
	"crypto/elliptic"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
)

func TestACME_FullFlow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	names := []string{"a.localhost", "b.localhost", "127.0.0.1"}
	chain := c.issue(key, names...)
	if len(chain) != 2 {
		t.Fatalf("%d certificates, want leaf and issuing CA without the root (A45)", len(chain))
	}
	leaf := chain[0]
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("another key was certified")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(e.root)
	between.AddCert(chain[1])
	for _, n := range names {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: n, Roots: roots, Intermediates: between}); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

func TestACME_A56_WildcardByDNS(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	chain := c.issue(nil, "*.w.lab.test", "w.lab.test")
	if got := strings.Join(chain[0].DNSNames, " "); got != "*.w.lab.test w.lab.test" {
		t.Errorf("names %s", got)
	}
}

func TestACME_A45_Certificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusOK)
	c.await(u, statusProcessing)
	o = decodeInto[orderView](t, c.read(u))
	r := c.read(o.Certificate)
	if ct := r.header.Get("Content-Type"); ct != "application/pem-certificate-chain" {
		t.Errorf("content type %q", ct)
	}
	body := string(r.body)
	if !strings.HasPrefix(body, "-----BEGIN CERTIFICATE-----\n") || !strings.HasSuffix(body, "-----END CERTIFICATE-----\n") || strings.Contains(body, "\r") {
		t.Errorf("not strict PEM: %q", body)
	}
	for _, line := range strings.Split(body, "\n") {
		if len(line) > 64 {
			t.Errorf("line of %d characters", len(line))
		}
	}
	if len(r.links("alternate")) != 0 {
		t.Error("A46: an alternate chain is named, and there is none")
	}
	wantProblem(t, c.post(o.Certificate, "{}"), 400, "malformed")                                        // A19
	wantProblem(t, e.account(t).post(o.Certificate, ""), 403, "unauthorized")                            // A20
	wantProblem(t, c.post(o.Certificate+"x", ""), 404, "malformed")                                      // A20
	wantProblem(t, e.get(http.MethodGet, strings.TrimPrefix(o.Certificate, testBase)), 405, "malformed") // A10
}
