package publish_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/publish"
)

func root(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "<Root>"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return pkitest.Certify(t, template, template, key.Public(), key)
}

// TestSwap: what is published follows the CAs, and the page of the roots shows the
// fingerprint as openssl does.
func TestSwap(t *testing.T) {
	t.Parallel()
	p := publish.New(nil)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		p.Routes().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	for path, says := range map[string]string{
		"/issuers/r.cer": "no issuer of this name", "/issuers/r/chain.pem": "no issuer of this name",
		"/roots/r.cer": "no issuer of this name", "/roots.pem": "no root is installed yet",
	} {
		if w := get(path); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s before: %d %s", path, w.Code, w.Body)
		}
	}
	if w := get("/roots"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "No root is installed yet") {
		t.Errorf("/roots before: %d %s", w.Code, w.Body)
	}
	c := root(t)
	p.Swap(ca.Build(ca.Inputs{
		Declared: []ca.Declaration{{ID: "r", Offline: true, Initial: []*x509.Certificate{c}}}, Now: time.Now(),
	}))
	text := string(pki.EncodeChain(c.Raw))
	for path, want := range map[string]string{
		"/issuers/r.cer": string(c.Raw), "/roots/r.cer": string(c.Raw), "/issuers/r/chain.pem": text, "/roots.pem": text,
	} {
		if w := get(path); w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	sum := fmt.Sprintf("% X", sha256.Sum256(c.Raw))
	page := get("/roots").Body.String()
	if !strings.Contains(page, `CN=\&lt;Root\&gt;`) || !strings.Contains(page, strings.ReplaceAll(sum, " ", ":")) {
		t.Errorf("the page of the roots does not show %s: %s", sum, page)
	}
}
