package login_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestStrangersCertificates: one source tries so many certificates that no anchor is
// above, each another one, and is then refused before anything is looked at or recorded.
func TestStrangersCertificates(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := httptest.NewUnstartedServer(e.server.Routes())
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const bySource = 100 // limits.wrong_secrets_by_source
	for n := range bySource + 2 {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(n + 1)), Subject: pkix.Name{CommonName: "stranger"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		settings := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		settings.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		transport := &http.Transport{TLSClientConfig: settings}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/login/certificate",
			strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
		want := http.StatusUnauthorized
		if n > bySource {
			want = http.StatusTooManyRequests
		}
		if n != bySource && resp.StatusCode != want {
			t.Fatalf("certificate %d: %s, want %d", n+1, resp.Status, want)
		}
	}
}
