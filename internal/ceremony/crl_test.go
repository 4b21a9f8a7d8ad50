package ceremony

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

func makeCRL(t testing.TB, ca CA) *x509.RevocationList {
	t.Helper()
	der, err := CRL(t.Context(), ca, CRLSpec{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func signCA(t testing.TB, ca CA) *x509.Certificate {
	t.Helper()
	c, err := SignCA(t.Context(), ca, request(t, newKey(t), caName), CASpec{Locations: rootLocations})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestC1_C14_G1_27_CRL(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	c := signCA(t, ca)
	first := makeCRL(t, ca)
	if first.Number.Cmp(big.NewInt(0x1000)) != 0 || len(first.RevokedCertificateEntries) != 0 {
		t.Errorf("first list: number %x, %d entries", first.Number, len(first.RevokedCertificateEntries))
	}
	if got := first.NextUpdate.Sub(first.ThisUpdate); got != 180*24*time.Hour {
		t.Errorf("nextUpdate after %v", got)
	}
	since := epoch.Add(-time.Hour)
	serial := pki.SerialFromBig(c.SerialNumber)
	if err := Revoke(t.Context(), ca, Revocation{Serial: serial, Reason: pki.KeyCompromise, InvalidityAt: &since}); err != nil {
		t.Fatal(err)
	}
	if err := Revoke(t.Context(), ca, Revocation{Serial: serial, Reason: pki.Superseded}); !fault.Is(err, fault.AlreadyRevoked) {
		t.Errorf("revoked twice: %v", err)
	}
	second := makeCRL(t, ca)
	if second.Number.Cmp(big.NewInt(0x1001)) != 0 || len(second.RevokedCertificateEntries) != 1 {
		t.Fatalf("second list: number %x, %d entries", second.Number, len(second.RevokedCertificateEntries))
	}
	e := second.RevokedCertificateEntries[0]
	if e.ReasonCode != int(pki.KeyCompromise) || pki.SerialFromBig(e.SerialNumber) != serial || len(e.Extensions) != 2 {
		t.Errorf("entry %+v", e)
	}
	if text, _ := os.ReadFile(ca.path(numberTxt)); string(text) != "1002\n" {
		t.Errorf("crlnumber %q", text)
	}
}

func TestRevokeRefuses(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	serial := pki.SerialFromBig(signCA(t, ca).SerialNumber)
	since := epoch
	for name, c := range map[string]struct {
		r    Revocation
		kind fault.Kind
	}{
		"not ours":          {Revocation{Serial: pki.NewSerial()}, fault.NotFound},
		"openssl has none":  {Revocation{Serial: serial, Reason: pki.PrivilegeWithdrawn}, fault.Denied},
		"removeFromCRL":     {Revocation{Serial: serial, Reason: pki.RemoveFromCRL}, fault.Denied},
		"date of no breach": {Revocation{Serial: serial, Reason: pki.Superseded, InvalidityAt: &since}, fault.Denied},
	} {
		if err := Revoke(t.Context(), ca, c.r); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Revoke(t.Context(), ca, Revocation{Serial: serial}); err != nil {
		t.Fatal(err)
	}
	if list := makeCRL(t, ca); len(list.RevokedCertificateEntries) != 1 || len(list.RevokedCertificateEntries[0].Extensions) != 0 {
		t.Error("C2: reason 0 is written out")
	}
}

// The number is on disk before the signature: a list that is lost on the way
// leaves a gap, never a number used twice.
func TestC1_NumbersOnlyRise(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	if err := os.MkdirAll(ca.path(crlFile+"/x"), 0o700); err != nil { // nothing can be renamed onto it
		t.Fatal(err)
	}
	if _, err := CRL(t.Context(), ca, CRLSpec{}); err == nil {
		t.Fatal("no error")
	}
	if err := os.RemoveAll(ca.path(crlFile)); err != nil {
		t.Fatal(err)
	}
	wrong := ca
	wrong.Secret = pass("wrong")
	if _, err := CRL(t.Context(), wrong, CRLSpec{}); !errors.Is(err, keys.ErrWrongPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	a := makeCRL(t, ca).Number
	if err := os.WriteFile(ca.path(numberTxt), []byte("0001\n"), 0o600); err != nil { // put back by mistake
		t.Fatal(err)
	}
	b := makeCRL(t, ca).Number
	if b.Cmp(a) <= 0 {
		t.Errorf("number %x after %x", b, a)
	}
	for _, text := range []string{"", "xyz", "-5"} {
		if err := os.WriteFile(ca.path(numberTxt), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := CRL(t.Context(), ca, CRLSpec{}); err == nil {
			t.Errorf("crlnumber %q was taken", text)
		}
	}
}

func TestCRLRefusesToForget(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	serial := pki.SerialFromBig(signCA(t, ca).SerialNumber)
	if err := Revoke(t.Context(), ca, Revocation{Serial: serial, Reason: pki.Superseded}); err != nil {
		t.Fatal(err)
	}
	makeCRL(t, ca)
	earlier := ca
	earlier.Now = func() time.Time { return epoch.Add(-time.Hour) }
	if _, err := CRL(t.Context(), earlier, CRLSpec{}); fault.Of(err).Reason != "clock" {
		t.Errorf("a clock that runs late: %v", err)
	}
	if err := os.WriteFile(ca.path(indexFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CRL(t.Context(), ca, CRLSpec{}); fault.Of(err).Reason != "index" {
		t.Errorf("an index that forgot a revocation: %v", err)
	}
	if err := os.WriteFile(ca.path(crlFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CRL(t.Context(), ca, CRLSpec{}); err == nil {
		t.Error("a damaged list on disk was passed over")
	}
}

// failing is a key that cannot sign, and says so with err.
type failing struct {
	public crypto.PublicKey
	err    error
}

func (f failing) Public() crypto.PublicKey { return f.public }
func (f failing) SignContext(context.Context, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, f.err
}

// A serial that was certainly not used leaves the index, one that may have been
// used is entered as revoked.
func TestX16_SignCASettlesTheIndex(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"unsigned": {keys.ErrNotSigned, 0},
		"unknown":  {errors.New("the token was pulled"), 1},
	} {
		ca := newRoot(t, RootSpec{})
		chain, err := ca.Chain()
		if err != nil {
			t.Fatal(err)
		}
		i, err := issuer.NewOffline("root", chain, failing{chain[0].PublicKey, c.err}, rootLocations)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := CASpec{}.template(chain, request(t, newKey(t), caName), epoch)
		if err != nil {
			t.Fatal(err)
		}
		d, err := i.Draft(tmpl, pki.NewSerial())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.sign(t.Context(), i, d, tmpl); err == nil {
			t.Fatal("signed")
		}
		if list := makeCRL(t, ca); len(list.RevokedCertificateEntries) != c.want {
			t.Errorf("%s: %d entries on the next list: want %d", name, len(list.RevokedCertificateEntries), c.want)
		}
	}
}
