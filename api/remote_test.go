package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
)

// certified is a certificate with its key.
type certified struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// certify makes a certificate for host, or a CA where host is empty, by issuer or
// self-signed.
func certify(t *testing.T, issuer *certified, host string, notAfter time.Time) *certified {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test " + host}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: notAfter, BasicConstraintsValid: true, IsCA: host == "",
	}
	if host != "" {
		template.DNSNames, template.ExtKeyUsage = []string{host}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certified{c, key}
}

// serve answers every request at localhost with what it was asked with, as the
// version, and presents the certificates.
func serve(t *testing.T, presented ...*certified) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/version" {
			http.Redirect(w, r, "/v1/version", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"version":"`+r.Header.Get("Authorization")+`"}`)
	}))
	pair := tls.Certificate{PrivateKey: presented[0].key}
	for _, c := range presented {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	s.TLS, s.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{pair}}, log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return "https://localhost:" + s.URL[strings.LastIndex(s.URL, ":")+1:]
}

func TestRemoteTrust(t *testing.T) {
	t.Parallel()
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	root, other := certify(t, nil, "", later), certify(t, nil, "", later)
	ca := certify(t, root, "", later)
	leaf, elsewhere := certify(t, ca, "localhost", later), certify(t, ca, "elsewhere.test", later)
	expired, self := certify(t, ca, "localhost", past), certify(t, nil, "localhost", later)
	selfExpired := certify(t, nil, "localhost", past)
	pin := func(c *certified) string { return api.Fingerprint(c.Certificate) }
	colons := strings.ToUpper(pin(root)[:2]) + ":" + pin(root)[2:]
	for name, c := range map[string]struct {
		presented []*certified
		pin       string
		roots     []*x509.Certificate
		refused   string
	}{
		"root pinned":                    {[]*certified{leaf, ca, root}, colons, nil, ""},
		"CA pinned":                      {[]*certified{leaf, ca, root}, pin(ca), nil, ""},
		"root kept":                      {[]*certified{leaf, ca}, "", []*x509.Certificate{root.Certificate}, ""},
		"self-signed pinned":             {[]*certified{self}, pin(self), nil, ""},
		"self-signed kept":               {[]*certified{self}, "", []*x509.Certificate{self.Certificate}, ""},
		"of the system":                  {[]*certified{leaf, ca, root}, "", nil, pin(root)},
		"another pin":                    {[]*certified{leaf, ca, root}, pin(other), nil, pin(root)},
		"another root kept":              {[]*certified{leaf, ca, root}, "", []*x509.Certificate{other.Certificate}, pin(root)},
		"pinned beside, above nothing":   {[]*certified{self, root}, pin(root), nil, "leads to a trusted root"},
		"another name":                   {[]*certified{elsewhere, ca, root}, pin(root), nil, "elsewhere.test"},
		"expired":                        {[]*certified{expired, ca, root}, pin(root), nil, "expired"},
		"self-signed expired":            {[]*certified{selfExpired}, pin(selfExpired), nil, "is good from"},
		"own, not self-signed":           {[]*certified{leaf, ca, root}, pin(leaf), nil, "trust the root above it"},
		"self-signed, nothing is pinned": {[]*certified{self}, "", nil, pin(self)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			remote := api.Remote{URL: serve(t, c.presented...), Root: c.pin, Roots: c.roots, Bearer: "secret"}
			client, err := api.DialURL(remote)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			v, err := api.GetVersion.Call(t.Context(), client, api.None{}, api.None{})
			var untrusted *api.UntrustedError
			switch {
			case c.refused == "" && (err != nil || v.Version != "Bearer secret"):
				t.Errorf("%v, %v", v, err)
			case c.refused != "" && (!errors.As(err, &untrusted) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("not refused with %q: %v, %v", c.refused, v, err)
			}
			// A redirect is no answer: the secret stays where it was sent.
			if _, err := api.GetHealth.Call(t.Context(), client, api.None{}, api.None{}); err == nil {
				t.Error("a redirect was followed")
			}
		})
	}
}

func TestRemoteMistakes(t *testing.T) {
	t.Parallel()
	for _, r := range []api.Remote{
		{URL: "http://ca.test"}, {URL: "https://"}, {URL: "ca.test:8445"}, {URL: "https://u:p@ca.test"},
		{URL: "https://ca.test/v1"}, {URL: "https://ca.test?x"}, {URL: "https://ca.test", Root: "abcd"},
		{URL: "https://ca.test", Root: strings.Repeat("x", 64)},
	} {
		if _, err := api.DialURL(r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
	client, err := api.DialURL(api.Remote{URL: "https://localhost:1/"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.GetVersion.Call(t.Context(), client, api.None{}, api.None{})
	if !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
}
