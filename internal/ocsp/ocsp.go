// Package ocsp answers whether certificates are revoked: RFC 6960 in the profile
// of RFC 9919, with its own codec.
//
// New returns a Server without authorities; Swap gives it some, Run follows the
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
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
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
	Cache  int // answers kept at most
}

// Authority is a CA about whose certificates the server answers.
type Authority struct {
	ID          string // its part of the path
	Certificate *x509.Certificate
	Policy      Policy
	// Offline says that its revocations are those of its newest list, not rows of
	// our own.
	Offline bool
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
	authorities atomic.Pointer[map[string]*authority]
	checked     atomic.Pointer[time.Time] // before the last look at the sequences
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
	s := &Server{Config: cfg, wake: make(chan struct{}, 1), redo: make(chan due, 64), slots: make(chan struct{}, inWork)}
	s.authorities.Store(&map[string]*authority{})
	return s
}

// authority is an Authority at work.
type authority struct {
	Authority
	signer  atomic.Pointer[func() (*issuer.Responder, error)]
	names   []issuerName
	cache   *cache
	counts  *counts
	flights flights
	logged  atomic.Int64 // when a failure was logged last, Unix seconds

	// mu orders what enters the cache and what changes remove from it.
	mu    sync.Mutex
	known int64 // the sequence up to which changes have been applied; unseen at first
}

const unseen = -1

// issuerName is how a CertID names the authority under one hash.
type issuerName struct {
	hash      crypto.Hash
	name, key []byte
}

// Swap puts other authorities in force. One that stays as it is keeps its
// answers.
func (s *Server) Swap(all []Authority) error {
	old, fresh := *s.authorities.Load(), map[string]*authority{}
	for _, a := range all {
		was := old[a.ID]
		if was != nil && was.Policy == a.Policy && was.Offline == a.Offline && bytes.Equal(was.Certificate.Raw, a.Certificate.Raw) {
			was.signer.Store(&a.Signer)
			fresh[a.ID] = was
			continue
		}
		made, err := newAuthority(a)
		if err != nil {
			return err
		}
		if was != nil {
			made.counts = was.counts
		}
		fresh[a.ID] = made
	}
	s.authorities.Store(&fresh)
	s.poke()
	return nil
}

func newAuthority(a Authority) (*authority, error) {
	key, err := issuer.PublicKeyBits(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP for %s: %w", a.ID, err)
	}
	made := &authority{Authority: a, cache: newCache(a.Policy.Cache), counts: &counts{}, known: unseen}
	made.signer.Store(&a.Signer)
	for _, h := range hashOIDs {
		made.names = append(made.names, issuerName{h.hash, sum(h.hash, a.Certificate.RawSubject), sum(h.hash, key)})
	}
	return made, nil
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
