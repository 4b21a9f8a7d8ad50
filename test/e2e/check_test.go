package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// checkChain reads a downloaded chain as relying parties do: the leaf carries
// exactly names, openssl finds the way to the root, zlint's RFC lints pass.
func (l *site) checkChain(t testing.TB, chain []byte, names ...string) *x509.Certificate {
	t.Helper()
	certs := parseChain(t, chain)
	if len(certs) < 2 {
		t.Fatalf("the chain has %d certificates, want the leaf and its issuer", len(certs))
	}
	leaf := certs[0]
	got := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		got = append(got, ip.String())
	}
	slices.Sort(got)
	slices.Sort(names)
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for i := 1; i < len(certs); i++ {
		if err := certs[i-1].CheckSignatureFrom(certs[i]); err != nil {
			t.Errorf("certificate %d does not certify its predecessor: %v", i, err)
		}
		if bytes.Equal(certs[i].RawSubject, certs[i].RawIssuer) {
			t.Error("the root is part of the download")
		}
	}
	l.opensslVerify(t, certs)
	for _, c := range certs {
		lintCertificate(t, c.Raw)
	}
	return leaf
}

func parseChain(t testing.TB, chain []byte) []*x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(chain)
		if block == nil {
			return certs
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("parse certificate %d: %v", len(certs), err)
		}
		certs, chain = append(certs, c), rest
	}
}

func (l *site) opensslVerify(t testing.TB, certs []*x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	leaf, above := filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "above.pem")
	write(t, leaf, encode(certs[:1]))
	write(t, above, encode(certs[1:]))
	out := execute(t, dir, nil, "openssl", "verify", "-x509_strict", "-CAfile", l.root(), "-untrusted", above, leaf)
	if !strings.Contains(out, "leaf.pem: OK") {
		t.Errorf("openssl verify: %s", out)
	}
}

func encode(certs []*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lintCertificate runs the lints that follow from RFCs (X12).
func lintCertificate(t testing.TB, der []byte) {
	t.Helper()
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("zlint cannot parse the certificate: %v", err)
	}
	sources := lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: sources})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range zlint.LintCertificateEx(c, registry).Results {
		if r.Status >= lint.Error {
			t.Errorf("lint %s: %s %s", name, r.Status, r.Details)
		}
	}
}
