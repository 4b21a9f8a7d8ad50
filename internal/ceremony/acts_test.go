package ceremony

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// A policy CA is made offline below a root, in a folder like a root's.
func TestG1_06_Subordinate(t *testing.T) {
	t.Parallel()
	root := newRoot(t, RootSpec{})
	sub := CA{Dir: filepath.Join(t.TempDir(), "policy"), Secret: pass("p"), Now: root.Now}
	spec := SubordinateSpec{Subject: "CN=Example Policy CA,O=Example,ST=Bremen,C=DE", CASpec: CASpec{PathLen: 1, Years: 15, Locations: rootLocations}}
	if _, err := Subordinate(t.Context(), root, sub, spec); err != nil {
		t.Fatal(err)
	}
	if _, err := Subordinate(t.Context(), root, sub, spec); fault.Of(err).Reason != "exists" {
		t.Errorf("a second one in the same folder: %v", err)
	}
	issued, err := SignCA(t.Context(), sub, request(t, newKey(t), caName), CASpec{Policies: []string{"1.3.6.1.4.1.99999.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CRL(t.Context(), sub, CRLSpec{}); err != nil {
		t.Fatal(err)
	}
	leafFile := sub.path(filed("newcerts", pki.SerialFromBig(issued.SerialNumber)))
	openssl(t, "verify", "-attime", "1795262400", "-x509_strict", "-CAfile", root.path(certFile), "-untrusted", sub.path(certFile), leafFile)
}

// selfSigned is a root of another make: a key identifier by another method, and
// names as PrintableString.
func selfSigned(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"Other"}, CommonName: "Other Root"},
		NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(30, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte("another method"),
	}
	return pkitest.Certify(t, template, template, key.Public(), key)
}

func TestG2_10_CrossSign(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	key := newKey(t)
	other := selfSigned(t, key)
	cross, err := CrossSign(t.Context(), ca, other, nil, CrossSpec{PathLen: 1, Locations: rootLocations})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(cross.RawSubject, other.RawSubject) || !bytes.Equal(cross.SubjectKeyId, other.SubjectKeyId) {
		t.Error("name or key identifier are not those of the other root")
	}
	// What the other root has issued verifies under this one.
	below, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: epoch, NotAfter: epoch.AddDate(1, 0, 0),
	}, other, newKey(t).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := files.Write(filepath.Join(dir, "leaf.pem"), pki.EncodeChain(below), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "verify", "-attime", "1795262400", "-CAfile", ca.path(certFile),
		"-untrusted", ca.path(filed("newcerts", pki.SerialFromBig(cross.SerialNumber))), filepath.Join(dir, "leaf.pem"))
}

func TestCrossSignRefuses(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	key := newKey(t)
	other := selfSigned(t, key)
	foreign := *other
	foreign.Signature = bytes.Clone(other.Signature)
	foreign.Signature[len(foreign.Signature)-1] ^= 1
	leaf := *other
	leaf.IsCA = false
	for name, c := range map[string]struct {
		other  *x509.Certificate
		csr    *pki.CSR
		spec   CrossSpec
		reason string
	}{
		"no proof of possession": {&foreign, nil, CrossSpec{}, "possession"},
		"the request of another": {other, request(t, newKey(t), "CN=Other Root"), CrossSpec{}, "possession"},
		"not a CA":               {&leaf, nil, CrossSpec{}, "not_a_ca"},
		"outlives":               {other, nil, CrossSpec{Years: 20}, "validity_nesting"},
		"negative":               {other, nil, CrossSpec{Years: -1}, "validity"},
	} {
		if _, err := CrossSign(t.Context(), ca, c.other, c.csr, c.spec); fault.Of(err).Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	if index, err := ca.Index(); err != nil || len(index) != 0 {
		t.Errorf("refusals left %v in the index, %v", index, err)
	}
}

func responderRequest(t *testing.T, key crypto.Signer, isCA bool) *pki.CSR {
	t.Helper()
	value, err := asn1.Marshal(struct {
		CA bool `asn1:"optional"`
	}{isCA})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "OCSP responder root"}, ExtraExtensions: []pkix.Extension{{Id: oidBasic, Value: value}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestG1_09_G2_10_SignResponder(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	key := newKey(t)
	csr := responderRequest(t, key, false)
	c, err := SignResponder(t.Context(), ca, csr, ResponderSpec{Locations: rootLocations})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Chain()
	if err != nil {
		t.Fatal(err)
	}
	if want := epoch.AddDate(0, 0, 180); !c.NotAfter.Before(want) || c.IsCA {
		t.Errorf("ends %s", c.NotAfter)
	}
	wants(t, "responder", openssl(t, "x509", "-in", ca.path(filed("newcerts", pki.SerialFromBig(c.SerialNumber))), "-noout", "-text"),
		"OCSP Signing", "OCSP No Check", "Digital Signature", "CN = OCSP responder root")
	openssl(t, "verify", "-attime", "1795262400", "-purpose", "ocsphelper", "-CAfile", ca.path(certFile), ca.path(filed("newcerts", pki.SerialFromBig(c.SerialNumber))))
	if _, err := issuer.NewResponder(chain[0], c, memory{key}); err != nil {
		t.Errorf("a server would not take it: %v", err)
	}
	for name, try := range map[string]struct {
		csr    *pki.CSR
		days   int
		reason string
	}{
		"a CA": {responderRequest(t, key, true), 0, "not_a_responder"}, "three years": {csr, 1095, "validity"}, "negative": {csr, -1, "validity"},
	} {
		if _, err := SignResponder(t.Context(), ca, try.csr, ResponderSpec{Days: try.days}); fault.Of(err).Reason != try.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := SignCA(t.Context(), ca, csr, CASpec{}); fault.Of(err).Reason != "not_a_ca" || !strings.Contains(err.Error(), "CA:FALSE") {
		t.Errorf("SignCA of a responder's request: %v", err)
	}
}

// What an interruption leaves is settled: a certificate that is filed is taken, a
// serial without one is revoked, one that never reached the index is nothing.
func TestSettle(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	var serial pki.Serial
	ca.Record = func(s pki.Serial) error { serial = s; return nil }
	c, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Settle(ca, serial)
	if err != nil || got == nil || !got.Equal(c) {
		t.Fatalf("filed: %v, %v", got, err)
	}
	if err := os.Remove(ca.path(filed("newcerts", serial))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := Settle(ca, serial); got != nil || err != nil {
			t.Fatalf("lost: %v, %v", got, err)
		}
	}
	index, err := ca.Index()
	if err != nil || len(index) != 1 || index[0].Revoked == nil || index[0].Revoked.Reason != pki.CessationOfOperation {
		t.Errorf("%+v, %v", index, err)
	}
	if got, err := Settle(ca, pki.NewSerial()); got != nil || err != nil {
		t.Errorf("never used: %v, %v", got, err)
	}
	// When the record cannot be made, nothing is signed.
	ca.Record = func(pki.Serial) error { return fault.New(fault.Unavailable, "full") }
	if _, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{}); fault.Of(err).Kind != fault.Unavailable {
		t.Error(err)
	}
	if after, err := ca.Index(); err != nil || len(after) != 1 {
		t.Errorf("%+v, %v", after, err)
	}
}
