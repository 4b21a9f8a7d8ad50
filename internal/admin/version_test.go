package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR1_AnyVersion: operators bring requests of every tool.
func TestFR1_AnyVersion(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.test"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: pkitest.Versioned(t, plain, key, 2)})
	if csr, err := parseCSR(t.Context(), string(text), false); err != nil || len(csr.Names) != 1 {
		t.Error(err)
	}
}
