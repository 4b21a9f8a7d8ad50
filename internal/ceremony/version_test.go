package ceremony

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR1_AnyVersion: a ceremony reads what tools write, too.
func TestFR1_AnyVersion(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	plain, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "CA"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.csr"), pkitest.Versioned(t, plain, key, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	in := &inputs{dir: dir, requests: map[string]*pki.CSR{}}
	if err := in.request("ca.csr"); err != nil || in.requests["ca.csr"].Subject.String() != "CN=CA" {
		t.Error(err)
	}
}
