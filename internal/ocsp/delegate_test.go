package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func keyFiles(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
	return found
}

func TestOCSP_O6_DelegateIsRenewed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l := newLab(t, s, "")
		d := l.delegated()
		h := l.serve(l.policy(func(p *Policy) { p.Validity = 20 * 24 * time.Hour }), d.Responder)
		der := l.ask(l.issue("a.example.test")).der()
		first, err := d.Responder()
		if err != nil {
			t.Fatal(err)
		}
		cert := first.Certificate()
		if len(cert.OCSPServer) != 0 || len(cert.CRLDistributionPoints) != 0 || cert.NotAfter.Sub(cert.NotBefore) > 31*24*time.Hour {
			t.Errorf("the responder certificate: %v %v, %v to %v", cert.OCSPServer, cert.CRLDistributionPoints, cert.NotBefore, cert.NotAfter)
		}
		old := read(t, get(h, der).Body.Bytes())

		// Another process of the same node takes over what it finds.
		again := NewDelegate(d.DelegateConfig)
		if err := again.Ensure(t.Context()); err != nil || again.NotAfter() != d.NotAfter() || len(keyFiles(t, d.Dir)) != 1 {
			t.Errorf("a second opening: %v, %v, %v", err, again.NotAfter(), keyFiles(t, d.Dir))
		}
		// Another node has its own.
		other := d.DelegateConfig
		other.Node, other.Dir = "node-2", filepath.Join(t.TempDir(), "ocsp")
		second := NewDelegate(other)
		if err := second.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, err := second.Responder(); err != nil || r.KeyHash() == first.KeyHash() {
			t.Errorf("another node shares the key: %v", err)
		}

		l.clock.jump(19 * 24 * time.Hour)
		if err := d.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, _ := d.Responder(); r.KeyHash() != first.KeyHash() {
			t.Error("renewed before its time")
		}
		l.clock.jump(2 * 24 * time.Hour)
		if err := d.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		next, err := d.Responder()
		if err != nil || next.KeyHash() == first.KeyHash() || !next.Certificate().NotAfter.After(cert.NotAfter.AddDate(0, 0, 19)) || len(keyFiles(t, d.Dir)) != 1 {
			t.Fatalf("not renewed: %v, %v", err, keyFiles(t, d.Dir))
		}
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		fresh := read(t, get(h, der).Body.Bytes())
		key := next.KeyHash()
		if !bytes.Equal(fresh.Responder, key[:]) || bytes.Equal(fresh.Responder, old.Responder) {
			t.Error("the successor does not sign")
		}
		// No answer outlives its signer.
		l.clock.jump(19 * 24 * time.Hour)
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		late := read(t, get(h, l.ask(l.issue("b.example.test")).der()).Body.Bytes())
		if n := late.Singles[0].Next; !n.Equal(next.Certificate().NotAfter) {
			t.Errorf("nextUpdate %v, the signer ends %v", n, next.Certificate().NotAfter)
		}
		l.clock.jump(20 * 24 * time.Hour)
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		if got := read(t, get(h, der).Body.Bytes()); got.Status != int(TryLater) {
			t.Errorf("signed by an expired responder: %+v", got)
		}
		l.holds()
	})
}

func TestDelegateThatCannotBeHad(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	d := NewDelegate(DelegateConfig{Pipeline: l.pipeline,
		Folder: owncert.Folder{IssuerID: caID, Node: "n", Dir: filepath.Join(t.TempDir(), "ocsp"), Store: l.store,
			Secret: func() ([]byte, error) { return []byte("x"), nil }, Now: l.clock.now, Log: quiet()}})
	h := l.serve(l.policy(), d.Responder)
	c := l.issue("a.example.test")
	down := errors.New("the token is gone")
	l.key.fail.Store(&down)
	if err := d.Ensure(t.Context()); err == nil || len(keyFiles(t, d.Dir)) != 0 {
		t.Errorf("without the CA's key: %v, %v", err, keyFiles(t, d.Dir))
	}
	if got := read(t, get(h, l.ask(c).der()).Body.Bytes()); got.Status != int(TryLater) {
		t.Errorf("without a responder: %+v", got)
	}
	l.key.fail.Store(nil)
	if err := d.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, get(h, l.ask(c).der()).Body.Bytes()); got.Status != 0 {
		t.Errorf("with one: %+v", got)
	}
	// A key that is lost is replaced.
	for _, f := range keyFiles(t, d.Dir) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	again := NewDelegate(d.DelegateConfig)
	if err := again.Ensure(t.Context()); err != nil || len(keyFiles(t, d.Dir)) != 1 {
		t.Errorf("a lost key: %v", err)
	}
	l.pipeline.Swap(issuance.Rules{Profiles: map[string]*profile.Profile{}})
	if err := NewDelegate(d.DelegateConfig).Ensure(t.Context()); err == nil {
		t.Error("a delegate of an issuer that is not there")
	}
}

// publish puts a list of the root into the store.
func (l *lab) publish(number int64, from, to time.Time, revoked ...x509.RevocationListEntry) {
	l.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: from, NextUpdate: to, RevokedCertificateEntries: revoked,
	}, l.root, l.rootKey)
	if err != nil {
		l.t.Fatal(err)
	}
	err = l.store.PutCRL(l.t.Context(), store.CRLRecord{IssuerID: "root", Number: number, ThisUpdate: from, NextUpdate: to, SHA256: sum(crypto.SHA256, der), Size: int64(len(der))}, number-1, bytes.NewReader(der))
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestOfflineCA(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	key := &signer{Signer: newKey(t, "")}
	r, err := issuer.NewResponder(l.root, respond(t, l.root, l.rootKey, key), key)
	if err != nil {
		t.Fatal(err)
	}
	h := l.serveAll(Authority{"root", Answers{
		l.policy(func(p *Policy) { p.Unknown = UnknownUnknown }), func() (*issuer.Responder, error) { return r, nil },
	}})
	ask := func(serial int64) parsed {
		t.Helper()
		return read(t, getPath(h, "/ocsp/root/"+pathOf(ask{ca: l.root, serials: []*big.Int{big.NewInt(serial)}}.der())).Body.Bytes())
	}
	if got := ask(0x1002); got.Status != int(TryLater) {
		t.Errorf("without a list: %+v", got)
	}
	now := time.Now().Truncate(time.Second)
	l.publish(1, now.Add(-time.Hour), now.Add(3*time.Hour))
	got := ask(0x1002).Singles
	if got[0].Status != "good" || !got[0].This.Equal(now.Add(-time.Hour)) || !got[0].Next.Equal(now.Add(3*time.Hour)) {
		t.Errorf("good: %+v", got)
	}
	if s := ask(99).Singles[0]; s.Status != "unknown" {
		t.Errorf("another CA: %+v", s)
	}
	l.publish(2, now.Add(-time.Minute), now.Add(3*time.Hour), x509.RevocationListEntry{
		SerialNumber: big.NewInt(0x1002), RevocationTime: now.Add(-time.Hour), ReasonCode: 2,
	})
	eventually(t, func() bool { s := ask(0x1002).Singles[0]; return s.Status == "revoked" && s.Reason == 2 })
	l.clock.jump(4 * time.Hour)
	eventually(t, func() bool { return h.fresh(l.clock.now()) })
	if got := ask(0x1002); got.Status != int(TryLater) {
		t.Errorf("with a list that has ended: %+v", got)
	}
}

// Swap keeps what a reload does not change.
func TestSwapKeepsAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	der := l.ask(l.issue("a.example.test")).der()
	get(h, der)
	same := Authority{caID, Answers{l.policy(), l.own()}}
	if err := l.swap(h, same); err != nil || h.Stats()[0].Kept != 1 {
		t.Errorf("%v, %+v", err, h.Stats())
	}
	same.Answer.Policy.Validity = time.Hour
	if err := l.swap(h, same); err != nil || h.Stats()[0].Kept != 0 || h.Stats()[0].Signed != 1 {
		t.Errorf("%v, %+v", err, h.Stats())
	}
	if s := read(t, get(h, der).Body.Bytes()).Singles[0]; s.Next.Sub(s.This) != time.Hour {
		t.Errorf("%+v", s)
	}
	if err := l.swap(h); err != nil || get(h, der).Code != 404 {
		t.Error("an authority that is gone still answers")
	}
}

// One key for all certificates, as in a token: it is made at first need, stays
// through renewals, and nothing is written to the folder.
func TestOCSP_O6_DelegateWithAKeyOfItsOwn(t *testing.T) {
	l := newLab(t, storetest.SQLite(t), "")
	cfg := l.delegated().DelegateConfig
	cfg.Dir = filepath.Join(t.TempDir(), "ocsp")
	at := func(path string) *owncert.Token {
		ref := keys.Ref("file:" + path)
		return &owncert.Token{Ref: ref, Open: func(ctx context.Context) (crypto.Signer, error) {
			return keys.Ensure(ctx, ref, "ec-p256", cfg.Secret, keys.Config{})
		}}
	}
	cfg.Token = at(filepath.Join(t.TempDir(), "service.key"))
	d := NewDelegate(cfg)
	if err := d.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := d.Responder()
	if err != nil {
		t.Fatal(err)
	}
	again := NewDelegate(cfg)
	if err := again.Ensure(t.Context()); err != nil || again.NotAfter() != d.NotAfter() {
		t.Errorf("a second opening: %v, %v", err, again.NotAfter())
	}
	l.clock.jump(21 * 24 * time.Hour)
	if err := d.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Responder(); err != nil || r.KeyHash() != first.KeyHash() || r.Certificate().Equal(first.Certificate()) {
		t.Errorf("after the renewal: %v", err)
	}
	if found := keyFiles(t, cfg.Dir); len(found) != 0 {
		t.Errorf("keys in the folder: %v", found)
	}
	cfg.Token = at(filepath.Join(t.TempDir(), "gone", "service.key"))
	if err := NewDelegate(cfg).Ensure(t.Context()); err == nil {
		t.Error("a key that cannot be made, and no error")
	}
}
