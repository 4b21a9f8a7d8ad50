package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"testing"
)

// Certify makes a certificate of a template, as x509.CreateCertificate does. It is
// for certificates that our own CAs would not issue.
func Certify(
	t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer,
) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
