package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// softSigner is a CA key in memory.
type softSigner struct{ crypto.Signer }

func (s softSigner) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Sign(rand.Reader, digest, opts)
}

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newECKey(tb testing.TB, c elliptic.Curve) crypto.Signer {
	tb.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func nameDER(tb testing.TB, s string) []byte {
	tb.Helper()
	n, err := pki.ParseName(s)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := n.DER()
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

const caUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign

func caTemplate(tb testing.TB, name string, pub crypto.PublicKey, years, pathLen int) *profile.Template {
	return &profile.Template{
		Profile: "ca", PublicKey: pub, RawSubject: nameDER(tb, name), NotBefore: epoch, NotAfter: epoch.AddDate(years, 0, 0),
		KeyUsage: caUsage, CA: true, MaxPathLen: pathLen,
	}
}

func certify(tb testing.TB, i *Issuer, t *profile.Template, serial pki.Serial) *x509.Certificate {
	tb.Helper()
	d, err := i.Draft(t, serial)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := i.Sign(tb.Context(), d)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

var (
	testLocations = Locations{
		CRL: "http://ca.test/crl/web-1.crl", OCSP: "http://ca.test/ocsp/web-1", CAIssuers: "http://ca.test/issuers/web-1.cer",
	}
	rootLocations = Locations{CRL: "http://ca.test/crl/root.crl", CAIssuers: "http://ca.test/roots/root.cer"}
)

// tree returns a root and an issuer below it.
func tree(tb testing.TB, rootKey, caKey crypto.Signer) (root, ca *Issuer) {
	tb.Helper()
	return treeOf(tb, rootKey, caKey, pki.NewSerial(), pki.NewSerial())
}

func treeOf(tb testing.TB, rootKey, caKey crypto.Signer, rootSerial, caSerial pki.Serial) (root, ca *Issuer) {
	tb.Helper()
	subject := "CN=Test Root,O=Example,C=DE"
	self, err := SelfSigned("root", nameDER(tb, subject), softSigner{rootKey})
	if err != nil {
		tb.Fatal(err)
	}
	rootCert := certify(tb, self, caTemplate(tb, subject, rootKey.Public(), 20, -1), rootSerial)
	root, err = NewOffline("root", []*x509.Certificate{rootCert}, softSigner{rootKey}, rootLocations)
	if err != nil {
		tb.Fatal(err)
	}
	t := caTemplate(tb, "CN=Test Issuing CA,O=Example,C=DE", caKey.Public(), 10, 0)
	t.ExtKeyUsage = []asn1.ObjectIdentifier{ekuServer, ekuClient, ekuOCSP}
	caCert := certify(tb, root, t, caSerial)
	ca, err = New("web-1", []*x509.Certificate{caCert, rootCert}, softSigner{caKey}, testLocations)
	if err != nil {
		tb.Fatal(err)
	}
	return root, ca
}

var (
	ekuServer = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	ekuClient = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	ekuOCSP   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
)

func leafTemplate(pub crypto.PublicKey) *profile.Template {
	return &profile.Template{
		Profile: "tls-server", PublicKey: pub, Names: []pki.Identifier{{Type: pki.DNS, Value: "www.lab.test"}, {Type: pki.IP, Value: "127.0.0.1"}},
		NotBefore: epoch, NotAfter: epoch.AddDate(0, 0, 90), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []asn1.ObjectIdentifier{ekuServer}, MaxPathLen: -1,
	}
}

func BenchmarkIssue(b *testing.B) {
	_, ca := tree(b, newECKey(b, elliptic.P384()), newECKey(b, elliptic.P256()))
	t := leafTemplate(newECKey(b, elliptic.P256()).Public())
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			d, err := ca.Draft(t, pki.NewSerial())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := ca.Sign(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
	})
	d, err := ca.Draft(t, pki.NewSerial())
	if err != nil {
		b.Fatal(err)
	}
	der, err := ca.signDummy(d.tbs)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("tbs", func(b *testing.B) {
		for b.Loop() {
			if _, err := ca.encodeTBS(t, d.serial); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("throwaway", func(b *testing.B) {
		for b.Loop() {
			if _, err := ca.signDummy(d.tbs); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if err := checkParsed(der, d.tbs); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lint", func(b *testing.B) {
		for b.Loop() {
			if err := LintCertificate(der, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sign+verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := ca.sign(b.Context(), "certificate", d.tbs); err != nil {
				b.Fatal(err)
			}
		}
	})
}
