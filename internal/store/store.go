// Package store keeps the records of the certificate authority: issuers,
// certificates, accounts, orders, audit events and what belongs to them, on
// PostgreSQL or on SQLite, with one text of SQL for both.
//
// Open returns a *Store. Reads go to a pool. Everything that belongs to one act
// is one grouped write: its statements and its audit events are committed
// together by the node's one committer, which serves all callers that arrived
// while the last commit was in flight (see committer.go). A call that returns nil is
// durable. State moves by compare-and-swap; the loser gets a fault.
//
// The store decides no policy. It holds secrets only in the sealed form that its
// callers hand it, and it reads the clock only for what it was not told.
package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// ErrNotFound is what reads return for a row that does not exist.
var ErrNotFound = errors.New("not in the store")

// ErrCorrupt marks a row that cannot be read whatever one does.
var ErrCorrupt = errors.New("the row is not as it was written")

// ErrOutcomeUnknown marks a write whose commit was sent but not answered: it may
// or may not be durable. It comes wrapped in fault.Unavailable.
var ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")

// Config says which database a node uses and as whom it writes.
type Config struct {
	// URL is "sqlite:PATH" or "postgres://USER@HOST/DATABASE". A password belongs
	// into the URL or the environment of the process, never into a log.
	URL string
	// Node names this process in audit chains and reservations. Two processes on
	// one database have different names.
	Node string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	cfg       Config
	engine    engine
	committer *committer
	nonces    *nonceSet // nil where nonces are rows
	watchers  watchers
	witness   atomic.Pointer[testimony]
	commits   atomic.Int64
	rows      atomic.Int64
}

// Open connects to the database that cfg names. It does not look at the schema:
// see Migrate and CheckSchema.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the default clock of the wiring
	}
	if cfg.Node == "" {
		return nil, errors.New("open store: the node needs a name")
	}
	s := &Store{cfg: cfg}
	var err error
	switch scheme, rest, _ := strings.Cut(cfg.URL, ":"); scheme {
	case "sqlite":
		s.nonces = newNonceSet()
		s.engine, err = openSQLite(ctx, rest)
	case "postgres", "postgresql":
		s.engine, err = openPostgres(ctx, cfg.URL)
	default:
		err = errors.New("database: want sqlite:PATH or postgres://…")
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.committer = newCommitter(s)
	return s, nil
}

// Close waits for the writes that were accepted, refuses new ones and closes the
// database.
func (s *Store) Close() error {
	s.committer.close()
	return s.engine.close()
}

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	return s.queryRow(ctx, "ping database", `SELECT 1`, nil, new(int64))
}

// Stats counts what this store has committed since it was opened.
type Stats struct {
	Commits int64 // transactions, each for one caller or more
	Rows    int64 // rows inserted, changed or deleted in them
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	return Stats{Commits: s.commits.Load(), Rows: s.rows.Load()}
}

// Node returns the name under which the store writes.
func (s *Store) Node() string { return s.cfg.Node }

// NewID returns a UUIDv7 (RFC 9562, section 5.7): ids sort by the time at which
// they were made, to about a quarter of a millisecond.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])           // never fails
	micros := time.Now().UnixMicro() //nolint:forbidigo // an id's time is not a decision
	binary.BigEndian.PutUint64(b[:8], uint64(micros/1000)<<16|uint64(micros%1000)<<2|uint64(b[7]&3))
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
