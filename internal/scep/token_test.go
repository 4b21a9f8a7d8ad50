package scep

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/store"
)

// token holds the key of an RA, and can be lost.
type token struct {
	*rsa.PrivateKey
	lost bool
}

func (k *token) Decrypt(r io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if k.lost {
		return nil, fault.New(fault.Unavailable, "the token is away").After(time.Second)
	}
	return k.PrivateKey.Decrypt(r, msg, opts)
}

func newToken(t *testing.T) *token {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &token{PrivateKey: key}
}

// TestSCEP_S9_S10_RAKeyInAToken: the key stays where it is, through renewals; a
// token that is lost gives 503 and no CertRep; one that has another key gets
// another certificate.
func TestSCEP_S9_S10_RAKeyInAToken(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	var missing error
	ep := func(ep *Endpoint) {
		ep.RAKeyRef = "pkcs11:token=lab;object=ra"
		ep.Token = func(context.Context) (PrivateKey, error) { return k, missing }
	}
	e := newEnv(t, ep)
	first := e.ra()
	if !k.PublicKey.Equal(first.PublicKey) {
		t.Fatal("the RA's key is not the token's")
	}
	newDevice(t, 0).enrol(t, e, "dev-1")

	k.lost = true
	d := newDevice(t, 1)
	if w := e.post(d.wrap(t, e, message{typ: "19", transaction: "lost", content: d.csr(t, "dev-2", testSecret)})); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("the token is lost: %d %v", w.Code, w.Header())
	}
	k.lost = false
	d.enrol(t, e, "dev-2")

	e.sleep(first.NotAfter.Sub(first.NotBefore)*2/3 + time.Hour)
	if err := e.server.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := e.ra(); now.Equal(first) || !k.PublicKey.Equal(now.PublicKey) {
		t.Error("the renewed RA certificate has another key")
	}
	missing = errors.New("no token")
	restarted, err := New([]Endpoint{e.server.current()["default"].Endpoint}, e.server.Deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := restarted.Renew(t.Context()); err == nil {
		t.Error("no token, and no error")
	}
	missing, k = nil, newToken(t)
	if err := restarted.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := restarted.current()["default"].ras.list(); len(now) != 1 || !k.PublicKey.Equal(now[0].decrypt.cert.PublicKey) {
		t.Errorf("%d RAs after the token has another key", len(now))
	}
	both := e.server.current()["default"].Endpoint
	both.SeparateRAKeys = true
	if _, err := New([]Endpoint{both}, e.server.Deps); err == nil {
		t.Error("two RA keys in one token were taken")
	}
}

// TestSCEP_S7_PoolBundle: a pool's endpoint hands out all CAs that may sign, that
// of the RA's own issuer first, and keeps its RA while that issuer's key is lost.
func TestSCEP_S7_PoolBundle(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(ep *Endpoint) { ep.Issuer = "pool" })
	if e.get("operation=GetCACert").Code != 503 {
		t.Error("there is no issuer, and GetCACert answers")
	}
	rootKey, second := issuancetest.NewKey(t), &issuancetest.Key{Private: issuancetest.NewKey(t)}
	authority := func(like *x509.Certificate, cn string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: like.NotBefore, NotAfter: like.NotAfter, KeyUsage: like.KeyUsage, MaxPathLen: like.MaxPathLen, MaxPathLenZero: true,
		}
	}
	root := issuancetest.Certify(t, authority(e.root, "Other Root", 11), authority(e.root, "Other Root", 11), rootKey.Public(), rootKey)
	other := issuancetest.Certify(t, authority(e.ca, "Second Issuing CA", 12), root, second.Public(), rootKey)
	for id, c := range map[string]*x509.Certificate{"root-2": root, "ca-2": other} {
		parent := map[string]string{"ca-2": "root-2"}[id]
		if err := e.store.PutIssuer(t.Context(), store.IssuerRecord{
			ID: id, Name: id, Generation: 1, State: "active", ParentID: parent, Certificate: c.Raw, NotAfter: c.NotAfter, CreatedAt: time.Now(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := issuer.New("ca-2", []*x509.Certificate{other, root}, second, issuer.Locations{
		CRL: "http://ca.test/crl/ca-2.crl", OCSP: "http://ca.test/ocsp/ca-2", CAIssuers: "http://ca.test/issuers/ca-2.cer",
	})
	if err != nil {
		t.Fatal(err)
	}
	rules := *e.pipeline.Rules()
	first := rules.CAs.Get("ca").Issuer()
	stage := ca.Active
	swap := func() *x509.Certificate {
		t.Helper()
		one, two := ca.Of(first), ca.Of(made)
		one.Pool, two.Pool, one.Stage = "pool", "pool", stage
		rules.CAs = ca.NewSet(one, two)
		e.pipeline.Swap(rules)
		if err := e.server.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		bag, err := cms.ParseSignedData(e.get("operation=GetCACert").Body.Bytes(), cms.Limits{})
		if err != nil || len(bag.Certificates) != 3 {
			t.Fatalf("bundle %v, %v", bag, err)
		}
		if bag.Certificates[0].CheckSignatureFrom(bag.Certificates[1]) != nil {
			t.Error("the CA after the RA is not the RA's")
		}
		return bag.Certificates[0]
	}
	ra := swap()
	lost := errors.New("away")
	e.caKey.Broken.Store(&lost)
	if again := swap(); !again.Equal(ra) {
		t.Error("another RA although only its issuer's key is lost")
	}
	newDevice(t, 0).enrol(t, e, "dev-1")
	// A generation that drains certifies the RA no more.
	stage = ca.Draining
	next := swap()
	if next.Equal(ra) {
		e.sleep(publishAfter)
		next = swap()
	}
	if next.Equal(ra) || next.CheckSignatureFrom(other) != nil {
		t.Error("the RA of a former issuer was not replaced")
	}
}
