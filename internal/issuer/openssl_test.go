package issuer

import (
	"crypto/elliptic"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

// openssl runs the command and returns what it prints, on one line.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := need.Program(t, "openssl")
	out, err := exec.Command(path, args...).CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " "), err
}

// What we encode by hand, openssl reads, field by field.
func TestX2_OpenSSLCrossRead(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	leaf := certify(t, ca, leafTemplate(fixedKey(t, elliptic.P256(), 3).Public()), fixedSerial(0x13))
	since := epoch.Add(-time.Hour)
	crl, err := ca.SignCRL(t.Context(), CRL{
		Number: big.NewInt(0x1001), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7),
		Entries: []Revoked{{Serial: fixedSerial(0x13), At: epoch, Reason: pki.KeyCompromise, InvalidityAt: &since}},
	})
	if err != nil {
		t.Fatal(err)
	}
	arl, err := root.SignCRL(t.Context(), CRL{Number: big.NewInt(0x1000), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 180), OnlyCA: true})
	if err != nil {
		t.Fatal(err)
	}
	rootPEM := write("root.pem", "CERTIFICATE", root.Certificate().Raw)
	caPEM := write("ca.pem", "CERTIFICATE", ca.Certificate().Raw)
	leafPEM := write("leaf.pem", "CERTIFICATE", leaf.Raw)
	crlPEM, arlPEM := write("crl.pem", "X509 CRL", crl), write("arl.pem", "X509 CRL", arl)

	at := []string{"-attime", "1795262400"} // a day in November 2026
	for _, c := range []struct {
		args []string
		fail bool
		want []string
	}{
		{[]string{"x509", "-in", leafPEM, "-noout", "-text"}, false, []string{
			"Version: 3 (0x2)", "Serial Number: 13:13:13", "Signature Algorithm: ecdsa-with-SHA256", "Issuer: C = DE, O = Example, CN = Test Issuing CA",
			"X509v3 Key Usage: critical Digital Signature", "TLS Web Server Authentication", "X509v3 Subject Key Identifier",
			"X509v3 Subject Alternative Name: critical DNS:www.lab.test, IP Address:127.0.0.1",
			"OCSP - URI:http://ca.test/ocsp/web-1 CA Issuers - URI:http://ca.test/issuers/web-1.cer", "URI:http://ca.test/crl/web-1.crl",
		}},
		{append([]string{"verify", "-x509_strict", "-CAfile", rootPEM, "-untrusted", caPEM}, append(at, leafPEM)...), false, []string{"OK"}},
		{append([]string{"verify", "-crl_check", "-CAfile", rootPEM, "-untrusted", caPEM, "-CRLfile", crlPEM}, append(at, leafPEM)...), true, []string{"certificate revoked"}},
		{append([]string{"verify", "-crl_check", "-extended_crl", "-CAfile", rootPEM, "-CRLfile", arlPEM}, append(at, caPEM)...), false, []string{"OK"}},
		{[]string{"crl", "-in", crlPEM, "-noout", "-text", "-CAfile", caPEM}, false, []string{
			"Version 2", "verify OK", "X509v3 CRL Number: 4097", "Key Compromise", "Invalidity Date: Nov 21 11:00:00 2026 GMT",
		}},
		{[]string{"crl", "-in", arlPEM, "-noout", "-text", "-CAfile", rootPEM}, false, []string{
			"verify OK", "X509v3 Issuing Distribution Point: critical Only CA Certificates", "No Revoked Certificates",
		}},
	} {
		out, err := openssl(t, c.args...)
		if (err != nil) != c.fail {
			t.Errorf("openssl %s: %v: %s", c.args, err, out)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("openssl %s: %q is missing in %s", c.args[0], w, out)
			}
		}
	}
}
