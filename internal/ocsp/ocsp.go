// Package ocsp answers whether certificates are revoked: RFC 6960 in the profile
// of RFC 9919, with its own codec.
//
// New returns a Server without CAs; Swap gives it some, Run follows the
// revocations, and ServeHTTP answers POST and GET below /ocsp/{issuer}. Answers
// are signed at first use, kept, and signed anew in the background at half of
// their life, so that the key is off the path of nearly every request.
//
// What holds, on every node (invariant 6): good is said only of serials on
// record as issued; thisUpdate is the time before the record was read; an answer
// is kept only while the issuer's revocation sequence is the one under which it
// was made, or no later change concerns it; and a node whose last look at the
// sequences is more than a second old reads the record for each request.
//
// The package issues nothing but its own responder certificates, which pass
// through the door (Delegate). It writes no audit event.
package ocsp

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha1" //nolint:gosec // CertIDs name issuers by it; nothing rests on it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Mode is how an authority treats nonces.
type Mode string

// The modes. Presigned answers never carry a nonce (RFC 9919, section 3.2.1);
// Live signs the answer to a request with a nonce on the spot and repeats it
// (RFC 9654). Without a nonce both answer alike.
const (
	Presigned Mode = "presigned"
	Live      Mode = "live"
)

// UnknownPolicy is what is said of a serial that is not on record (rule O8).
type UnknownPolicy string

// The policies: an unsigned error, the status unknown, or revoked with the
// extended meaning of RFC 6960, section 2.2.
const (
	UnknownUnauthorized UnknownPolicy = "unauthorized"
	UnknownUnknown      UnknownPolicy = "unknown"
	UnknownRevoked      UnknownPolicy = "extended-revoked"
)

// Policy is how one authority is answered for.
type Policy struct {
	Mode          Mode
	Validity      time.Duration // from thisUpdate to nextUpdate
	Unknown       UnknownPolicy
	ArchiveCutoff time.Duration // how long records of expired certificates are kept; 0 does not say
	// Outage is how long after the last look at the database kept answers are
	// still given while it does not answer.
	Outage time.Duration
	Cache  int // octets of memory for kept answers
}

// Answers is how one CA is answered for.
type Answers struct {
	Policy Policy
	// Signer returns who signs now. An error means nobody.
	Signer func() (*issuer.Responder, error)
}

// Config is what a Server needs.
type Config struct {
	Store *store.Store
	// Changes tells of revocations as Store.Changes does, which is used when it is
	// nil.
	Changes func(ctx context.Context, each func(store.Change))
	Now     func() time.Time
	Log     *slog.Logger
	// Seen is told how long after a revocation this node stopped giving answers
	// that do not know it. May be nil.
	Seen func(issuerID string, after time.Duration)
}

// Server is the responder. Its methods may be called concurrently.
type Server struct {
	Config
	authorities atomic.Pointer[map[string]*authority] // by id, aliases too
	checked     atomic.Pointer[time.Time]             // before the last look at the sequences
	wake        chan struct{}
	redo        chan due
	slots       chan struct{} // one token for each answer that is being made
}

// inWork bounds how many answers are made at a time.
const inWork = 64

// New returns a Server that answers for nobody yet.
func New(cfg Config) *Server {
	if cfg.Changes == nil {
		cfg.Changes = cfg.Store.Changes
	}
	if cfg.Seen == nil {
		cfg.Seen = func(string, time.Duration) {}
	}
	s := &Server{Config: cfg, wake: make(chan struct{}, 1), redo: make(chan due, 64),
		slots: make(chan struct{}, inWork)}
	s.authorities.Store(&map[string]*authority{})
	return s
}

// authority is a CA that is answered for, at work.
type authority struct {
	ID      string
	Policy  Policy
	Offline bool // its revocations are those of its newest list, not rows of our own
	facts   atomic.Pointer[facts]
	names   []issuerName
	cache   *cache
	counts  *counts
	flights flights
	logged  atomic.Int64 // when a failure was logged last, Unix seconds

	// mu orders what enters the cache and what changes remove from it.
	mu    sync.Mutex
	known int64 // the sequence up to which changes have been applied; unseen at first
	// witness is the version of the store's witness that the answers agree with.
	witness int64
	// distrusted are delegates whose answers are given no more.
	distrusted map[pki.Serial]bool
}

// facts are what changes while an authority keeps its answers.
type facts struct {
	ids    []string // of the CA's rows: lists may be filed under any of them
	signer func() (*issuer.Responder, error)
	below  map[pki.Serial]time.Time // the certificates of the CAs below, and when they end
}

const unseen = -1

// issuerName is how a CertID names the authority under one hash.
type issuerName struct {
	hash      crypto.Hash
	name, key []byte
}

// Swap answers for the CAs of a set that are in answers, by id, from now on. One
// that stays as it is keeps its answers.
func (s *Server) Swap(all *ca.Set, answers map[string]Answers) error {
	old, fresh := *s.authorities.Load(), map[string]*authority{}
	for _, c := range all.All() {
		how, ok := answers[c.ID]
		if !ok || !c.Installed() {
			continue
		}
		made, err := newAuthority(c, how, all.Below(c))
		if err != nil {
			return err
		}
		if was := old[c.ID]; was != nil {
			made.counts = was.counts
			if was.Policy == made.Policy && was.Offline == made.Offline &&
				slices.EqualFunc(was.names, made.names, issuerName.equal) {
				was.facts.Store(made.facts.Load())
				made = was
			}
		}
		for _, id := range c.IDs() {
			fresh[id] = made
		}
	}
	s.authorities.Store(&fresh)
	s.poke()
	return nil
}

// each yields every authority once.
func (s *Server) each(yield func(*authority) bool) {
	for id, a := range *s.authorities.Load() {
		if id == a.ID && !yield(a) {
			return
		}
	}
}

func newAuthority(c *ca.CA, how Answers, below []*ca.CA) (*authority, error) {
	key, err := issuer.PublicKeyBits(c.Certificate())
	if err != nil {
		return nil, fmt.Errorf("OCSP for %s: %w", c.ID, err)
	}
	place, _ := c.KeyState()
	made := &authority{
		ID: c.ID, Policy: how.Policy, Offline: place == ca.KeyElsewhere,
		cache: newCache(how.Policy.Cache), counts: &counts{}, known: unseen,
	}
	known := &facts{ids: c.IDs(), signer: how.Signer, below: map[pki.Serial]time.Time{}}
	for _, b := range below {
		for _, cert := range b.Certificates() {
			if pki.SameName(cert.RawIssuer, c.Certificate().RawSubject) { // another one may be by another CA
				known.below[pki.SerialFromBig(cert.SerialNumber)] = cert.NotAfter
			}
		}
	}
	made.facts.Store(known)
	for _, h := range hashOIDs {
		made.names = append(made.names, issuerName{h.hash, sum(h.hash, c.Certificate().RawSubject), sum(h.hash, key)})
	}
	return made, nil
}

func (n issuerName) equal(o issuerName) bool {
	return n.hash == o.hash && bytes.Equal(n.name, o.name) && bytes.Equal(n.key, o.key)
}

func sum(h crypto.Hash, data []byte) []byte {
	w := h.New()
	w.Write(data)
	return w.Sum(nil)
}

// issued reports whether a CertID names this authority as the issuer.
func (a *authority) issued(c *CertID) bool {
	for i := range a.names {
		n := &a.names[i]
		if n.hash == c.Hash && bytes.Equal(n.key, c.KeyHash) && bytes.Equal(n.name, c.NameHash) {
			return true
		}
	}
	return false
}

// Distrust forgets the answers that a delegate of a CA has signed, and keeps none
// that it still signs: its certificate must not be used any more.
func (s *Server) Distrust(issuerID string, delegate *x509.Certificate) {
	a := (*s.authorities.Load())[issuerID]
	if a == nil {
		return
	}
	serial := pki.SerialFromBig(delegate.SerialNumber)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.distrusted == nil {
		a.distrusted = map[pki.Serial]bool{}
	}
	a.distrusted[serial] = true
	a.counts.removed.Add(int64(len(a.cache.remove(func(e *entry) bool { return e.signer == serial }))))
}

// poke makes Run look at the sequences now.
func (s *Server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fresh reports whether the last look at the sequences is recent enough to
// answer from memory.
func (s *Server) fresh(now time.Time) bool {
	checked := s.checked.Load()
	return checked != nil && now.Sub(*checked) <= maxAge
}
