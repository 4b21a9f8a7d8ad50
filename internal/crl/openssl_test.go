package crl_test

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/need"
)

// openssl checks a chain of two tiers against the lists of both, as served.
func TestCRL_OpenSSLChecksBothTiers(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	n.round(t)
	check(t, n.take(t, c.rootList(nil)))
	row := c.issued(90 * 24 * time.Hour)
	leaf := issuancetest.Certify(t, &x509.Certificate{
		SerialNumber: row.Serial.Big(), DNSNames: []string{"www.a.test"}, NotBefore: c.clock.now().Add(-time.Hour), NotAfter: row.NotAfter,
		CRLDistributionPoints: []string{c.urls.CRL},
	}, c.cert, issuancetest.NewKey(t).Public(), c.key.PrivateKey)
	dir := t.TempDir()
	file := func(name, kind string, ders ...[]byte) string {
		var text []byte
		for _, der := range ders {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
		}
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, text, 0o600))
		return path
	}
	root, middle := file("root.pem", "CERTIFICATE", c.root.Raw), file("middle.pem", "CERTIFICATE", c.cert.Raw)
	end := file("leaf.pem", "CERTIFICATE", leaf.Raw)
	verify := func(want string) {
		t.Helper()
		var lists [][]byte
		for _, name := range []string{id, "root"} {
			der, err := io.ReadAll(n.get(name).Body)
			check(t, err)
			lists = append(lists, der)
		}
		out, err := exec.Command(openssl, "verify", "-crl_check_all", "-CAfile", root, "-untrusted", middle,
			"-CRLfile", file("lists.pem", "X509 CRL", lists...), end).CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != (want == "leaf.pem: OK") {
			t.Errorf("openssl verify: %v, want %q\n%s", err, want, out)
		}
	}
	verify("leaf.pem: OK")
	c.revoke(row, pki.KeyCompromise)
	n.round(t)
	verify("certificate revoked")
}

// An issuing CA that the root's list has is refused with all its leaves.
func TestCRL_OpenSSLRefusesARevokedCA(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	check(t, n.take(t, c.rootList(func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: c.cert.SerialNumber, RevocationTime: c.clock.now(), ReasonCode: 2}}
	})))
	der, err := io.ReadAll(n.get("root").Body)
	check(t, err)
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"root.pem": {Type: "CERTIFICATE", Bytes: c.root.Raw}, "ca.pem": {Type: "CERTIFICATE", Bytes: c.cert.Raw}, "list.pem": {Type: "X509 CRL", Bytes: der},
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	cmd := exec.Command(openssl, "verify", "-crl_check_all", "-CAfile", "root.pem", "-CRLfile", "list.pem", "ca.pem")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate revoked") {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
}
