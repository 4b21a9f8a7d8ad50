package ceremony

import (
	"crypto/x509"
	"math/big"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// The whole way of a small hierarchy, as `privyseal dev` goes it: root, key of the
// issuing CA in a file, request, certificate, list, issuer.
func TestSmallHierarchy(t *testing.T) {
	t.Parallel()
	root := newCA(t)
	if _, err := Root(t.Context(), root, RootSpec{Subject: "CN=Dev Root", NameConstraints: PrivateNames()}); err != nil {
		t.Fatal(err)
	}
	ref := keys.Ref("file:" + filepath.Join(t.TempDir(), "dev-1.key"))
	made, err := keys.Generate(ref, "ec-p256", pass("issuing"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(made, "CN=Dev Issuing CA 1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := SignCA(t.Context(), root, csr, CASpec{Locations: rootLocations})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CRL(t.Context(), root, CRLSpec{OnlyCA: true}); err != nil {
		t.Fatal(err)
	}
	above, err := root.Chain()
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Open(t.Context(), ref, pass("issuing"), keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = key.Close() })
	i, err := issuer.New("dev-1", append([]*x509.Certificate{c}, above...), key, issuer.Locations{CRL: "http://localhost:8080/crl/dev-1.crl"})
	if err != nil {
		t.Fatal(err)
	}
	x := leaf(t, i, "tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "localhost"}})
	if err := x.CheckSignatureFrom(c); err != nil {
		t.Error(err)
	}
	if _, err := i.SignCRL(t.Context(), issuer.CRL{Number: big.NewInt(1), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 7)}); err != nil {
		t.Error(err)
	}
	// Invariant 9: the root's key is of no use to a server.
	rootKey, err := keys.Open(t.Context(), root.key(), root.Secret, keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rootKey.Close() })
	if _, err := issuer.New("root", above, rootKey, issuer.Locations{}); err == nil || !strings.Contains(err.Error(), "self-signed") {
		t.Errorf("a server took the root's key: %v", err)
	}
}

// Constraints of every form reach the certificate as they were asked for.
func TestNameConstraintsOfAnIssuingCA(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	nc := &profile.NameConstraints{
		Permitted: profile.Subtrees{
			DNS: []string{"example.test"}, IP: []string{"10.0.0.0/8", "fd00::/8"}, Email: []string{"a@example.test", ".mail.test"},
			URI: []string{".spiffe.test"}, Directory: []string{"O=Example,ST=Bremen,C=DE"},
		},
		Excluded: profile.Subtrees{DNS: []string{"no.example.test"}},
	}
	c, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{NameConstraints: nc})
	if err != nil {
		t.Fatal(err)
	}
	path := ca.path("newcerts/" + strings.ToUpper(string(pki.SerialFromBig(c.SerialNumber))) + ".pem")
	wants(t, "constraints", openssl(t, "x509", "-in", path, "-noout", "-text"),
		"X509v3 Name Constraints: critical Permitted:", "DNS:example.test", "IP:10.0.0.0/255.0.0.0", "email:a@example.test", "email:.mail.test",
		"URI:.spiffe.test", "DirName:C = DE, ST = Bremen, O = Example", "Excluded: DNS:no.example.test")
	openssl(t, "verify", "-attime", "1795262400", "-x509_strict", "-CAfile", ca.path(certFile), path)
	bad := &profile.NameConstraints{Permitted: profile.Subtrees{IP: []string{"10.0.0.1/8"}}}
	if _, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{NameConstraints: bad}); err == nil {
		t.Error("a network with host bits was taken")
	}
}

// A root whose constraints shut out a CA's name does not sign that CA.
func TestNameConstraintsBindTheSignerItself(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{NameConstraints: &profile.NameConstraints{Permitted: profile.Subtrees{Directory: []string{"O=Other"}}}})
	if _, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{}); fault.Of(err).Reason != "name_constraints" {
		t.Errorf("%v", err)
	}
}
