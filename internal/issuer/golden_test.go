package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixedKey returns the same key in every run.
func fixedKey(tb testing.TB, c elliptic.Curve, seed byte) crypto.Signer {
	tb.Helper()
	size := (c.Params().BitSize + 7) / 8
	raw := bytes.Repeat([]byte{seed}, size)
	k, err := ecdsa.ParseRawPrivateKey(c, raw)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func fixedSerial(n byte) pki.Serial {
	return pki.Serial(hex.EncodeToString(bytes.Repeat([]byte{n}, 20)))
}

// fixedTree is tree with fixed keys and serials; only signatures differ.
func fixedTree(tb testing.TB) (root, ca *Issuer) {
	tb.Helper()
	return treeOf(tb, fixedKey(tb, elliptic.P384(), 1), fixedKey(tb, elliptic.P256(), 2), fixedSerial(0x11), fixedSerial(0x12))
}

// What is signed, octet for octet. openssl asn1parse shows what a file says:
//
//	xxd -r -p testdata/tls-server.hex | openssl asn1parse -inform DER -i
func TestGoldenTBS(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	leafKey := fixedKey(t, elliptic.P256(), 3).Public()
	for name, c := range map[string]struct {
		issuer *Issuer
		edit   func(*profile.Template)
	}{
		"tls-server":    {ca, func(*profile.Template) {}},
		"tls-server-cn": {ca, func(p *profile.Template) { p.RawSubject = nameDER(t, "CN=www.lab.test") }},
		"tls-server-short": {ca, func(p *profile.Template) {
			p.NotAfter, p.NoRevAvail = epoch.AddDate(0, 0, 7), true
		}},
		"ocsp-signing": {ca, func(p *profile.Template) {
			p.Names, p.RawSubject = nil, nameDER(t, "CN=OCSP 1,O=Example")
			p.ExtKeyUsage, p.OCSPNoCheck = []asn1.ObjectIdentifier{ekuOCSP}, true
		}},
		"must-staple": {ca, func(p *profile.Template) { p.MustStaple = true }},
		"policies-copied": {ca, func(p *profile.Template) {
			p.Policies = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999, 1}, {1, 3, 6, 1, 4, 1, 99999, 2}}
			p.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 3}, Value: []byte{5, 0}}}
		}},
		"beyond-2049": {root, func(p *profile.Template) {
			p.CA, p.MaxPathLen, p.KeyUsage, p.Names, p.ExtKeyUsage = true, 1, caUsage, nil, nil
			p.RawSubject, p.NotBefore, p.NotAfter = nameDER(t, "CN=Later,O=Example,C=DE"),
				time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
		}},
	} {
		p := leafTemplate(leafKey)
		c.edit(p)
		if name == "beyond-2049" { // longer than the root lives: encoded, not drafted
			tbs, err := c.issuer.encodeTBS(p, fixedSerial(0x13))
			golden(t, name, tbs, err)
			continue
		}
		d, err := c.issuer.Draft(p, fixedSerial(0x13))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		golden(t, name, d.TBS(), nil)
	}
	golden(t, "root", root.Certificate().RawTBSCertificate, nil)
	golden(t, "issuing-ca", ca.Certificate().RawTBSCertificate, nil)
}

func TestGoldenCRL(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	since := epoch.Add(-time.Hour)
	for name, c := range map[string]struct {
		issuer *Issuer
		crl    CRL
	}{
		"crl-empty": {root, CRL{OnlyCA: true}},
		"crl-entries": {ca, CRL{Entries: []Revoked{
			{Serial: fixedSerial(0x22), At: epoch, Reason: pki.KeyCompromise, InvalidityAt: &since},
			{Serial: fixedSerial(0x21), At: epoch, Reason: pki.Unspecified},
			{Serial: "01", At: epoch, Reason: pki.Superseded},
		}}},
	} {
		c.crl.Number, c.crl.ThisUpdate, c.crl.NextUpdate = big.NewInt(0x1000), epoch, epoch.AddDate(0, 0, 180)
		golden(t, name, signedTBS(t, c.issuer, c.crl), nil)
	}
}

// signedTBS returns what a list's signature is over.
func signedTBS(t *testing.T, i *Issuer, crl CRL) []byte {
	t.Helper()
	der, err := i.SignCRL(t.Context(), crl)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(i.Certificate()); err != nil {
		t.Fatal(err)
	}
	return list.RawTBSRevocationList
}

func golden(t *testing.T, name string, der []byte, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	path := filepath.Join("testdata", name+".hex")
	var text bytes.Buffer
	for line := der; len(line) > 0; line = line[min(32, len(line)):] {
		text.WriteString(hex.EncodeToString(line[:min(32, len(line))]) + "\n")
	}
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, text.Bytes()) {
		t.Errorf("%s: not what %s holds; -update if it is meant", name, path)
	}
}

// Our encoding and the standard library's reading of it agree.
func TestX5_X6_X7_X10_Extensions(t *testing.T) {
	t.Parallel()
	root, ca := fixedTree(t)
	c := certify(t, ca, leafTemplate(fixedKey(t, elliptic.P256(), 3).Public()), fixedSerial(0x13))
	if !bytes.Equal(c.RawIssuer, ca.Certificate().RawSubject) {
		t.Error("X4: the issuer's name was not copied")
	}
	if len(c.SubjectKeyId) != 20 || !bytes.Equal(c.AuthorityKeyId, ca.Certificate().SubjectKeyId) {
		t.Errorf("X6: SKI %x, AKI %x", c.SubjectKeyId, c.AuthorityKeyId)
	}
	if c.OCSPServer[0] != testLocations.OCSP || c.IssuingCertificateURL[0] != testLocations.CAIssuers || c.CRLDistributionPoints[0] != testLocations.CRL {
		t.Error("X10: locations are missing")
	}
	critical := map[string]bool{}
	for _, e := range c.Extensions {
		critical[e.Id.String()] = e.Critical
	}
	want := map[string]bool{
		"2.5.29.15": true, "2.5.29.37": false, "2.5.29.14": false, "2.5.29.35": false, "1.3.6.1.5.5.7.1.1": false,
		"2.5.29.17": true /* empty subject */, "2.5.29.31": false,
	}
	for oid, w := range want {
		if got, ok := critical[oid]; !ok || got != w {
			t.Errorf("extension %s: there %v, critical %v", oid, ok, got)
		}
	}
	if len(critical) != len(want) {
		t.Errorf("extensions: %v", critical)
	}
	named := leafTemplate(fixedKey(t, elliptic.P256(), 3).Public())
	named.RawSubject = nameDER(t, "CN=www.lab.test")
	for _, e := range certify(t, ca, named, fixedSerial(0x14)).Extensions {
		if e.Id.Equal(oidSubjectAltName) && e.Critical {
			t.Error("X5: SAN is critical beside a subject")
		}
	}
	for who, x := range map[string]*x509.Certificate{"root": root.Certificate(), "issuing CA": ca.Certificate()} {
		if !x.IsCA || x.KeyUsage != caUsage || !bytes.Equal(x.AuthorityKeyId, root.Certificate().SubjectKeyId) {
			t.Errorf("X7: %s: CA %v, usage %b", who, x.IsCA, x.KeyUsage)
		}
	}
	if r := root.Certificate(); r.MaxPathLen != -1 || len(r.CRLDistributionPoints)+len(r.IssuingCertificateURL) != 0 {
		t.Error("G1-30: the root has a path length or locations")
	}
	if x := ca.Certificate(); x.MaxPathLen != 0 || !x.MaxPathLenZero || len(x.CRLDistributionPoints) != 1 || len(x.OCSPServer) != 0 {
		t.Error("G1-31: the issuing CA's path length or locations are wrong")
	}
}
