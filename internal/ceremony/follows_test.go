package ceremony

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// forget puts a CA's folder back to where it was before any list.
func forget(t *testing.T, ca CA, index []byte) {
	t.Helper()
	for _, name := range []string{crlFile, crlFile + ".pem", numberTxt, indexFile} {
		if err := os.RemoveAll(ca.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string][]byte{indexFile: index, numberTxt: []byte(firstNumber + "\n")} {
		if err := os.WriteFile(ca.path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that is put back to an old copy makes no list that takes back what the
// published one says.
func TestFT5_APublishedListIsAWitness(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	serial := pki.SerialFromBig(signCA(t, ca).SerialNumber)
	index, err := os.ReadFile(ca.path(indexFile))
	if err != nil {
		t.Fatal(err)
	}
	since := ca.Now().AddDate(0, 0, -9).Truncate(time.Second)
	revoke := func(ca CA, reason pki.Reason, since *time.Time) {
		t.Helper()
		if err := Revoke(t.Context(), ca, Revocation{Serial: serial, Reason: reason, InvalidityAt: since}); err != nil {
			t.Fatal(err)
		}
	}
	revoke(ca, pki.CACompromise, &since)
	makeCRL(t, ca)
	published := makeCRL(t, ca)
	later := ca
	later.Now = func() time.Time { return ca.Now().AddDate(0, 1, 0) }

	forget(t, ca, index)
	_, err = CRL(t.Context(), later, CRLSpec{Published: published})
	if fault.Of(err).Reason != "index" || !strings.Contains(err.Error(), string(serial)) {
		t.Errorf("a lost revocation: %v", err)
	}
	revoke(later, pki.Superseded, nil)
	_, err = CRL(t.Context(), later, CRLSpec{Published: published})
	if fault.Of(err).Reason != "index" || !strings.Contains(err.Error(), "cACompromise became superseded") {
		t.Errorf("a milder reason: %v", err)
	}
	forget(t, ca, index)
	revoke(later, pki.CACompromise, nil)
	early := ca
	early.Now = func() time.Time { return published.ThisUpdate.Add(-time.Hour) }
	if _, err = CRL(t.Context(), early, CRLSpec{Published: published}); fault.Of(err).Reason != "clock" {
		t.Errorf("a clock that runs late: %v", err)
	}
	der, err := CRL(t.Context(), later, CRLSpec{Published: published})
	if err != nil {
		t.Fatal(err)
	}
	next, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if want := new(big.Int).Add(published.Number, big.NewInt(1)); next.Number.Cmp(want) != 0 {
		t.Errorf("number %s, want %s", next.Number, want)
	}
	is, err := revokedOf(next.RevokedCertificateEntries[0])
	if err != nil {
		t.Fatal(err)
	}
	was, err := revokedOf(published.RevokedCertificateEntries[0])
	if err != nil || !is.At.Equal(was.At) || is.InvalidityAt == nil || !is.InvalidityAt.Equal(since) || is.Reason != was.Reason {
		t.Errorf("the entry is %+v, was %+v, %v", is, was, err)
	}
}

// The file of a ceremony names the published list, which has to be the CA's own.
func TestFT5_TheFileNamesThePublishedList(t *testing.T) {
	t.Parallel()
	r := newRoom(t, `
name: Founding
reason: A test
cas: [{name: root}]
acts:
  - root: {ca: root, subject: "CN=Example Root,O=Example,ST=Bremen,C=DE"}
  - sign-ca: {ca: root, csr: issuing.csr}
  - crl: {ca: root}
`)
	if err := r.hold("ceremony.yaml", at(epoch)); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	r.write("next.yaml", []byte(`
name: The list
reason: It is due
out: next
cas: [{name: root}]
acts:
  - crl: {ca: root, published: root.crl}
`))
	other := newRoot(t, RootSpec{})
	foreign := makeCRL(t, other)
	own := CA{Dir: r.path("root"), Secret: pass("correct horse battery"), Now: at(epoch.Add(time.Hour))}
	i, key, err := own.open(t.Context(), issuer.Locations{}, calaw.Verdict.MayList)
	if err != nil {
		t.Fatal(err)
	}
	defer own.giveBack(key) //nolint:errcheck // a test's
	witness := func(entries ...issuer.Revoked) []byte {
		t.Helper()
		der, err := i.SignCRL(t.Context(), issuer.CRL{
			Number: big.NewInt(0x2000), ThisUpdate: own.Now(), NextUpdate: own.Now().AddDate(0, 0, 30), Entries: entries,
		})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, tt := range map[string]struct {
		list []byte
		says string
	}{
		"no list":      {[]byte("hello"), "root.crl"},
		"another CA's": {foreign.Raw, "is not a list that root has signed"},
		"what is not revoked here": {
			witness(issuer.Revoked{Serial: "77", At: epoch, Reason: pki.KeyCompromise}), "serial 77 is on the published list for keyCompromise",
		},
	} {
		r.write("root.crl", tt.list)
		if err := r.hold("next.yaml", at(epoch.AddDate(0, 1, 0))); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
	r.write("root.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: witness()}))
	if err := r.hold("next.yaml", at(epoch.AddDate(0, 1, 0))); err != nil {
		t.Fatalf("%v\n%s", err, r.said.String())
	}
	list, err := own.lastCRL()
	if err != nil || list.Number.Int64() != 0x2001 {
		t.Errorf("number %v, want 8193: %v", list.Number, err)
	}
	if !strings.Contains(r.said.String(), "carries the published list 8192") {
		t.Errorf("the plan does not say so:\n%s", r.said.String())
	}
}
