package tree

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// elsewhere is a CA whose key is at hand, as another program leaves it.
func (b *bench) elsewhere(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ceremony.NewRequest(key, "CN=old,O=Example")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, b.sign(t, csr, 10), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// leafOf makes a certificate below a CA, or a CA's with isCA.
func leafOf(t *testing.T, ca *x509.Certificate, key *ecdsa.PrivateKey, serial int64, isCA bool) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"x.example.test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(0, 1, 0), IsCA: isCA, BasicConstraintsValid: isCA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A CA that was run elsewhere is taken over with its records first, then its key;
// what does not fit together is refused (G2-25).
func TestG2_25_Adopt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	key, cert, keyPEM := b.elsewhere(t)
	own := pki.EncodeChain(cert.Raw)
	chain := pemOf(cert, b.rootCert)
	revoked := &store.Revocation{Reason: pki.Superseded, RevokedAt: time.Now().Add(-time.Minute)}
	page := []Record{
		{Serial: "1000", DER: leafOf(t, cert, key, 0x1000, false)},
		{Serial: "1001", Subject: "CN=lost", NotAfter: time.Now().AddDate(0, 1, 0), Revocation: revoked},
	}
	for name, c := range map[string]struct {
		id          string
		certificate []byte
		record      Record
		reason      string
	}{
		"undeclared":      {"nobody", own, page[0], "issuer_undeclared"},
		"not a CA's PEM":  {"web-a", []byte("x"), page[0], "certificate_form"},
		"another CA's":    {"web-a", pki.EncodeChain(b.rootCert.Raw), page[0], "record"},
		"another serial":  {"web-a", own, Record{Serial: "1002", DER: page[0].DER}, "record"},
		"not DER":         {"web-a", own, Record{Serial: "1002", DER: []byte("x")}, "record"},
		"without its end": {"web-a", own, Record{Serial: "1002"}, "record"},
	} {
		_, err := b.Import(t.Context(), c.id, c.certificate, []Record{c.record}, operatorActor)
		refused(t, name, err, c.reason)
	}
	for _, want := range []int{2, 0} {
		if n, err := b.Import(t.Context(), "web-a", own, page, operatorActor); err != nil || n != want {
			t.Fatalf("%d new, want %d: %v", n, want, err)
		}
	}
	_, _, otherKey := b.elsewhere(t)
	rootKey := func() []byte {
		k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}()
	for name, c := range map[string]struct {
		id     string
		a      Adoption
		reason string
	}{
		"undeclared":       {"nobody", Adoption{Chain: chain, Key: keyPEM}, "issuer_undeclared"},
		"another key":      {"web-a", Adoption{Chain: chain, Key: otherKey}, "key_mismatch"},
		"not a key":        {"web-a", Adoption{Chain: chain, Key: []byte("x")}, "private_key"},
		"old encryption":   {"web-a", Adoption{Chain: chain, Key: []byte(strings.Replace(string(keyPEM), "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1))}, "private_key"},
		"a root's key":     {"web-a", Adoption{Chain: pemOf(b.rootCert), Key: rootKey}, "root_online"},
		"an offline CA's":  {"root-1", Adoption{Chain: chain, Key: keyPEM}, "issuer_offline"},
		"without its root": {"web-a", Adoption{Chain: own, Key: keyPEM}, "chain_incomplete"},
	} {
		_, err := b.Adopt(t.Context(), c.id, c.a, operatorActor)
		refused(t, name, err, c.reason)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "web-a.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was refused left a key: %v", err)
	}
	for _, again := range []bool{false, true} {
		done, err := b.Adopt(t.Context(), "web-a", Adoption{Chain: chain, Key: keyPEM, LastCRL: 0x1005}, operatorActor)
		if err != nil || done.Unchanged != again {
			t.Fatalf("%+v %v", done, err)
		}
	}
	_, err := b.Adopt(t.Context(), "web-b", Adoption{Chain: chain, Key: keyPEM}, operatorActor)
	refused(t, "the same CA under another id", err, "issuer_elsewhere")
	kept, err := keys.Open(t.Context(), keys.Ref("file:"+filepath.Join(b.dir, "web-a.key")), secret, keys.Config{})
	if err != nil || !pki.SameKey(kept.Public(), key.Public()) {
		t.Errorf("the key that was written: %v", err)
	}
	if number, err := b.Store.NextCRLNumber(t.Context(), "web-a", time.UnixMilli(5), 0); err != nil || number != 0x1006 {
		t.Errorf("the next list has number %d: %v", number, err)
	}
	_, err = b.Import(t.Context(), "web-a", own, page, operatorActor)
	refused(t, "records of a CA that is in force", err, "issuer_installed")
	if _, err := ParseCRLNumber("0x10"); fault.Of(err).Reason != "crl_number" {
		t.Errorf("a number that is not decimal: %v", err)
	}
}

// What the laws at rest say: a CA certificate that is nobody's, a tree that is
// deep, one issuing CA (G2-35, G2-16, G2-17).
func TestG2_35_Look(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	key, cert, keyPEM := b.elsewhere(t)
	page := []Record{{Serial: "1000", DER: leafOf(t, cert, key, 0x1000, true)}, {Serial: "1001", DER: leafOf(t, cert, key, 0x1001, false)}}
	if _, err := b.Import(t.Context(), "web-a", pki.EncodeChain(cert.Raw), page, operatorActor); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Adopt(t.Context(), "web-a", Adoption{Chain: pemOf(cert, b.rootCert), Key: keyPEM}, operatorActor); err != nil {
		t.Fatal(err)
	}
	places, findings, err := b.Look(t.Context())
	if err != nil || len(places) != 2 {
		t.Fatalf("%+v %v", places, err)
	}
	p := places[1]
	if p.Record.ID != "web-a" || p.Level != 2 || p.ChainBytes != len(cert.Raw) || p.Signatures != 2 || p.Certificates != 2 || p.PathLen != 0 {
		t.Errorf("%+v", p)
	}
	var all []string
	for _, f := range findings {
		all = append(all, f.Severity+" "+f.What)
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"error it has issued a CA certificate for CN=x, serial 1000", "warning one issuing CA"} {
		if !strings.Contains(text, want) {
			t.Errorf("findings lack %q:\n%s", want, text)
		}
	}
	// A row that nothing certifies any more.
	if err := b.Store.PutIssuer(t.Context(), store.IssuerRecord{ID: "lost", ParentID: "gone", State: "offline", Certificate: cert.Raw, NotAfter: cert.NotAfter, CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, findings, err = b.Look(t.Context()); err != nil || findings[len(findings)-1].About == "" || !strings.Contains(findings[0].What+findings[1].What+findings[2].What, "gone, is not installed") {
		t.Errorf("%v %v", findings, err)
	}
}
