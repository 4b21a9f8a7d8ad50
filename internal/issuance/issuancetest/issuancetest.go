// Package issuancetest makes the smallest CA that a front-end can be tested over: a
// root, one issuing CA whose key a test can break, and the door.
package issuancetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// CA is a test's CA.
type CA struct {
	Pipeline *issuance.Pipeline
	Root     *x509.Certificate
	Issuing  *x509.Certificate
	Key      *Key
}

// Key is a CA key that a test can break.
type Key struct {
	Private *ecdsa.PrivateKey
	Broken  atomic.Pointer[error] // what it answers instead of a signature
	Used    atomic.Int64
}

// Public is the public key.
func (k *Key) Public() crypto.PublicKey { return &k.Private.PublicKey }

// SignContext signs, or fails with Broken.
func (k *Key) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.Used.Add(1)
	if err := k.Broken.Load(); err != nil {
		return nil, *err
	}
	return k.Private.Sign(rand.Reader, digest, opts)
}

// New makes the issuing CA of the given id in a store, with the built-in profiles
// and those given. change alters its certificate before the root signs it.
func New(
	t testing.TB, st *store.Store, now func() time.Time, id string, extra map[string]profile.Config,
	change ...func(*x509.Certificate),
) *CA {
	t.Helper()
	c := &CA{Key: &Key{Private: NewKey(t)}}
	rules := issuance.Rules{Profiles: map[string]*profile.Profile{}, CAs: c.put(t, st, now(), "root", id, change...)}
	configs := profile.BuiltIn()
	maps.Copy(configs, extra)
	var err error
	for name, cfg := range configs {
		if rules.Profiles[name], err = profile.Compile(name, cfg); err != nil {
			t.Fatal(err)
		}
	}
	c.Pipeline = issuance.New(issuance.Config{Store: st, Node: st.Node(), Now: now, Log: slog.New(slog.DiscardHandler)})
	c.Pipeline.Swap(rules)
	return c
}

// AddIssuer puts a second CA, with a root of its own, beside that of New. change
// is as for New.
func (c *CA) AddIssuer(
	t testing.TB, st *store.Store, now func() time.Time, id string, change ...func(*x509.Certificate),
) {
	t.Helper()
	other := &CA{Key: &Key{Private: NewKey(t)}}
	set := other.put(t, st, now(), "root-of-"+id, id, change...)
	c.Change(func(r *issuance.Rules) { r.CAs = ca.NewSet(append(slices.Clone(r.CAs.All()), set.All()...)...) })
}

// Change puts changed rules in force; the map of profiles is a copy.
func (c *CA) Change(f func(*issuance.Rules)) {
	rules := *c.Pipeline.Rules()
	rules.Profiles = maps.Clone(rules.Profiles)
	f(&rules)
	c.Pipeline.Swap(rules)
}

// put makes a root and an issuing CA, puts them on record, and returns their set.
func (c *CA) put(
	t testing.TB, st *store.Store, at time.Time, root, id string, change ...func(*x509.Certificate),
) *ca.Set {
	t.Helper()
	rootKey := NewKey(t)
	authority := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, IsCA: true,
			BasicConstraintsValid: true,
			NotBefore:             at.Add(-2 * time.Hour), NotAfter: at.AddDate(15-5*int(serial), 0, 0),
			KeyUsage:   x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			MaxPathLen: 2 - int(serial), MaxPathLenZero: true,
		}
	}
	c.Root = Certify(t, authority(1, "Test Root"), authority(1, "Test Root"), rootKey.Public(), rootKey)
	issuing := authority(2, "Test Issuing CA")
	for _, f := range change {
		f(issuing)
	}
	c.Issuing = Certify(t, issuing, c.Root, c.Key.Public(), rootKey)
	records := []store.IssuerRecord{
		ca.NewRecord(root, "", ca.OfflineRow, c.Root, at), ca.NewRecord(id, root, string(ca.Active), c.Issuing, at),
	}
	for _, r := range records {
		// A second node on one database finds the issuer of the first there.
		if err := st.PutIssuer(t.Context(), r); err != nil && !fault.Is(err, fault.Conflict) {
			t.Fatal(err)
		}
	}
	base := "http://ca.test/"
	set := ca.Build(ca.Inputs{
		Declared: []ca.Declaration{{ID: id, Locations: issuer.Locations{
			CRL: base + "crl/" + id + ".crl", OCSP: base + "ocsp/" + id, CAIssuers: base + "issuers/" + id + ".cer",
		}}},
		Records: records, Keys: map[string]issuer.Signer{id: c.Key}, Now: at,
	})
	if err := set.Get(id).Barred(); err != nil {
		t.Fatal(err)
	}
	return set
}

// NewKey returns a P-256 key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Certify signs template with the key given, in the name of parent: whether the key
// is the parent's is the test's business.
func Certify(
	t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer,
) *x509.Certificate {
	t.Helper()
	up := *parent
	up.PublicKey = nil
	return pkitest.Certify(t, template, &up, pub, key)
}
