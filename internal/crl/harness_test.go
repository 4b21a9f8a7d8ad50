package crl_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authorities "github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now().UTC().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// ca is a root, an issuing CA under it, and a store that has both.
type ca struct {
	t       testing.TB
	clock   *clock
	store   *store.Store
	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey
	cert    *x509.Certificate
	key     *signer
	config  crl.Config
	urls    issuer.Locations
}

// signer is the issuing CA's key, which a test can break.
type signer struct {
	*ecdsa.PrivateKey
	before func() error
	after  func() // of a signature that was made
}

// SignContext signs a digest.
func (s *signer) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return nil, err
		}
	}
	sig, err := s.Sign(rand.Reader, digest, opts)
	if s.after != nil {
		s.after()
	}
	return sig, err
}

const id = "web-1"

func newCA(t testing.TB, s *store.Store) *ca {
	t.Helper()
	c := &ca{t: t, clock: newClock(), store: s, config: crl.Config{}.Complete(), urls: issuer.Locations{
		CRL: "http://ca.test/crl/web-1.crl", OCSP: "http://ca.test/ocsp/web-1",
	}}
	now := c.clock.now()
	c.rootKey = issuancetest.NewKey(t)
	template := &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c.root = issuancetest.Certify(t, template, template, c.rootKey.Public(), c.rootKey)
	c.key = &signer{PrivateKey: issuancetest.NewKey(t)}
	c.cert = issuancetest.Certify(t, &x509.Certificate{
		SerialNumber: pki.NewSerial().Big(), Subject: pkix.Name{CommonName: "Issuing"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		CRLDistributionPoints: []string{"http://ca.test/crl/root.crl"},
	}, c.root, c.key.Public(), c.rootKey)
	for _, r := range []store.IssuerRecord{
		{ID: "root", Name: "root", State: "offline", Certificate: c.root.Raw, NotAfter: c.root.NotAfter, CreatedAt: now},
		{ID: id, Name: "web", Generation: 1, State: "active", ParentID: "root", Certificate: c.cert.Raw, NotAfter: c.cert.NotAfter, CreatedAt: now},
	} {
		check(t, s.PutIssuer(t.Context(), r))
	}
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is one server's Publisher.
type node struct {
	*crl.Publisher
	dir  string
	log  *bytes.Buffer
	seen []crl.Event
}

// node returns a publisher over the store s with a folder of its own.
func (c *ca) node(s *store.Store, dir string) *node {
	c.t.Helper()
	n := &node{dir: dir, log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(n.log, nil))
	var mu sync.Mutex
	p, err := crl.New(crl.Deps{
		Store: s, Leases: lease.New(s, s.Node(), c.clock.now, log), Dir: dir, Now: c.clock.now, Log: log,
		Observe: func(e crl.Event) {
			mu.Lock()
			defer mu.Unlock()
			n.seen = append(n.seen, e)
		},
	})
	check(c.t, err)
	n.Publisher = p
	c.swap(n)
	return n
}

// swap puts the CA's configuration in force.
func (c *ca) swap(n *node) {
	c.t.Helper()
	c.urls.Shards = c.config.Shards
	same := store.IssuerChange{ID: id, Name: "web", Generation: 1, Shards: c.config.Shards, From: "active", To: "active"}
	check(c.t, c.store.ChangeIssuers(c.t.Context(), nil, []store.IssuerChange{same}))
	records, err := c.store.Issuers(c.t.Context())
	check(c.t, err)
	set := authorities.Build(authorities.Inputs{
		Declared: []authorities.Declaration{
			{ID: "root", Offline: true, Locations: issuer.Locations{CRL: "http://ca.test/crl/root.crl"}},
			{ID: id, Locations: c.urls},
		},
		Records: records, Keys: map[string]issuer.Signer{id: c.key}, Now: c.clock.now(),
	})
	if set.Get(id).Issuer() == nil {
		c.t.Fatal(set.Get(id).Barred())
	}
	n.Swap(set, map[string]crl.Config{id: c.config})
}

// round looks once at what is due, and builds it.
func (n *node) round(t testing.TB) {
	t.Helper()
	check(t, n.Round(t.Context(), func(work func()) { work() }))
	t.Log(n.log.String())
}

// certificate is one of the issuing CA that lives that long.
func (c *ca) certificate(life time.Duration) store.Certificate {
	now, serial := c.clock.now(), pki.NewSerial()
	return store.Certificate{
		ID: store.NewID(), IssuerID: id, Serial: serial, Node: "node-1", Profile: "tls-server", Requester: "uid:0",
		Subject: "CN=x", NotBefore: now.Add(min(life, 0)), NotAfter: now.Add(life), TBS: []byte("tbs"),
		Origin: "request:" + store.NewID(),
		Shard:  c.urls.Shard(serial), ReservedAt: now, KeyHash: []byte(serial),
	}
}

// issued is a certificate in the store that lives that long.
func (c *ca) issued(life time.Duration) store.Certificate {
	c.t.Helper()
	cert, ev := c.certificate(life), event(c)
	check(c.t, c.store.Reserve(c.t.Context(), cert, nil, ev))
	check(c.t, c.store.Complete(c.t.Context(), cert.ID, []byte("der"), c.clock.now(), ev))
	return cert
}

func (c *ca) revoke(cert store.Certificate, reason pki.Reason) {
	c.t.Helper()
	now := c.clock.now()
	check(c.t, c.store.Revoke(c.t.Context(), cert.ID, store.Revocation{Reason: reason, RevokedAt: now, Requester: "uid:0"}, false,
		store.Event{At: now, Action: "certificate.revoked", Outcome: "success", Actor: "test"}))
}

// revoked is issued and revoke at once.
func (c *ca) revoked(reason pki.Reason) store.Certificate {
	c.t.Helper()
	cert := c.issued(90 * 24 * time.Hour)
	c.revoke(cert, reason)
	return cert
}

// get fetches a list as a client does.
func (n *node) get(name string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, "/crl/"+name+".crl", nil)
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	if err := n.Serve(w, r, name); err != nil {
		code := http.StatusNotFound
		if fault.Is(err, fault.Unavailable) {
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, err.Error())
	}
	return w.Result()
}

// list returns the list that a node serves, parsed and verified.
func (n *node) list(t testing.TB, c *ca, name string) *x509.RevocationList {
	t.Helper()
	resp := n.get(name)
	der, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("list %s: %d %s", name, resp.StatusCode, der)
	}
	l, err := x509.ParseRevocationList(der)
	check(t, err)
	by := c.cert
	if name == "root" {
		by = c.root
	}
	check(t, l.CheckSignatureFrom(by))
	return l
}

// has reports the reason under which a list has a serial, -1 if it does not.
func has(l *x509.RevocationList, cert store.Certificate) int {
	for _, e := range l.RevokedCertificateEntries {
		if pki.SerialFromBig(e.SerialNumber) == cert.Serial {
			return e.ReasonCode
		}
	}
	return -1
}

func wantReason(t testing.TB, err error, reason string) {
	t.Helper()
	var all []string
	for _, e := range flatten(err) {
		all = append(all, fault.Of(e).Reason)
	}
	if !strings.Contains(strings.Join(all, " "), reason) {
		t.Errorf("got %v, want a fault of the reason %s", err, reason)
	}
}

func flatten(err error) []error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return many.Unwrap()
	}
	return []error{err}
}

func event(c *ca) store.Event {
	return store.Event{At: c.clock.now(), Action: "test", Outcome: "success", Actor: "test"}
}
