package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

type key struct{ *ecdsa.PrivateKey }

func (k key) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.Sign(rand.Reader, digest, opts)
}

func newKey(t testing.TB) key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{k}
}

var now = time.Now().Truncate(time.Second)

// authority is a template of a CA's certificate, years long.
func authority(cn string, serial int64, years int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(years, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func certify(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, by key) *x509.Certificate {
	t.Helper()
	return pkitest.Certify(t, template, parent, pub, by)
}

// hierarchy is a root, renewed with the same key, and an issuing CA below it.
type hierarchy struct {
	rootKey, webKey        key
	root, renewed, issuing *x509.Certificate
	in                     ca.Inputs
}

func newHierarchy(t testing.TB) *hierarchy {
	t.Helper()
	h := &hierarchy{rootKey: newKey(t), webKey: newKey(t)}
	h.root = certify(t, authority("Root", 1, 20), authority("Root", 1, 20), h.rootKey.Public(), h.rootKey)
	h.renewed = certify(t, authority("Root", 2, 25), authority("Root", 2, 25), h.rootKey.Public(), h.rootKey)
	h.issuing = certify(t, authority("Web", 3, 10), h.root, h.webKey.Public(), h.rootKey)
	h.in = ca.Inputs{
		Declared: []ca.Declaration{{ID: "web-1", Pool: "web"}, {ID: "root-1", Offline: true}},
		Records: []store.IssuerRecord{
			ca.NewRecord("root-1", "", ca.OfflineRow, h.root, now),
			ca.NewRecord("web-1", "root-1", string(ca.Active), h.issuing, now),
		},
		Keys: map[string]issuer.Signer{"web-1": h.webKey}, Now: now,
	}
	return h
}

func TestACAThatSigns(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	s := ca.Build(h.in)
	web, root := s.Get("web-1"), s.Get("root-1")
	if err := web.MaySign(now); err != nil || web.Parent != root || web.Service() != "web" {
		t.Fatalf("%+v: %v", web, err)
	}
	if got, err := s.Candidates("web", false, now); err != nil || len(got) != 1 || got[0] != web {
		t.Errorf("candidates of the pool: %v, %v", got, err)
	}
	if place, _ := root.KeyState(); place != ca.KeyElsewhere || root.Barred() == nil {
		t.Errorf("the root: key %s, barred %v", place, root.Barred())
	}
	if below := s.Below(root); len(below) != 1 || below[0] != web {
		t.Errorf("below the root: %v", below)
	}
	if err := web.MaySign(now.AddDate(11, 0, 0)); fault.Of(err).Reason != "issuer_expired" {
		t.Errorf("after its end: %v", err)
	}
	before := h.issuing.NotBefore.Add(-time.Hour)
	if err := web.MaySign(before); err == nil || fault.Of(err).Reason != "issuer_not_yet_valid" {
		t.Errorf("before it begins: %v", err)
	}
	if trust := web.Trust(now.AddDate(11, 0, 0)); trust.State != ca.Expired || !trust.Since.Equal(h.issuing.NotAfter) {
		t.Errorf("after its end: %+v", trust)
	}
}

// TestMaySign: each fact by itself bars a CA, with a reason of its own.
func TestMaySign(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(h *hierarchy)
		reason string
	}{
		"declared only": {func(h *hierarchy) { h.in.Records = h.in.Records[:1] }, "no_issuer"},
		"key lost": {func(h *hierarchy) {
			h.in.Keys, h.in.Lost = nil, map[string]error{"web-1": errors.New("CKR_TOKEN_NOT_PRESENT")}
		}, "no_issuer"},
		"not in the file":  {func(h *hierarchy) { h.in.Declared = h.in.Declared[1:] }, "issuer_without_key"},
		"draining":         {func(h *hierarchy) { h.in.Records[1].State = "draining" }, "issuer_replaced"},
		"retired":          {func(h *hierarchy) { h.in.Records[1].State = "retired" }, "issuer_replaced"},
		"parent missing":   {func(h *hierarchy) { h.in.Records = h.in.Records[1:] }, "issuer_pending"},
		"another's key":    {func(h *hierarchy) { h.in.Keys["web-1"] = h.rootKey }, "issuer_pending"},
		"unreadable":       {func(h *hierarchy) { h.in.Records[1].Certificate = []byte("x") }, "issuer_pending"},
		"revoked above":    {func(h *hierarchy) { h.in.Revoked = map[string]ca.Trust{"web-1": {State: ca.Revoked, Why: "stolen"}} }, "issuer_revoked"},
		"cross of another": {func(h *hierarchy) { h.in.Declared[0].Cross = [][]*x509.Certificate{{h.root}} }, "issuer_pending"},
	} {
		h := newHierarchy(t)
		tt.change(h)
		s := ca.Build(h.in)
		c := s.Get("web-1")
		if c == nil {
			t.Errorf("%s: it is gone", name)
			continue
		}
		err := c.MaySign(now)
		if err == nil || fault.Of(err).Reason != tt.reason {
			t.Errorf("%s: %v, want the reason %s", name, err, tt.reason)
		}
		if name == "declared only" && !strings.Contains(fault.Text(err), "has no certificate yet") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Candidates("web-1", false, now); err == nil || fault.Of(err).Reason != tt.reason {
			t.Errorf("%s: candidates: %v", name, err)
		}
	}
}

// TestFT4_ABrokenCAStopsNobody: beside a good one, at start and when rows are
// followed, and it leaves no row behind when it comes by the configuration.
func TestFT4_ABrokenCAStopsNobody(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	weak := authority("Broken", 9, 5)
	weak.KeyUsage = x509.KeyUsageDigitalSignature
	broken := certify(t, weak, h.root, newKey(t).Public(), h.rootKey)
	h.in.Declared = append(h.in.Declared, ca.Declaration{ID: "broken-1", Initial: []*x509.Certificate{broken, h.root}})
	s := ca.Build(h.in)
	if s.Get("web-1").MaySign(now) != nil || s.Get("broken-1").Pending == nil || len(s.Fresh()) != 0 {
		t.Errorf("beside a broken one: %v; it: %v; rows %v",
			s.Get("web-1").MaySign(now), s.Get("broken-1").Pending, s.Fresh())
	}
	h.in.Records = append(h.in.Records, ca.NewRecord("broken-1", "root-1", "active", broken, now))
	if s = ca.Build(h.in); s.Get("web-1").MaySign(now) != nil || s.Get("broken-1").Pending == nil {
		t.Errorf("as a row: %v", s.Get("broken-1").Pending)
	}
	before := ca.Build(newHierarchy(t).in)
	if err := before.Regress(s, now); err != nil {
		t.Errorf("a reload beside one that was installed broken: %v", err)
	}
	h.in.Records = h.in.Records[:2]
	brought := ca.Build(h.in)
	if err := before.Regress(brought, now); err == nil || !strings.Contains(err.Error(), "broken-1") {
		t.Errorf("a reload that brings a broken one: %v", err)
	}
	if err := brought.Regress(brought, now); err != nil {
		t.Errorf("a reload after a start with it: %v", err)
	}
	good := ca.Build(h.in)
	h.in.Records[1].Certificate = broken.Raw
	if err := good.Regress(ca.Build(h.in), now); err == nil || !strings.Contains(err.Error(), "web-1") {
		t.Errorf("a reload that breaks one that signs: %v", err)
	}
}

// TestNotTakenIn: rows and declarations that contradict each other leave their CA
// pending, and nobody else.
func TestNotTakenIn(t *testing.T) {
	t.Parallel()
	other := newHierarchy(t)
	for name, tt := range map[string]struct {
		spoil func(h *hierarchy)
		id    string
		why   string
	}{
		"an id that has another key": {func(h *hierarchy) {
			h.in.Declared[0].Initial = []*x509.Certificate{other.issuing, other.root}
		}, "web-1", "the database knows this name with another key"},
		"a CA above whose id has another key": {func(h *hierarchy) {
			h.in.Declared[1].Initial = []*x509.Certificate{other.root}
			h.in.Declared = append(h.in.Declared, ca.Declaration{
				ID: "web-3", Initial: []*x509.Certificate{other.issuing, other.root},
			})
		}, "web-3", "root-1, above it: the database knows this name with another key"},
		"a parent that is not there": {func(h *hierarchy) {
			h.in.Records[1].ParentID = "gone"
		}, "web-1", "its parent gone is not installed"},
		"parents in a circle": {func(h *hierarchy) {
			h.in.Records[0].ParentID = "web-1"
		}, "web-1", "the CAs above it form a circle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHierarchy(t)
			tt.spoil(h)
			s := ca.Build(h.in)
			if err := s.Get(tt.id).Pending; err == nil || !strings.HasPrefix(err.Error(), tt.why) {
				t.Errorf("%v, want %s", err, tt.why)
			}
			if web := s.Get("web-1"); tt.id != "web-1" && web.MaySign(now) != nil {
				t.Errorf("web-1: %v", web.MaySign(now))
			}
		})
	}
}

// TestAReloadThatLosesAKey: it is refused unless another CA of the pool signs.
func TestAReloadThatLosesAKey(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	before := ca.Build(h.in)
	delete(h.in.Keys, "web-1")
	h.in.Lost = map[string]error{"web-1": errors.New("no such file")}
	if err := before.Regress(ca.Build(h.in), now); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("nobody takes over: %v", err)
	}
	k := newKey(t)
	beside := certify(t, authority("Web B", 5, 10), h.root, k.Public(), h.rootKey)
	h.in.Declared = append(h.in.Declared, ca.Declaration{ID: "web-b", Pool: "web"})
	h.in.Records = append(h.in.Records, ca.NewRecord("web-b", "root-1", string(ca.Active), beside, now))
	h.in.Keys["web-b"] = k
	if err := before.Regress(ca.Build(h.in), now); err != nil {
		t.Errorf("another one of the pool signs: %v", err)
	}
}

// list files a list of the root under an id.
func list(t testing.TB, s *store.Store, h *hierarchy, id string, number int64, serials ...*big.Int) {
	t.Helper()
	listFor(t, s, h, id, number, pki.KeyCompromise, serials...)
}

func listFor(
	t testing.TB, s *store.Store, h *hierarchy, id string, number int64, reason pki.Reason, serials ...*big.Int,
) {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.AddDate(0, 1, 0)}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: now, ReasonCode: int(reason),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, h.root, h.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	err = s.PutCRL(t.Context(), store.CRLRecord{
		IssuerID: id, Number: number, ThisUpdate: now, NextUpdate: now.AddDate(0, 1, 0),
		SHA256: sum[:], Size: int64(len(der)),
	}, 0, bytes.NewReader(der))
	if err != nil {
		t.Fatal(err)
	}
}

// TestFT3_AListHoldsForNameAndKey: a root renewed with the same key is one CA under
// two ids, and a list filed under either revokes what is below.
func TestFT3_AListHoldsForNameAndKey(t *testing.T) {
	t.Parallel()
	for _, filed := range []string{"root-1", "ca-renewed"} {
		for _, parent := range []string{"root-1", "ca-renewed"} {
			t.Run(filed+" above "+parent, func(t *testing.T) {
				t.Parallel()
				h, s := newHierarchy(t), storetest.SQLite(t)
				h.in.Records[1].ParentID = parent
				h.in.Records = slices.Insert(h.in.Records, 1, ca.NewRecord("ca-renewed", "", ca.OfflineRow, h.renewed, now))
				for _, r := range h.in.Records {
					if err := s.PutIssuer(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				set := ca.Build(h.in)
				root := set.Get("root-1")
				if root != set.Get("ca-renewed") || len(root.Certificates()) != 2 || root.Aliases[0] != "ca-renewed" {
					t.Fatalf("the root is %+v", root)
				}
				w := ca.Watch{Store: s}
				if revoked, err := w.Look(t.Context(), set); err != nil || len(revoked) != 0 {
					t.Fatalf("without a list: %v, %v", revoked, err)
				}
				list(t, s, h, filed, 1, h.issuing.SerialNumber)
				revoked, err := w.Look(t.Context(), set)
				if err != nil || revoked["web-1"].State != ca.Revoked || !strings.Contains(revoked["web-1"].Why, "keyCompromise") {
					t.Fatalf("%v, %v", revoked, err)
				}
				next := set.With(revoked)
				if err := next.Get("web-1").MaySign(now); err == nil || fault.Of(err).Reason != "issuer_revoked" {
					t.Errorf("it may sign: %v", err)
				}
				if set.Get("web-1").MaySign(now) != nil {
					t.Error("a set was changed")
				}
				if back := next.With(nil).Get("web-1").MaySign(now); back != nil {
					t.Errorf("after the hold: %v", back)
				}
			})
		}
	}
}

// TestRevokedAboveTheParent: what is below a revoked CA is revoked with it.
func TestRevokedAboveTheParent(t *testing.T) {
	t.Parallel()
	h, s := newHierarchy(t), storetest.SQLite(t)
	leafKey := newKey(t)
	leaf := certify(t, authority("Leaf CA", 7, 5), h.issuing, leafKey.Public(), h.webKey)
	h.in.Records = append(h.in.Records, ca.NewRecord("leaf-1", "web-1", "active", leaf, now))
	h.in.Declared = append(h.in.Declared, ca.Declaration{ID: "leaf-1"})
	for _, r := range h.in.Records {
		if err := s.PutIssuer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	set := ca.Build(h.in)
	list(t, s, h, "root-1", 1, h.issuing.SerialNumber)
	revoked, err := (&ca.Watch{Store: s}).Look(t.Context(), set)
	if err != nil || revoked["leaf-1"].State != ca.Revoked || revoked["web-1"].State != ca.Revoked {
		t.Errorf("%v, %v", revoked, err)
	}
}

// TestGenerations: a successor that can sign replaces the former one; one that is
// too early, weak or without its key does not.
func TestGenerations(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	k2 := newKey(t)
	next := certify(t, authority("Web 2", 4, 10), h.root, k2.Public(), h.rootKey)
	h.in.Declared = append(h.in.Declared, ca.Declaration{ID: "web-2", Pool: "web", Succeeds: "web-1"})
	h.in.Records = append(h.in.Records, ca.NewRecord("web-2", "root-1", "active", next, now))
	if s := ca.Build(h.in); s.Get("web-1").Former() || len(s.Replaced()) != 0 {
		t.Error("replaced by one whose key is not there")
	}
	h.in.Keys["web-2"] = k2
	s := ca.Build(h.in)
	if !s.Get("web-1").Former() || !slices.Equal(s.Replaced(), []string{"web-1"}) || s.Get("web-2").Generation != 2 {
		t.Errorf("former %v, replaced %v, generation %d", s.Get("web-1").Former(), s.Replaced(), s.Get("web-2").Generation)
	}
	if got, err := s.Candidates("web", false, now); err != nil || len(got) != 1 || got[0].ID != "web-2" {
		t.Errorf("candidates %v, %v", got, err)
	}
	if got, err := s.Candidates("web-1", true, now); err != nil || len(got) != 1 {
		t.Errorf("its responders: %v, %v", got, err)
	}
	h.in.Now = next.NotBefore.Add(-time.Minute)
	if s := ca.Build(h.in); s.Get("web-1").Former() || !s.Next().Equal(next.NotBefore) {
		t.Errorf("before its time: former %v, next %s", s.Get("web-1").Former(), s.Next())
	}
}

// TestAForeignRowOfOurName: a declared issuer whose name and key another id has is
// not a second series of lists.
func TestAForeignRowOfOurName(t *testing.T) {
	t.Parallel()
	h := newHierarchy(t)
	h.in.Declared = append(h.in.Declared, ca.Declaration{ID: "twin", Initial: []*x509.Certificate{h.issuing, h.root}})
	h.in.Keys["twin"] = h.webKey
	s := ca.Build(h.in)
	if c := s.Get("twin"); c.Pending == nil || s.Get("web-1").MaySign(now) != nil {
		t.Errorf("twin: %v; web-1: %v", c.Pending, s.Get("web-1").MaySign(now))
	}
}
