package acme

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
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

// Cross-certificates give a certificate more chains; one that has expired is not
// offered, and what is offered is there.
func TestACME_A46_AlternateChains(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusOK)
	c.await(u, statusProcessing)
	o = decodeInto[orderView](t, c.read(u))

	key, now := newECKey(t, elliptic.P256()), time.Now()
	cross := func(cn string, until time.Time) []*x509.Certificate {
		self := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign,
		}
		root := issuancetest.Certify(t, self, self, key.Public(), key)
		up := *e.root
		up.NotAfter, up.SerialNumber = until, big.NewInt(8)
		return []*x509.Certificate{e.issuing(), issuancetest.Certify(t, &up, root, e.root.PublicKey, key), root}
	}
	rules := *e.server.Pipeline.Rules()
	rules.CAs = ca.NewSet(ca.Of(rules.CAs.Get("web").Issuer(), cross("Expired Root", now.Add(-time.Minute)),
		cross("Other Root", now.AddDate(1, 0, 0))))
	e.server.Pipeline.Swap(rules)

	r := c.read(o.Certificate)
	if n := strings.Count(string(r.body), "BEGIN"); n != 2 {
		t.Errorf("%d certificates in the usual chain, want the leaf and its issuer", n)
	}
	links := r.links("alternate")
	if len(links) != 1 || links[0] != o.Certificate+"/1" {
		t.Fatalf("alternates %q", links)
	}
	other := c.read(links[0])
	chain, err := pki.ParseChain(other.body)
	if err != nil || len(chain) != 3 || chain[2].Issuer.CommonName != "Other Root" {
		t.Errorf("alternate chain %v, %v", chain, err)
	}
	if back := other.links("alternate"); len(back) != 1 || back[0] != o.Certificate {
		t.Errorf("the alternate names %q", back)
	}
	for _, path := range []string{"/0", "/2", "/x"} {
		wantProblem(t, c.post(o.Certificate+path, ""), 404, "malformed")
	}
	wantProblem(t, e.account(t).post(links[0], ""), 403, "unauthorized")
}

func (e *env) issuing() *x509.Certificate {
	return e.server.Pipeline.Rules().CAs.Get("web").Certificate()
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
