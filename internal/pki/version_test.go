package pki_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR1_AnyVersion: what a client calls the version of a certificate request is
// of no account, and under its signature all the same.
func TestFR1_AnyVersion(t *testing.T) {
	t.Parallel()
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for kind, key := range map[string]crypto.Signer{"EC": newKey(t), "RSA": long} {
		plain, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"a.example.com"},
		}, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []int{0, 1, 2, 3, 1 << 40, -1} {
			der := pkitest.Versioned(t, plain, key, version)
			for parser, parse := range map[string]func() (*pki.CSR, error){
				"strict":   func() (*pki.CSR, error) { return pki.ParseCSR(t.Context(), der) },
				"legacy":   func() (*pki.CSR, error) { return pki.ParseLegacyCSR(t.Context(), der) },
				"template": func() (*pki.CSR, error) { return pki.ParseCSRTemplate(der) },
				"recorded": func() (*pki.CSR, error) { return pki.ParseRecorded(der) },
			} {
				csr, err := parse()
				if err != nil || csr.Subject.CommonName() != "a.example.com" || len(csr.Names) != 1 {
					t.Errorf("%s, version %d, %s: %v", kind, version, parser, err)
				}
			}
		}
		changed := bytes.Replace(pkitest.Versioned(t, plain, key, 2), []byte{2, 1, 2, 0x30}, []byte{2, 1, 0, 0x30}, 1)
		if _, err := pki.ParseCSR(t.Context(), changed); !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "signature" {
			t.Errorf("%s: the version is not under the signature: %v", kind, err)
		}
		none := bytes.Replace(plain, []byte{2, 1, 0, 0x30}, []byte{5, 1, 0, 0x30}, 1)
		if _, err := pki.ParseCSR(t.Context(), none); !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "csr_syntax" {
			t.Errorf("%s: a version that is no number: %v", kind, err)
		}
	}
}
