// Package crl publishes revocation lists: it decides when each list is due,
// builds it, guards what was published before, keeps the newest of each on this
// node's disk and serves it from there. Lists of CAs whose keys are elsewhere are
// imported.
//
// It holds invariant 5: numbers only rise, a list never drops an entry that has
// not expired, and nothing older than what is on disk is ever served. What would
// break that is refused and said aloud, and the last good list stays.
//
// Start with New; Swap tells it which CAs there are, Run does the rest. One node
// at a time builds an issuer's lists, under a lease; the others fetch them from
// the store. Serve answers HTTP requests; Publish, Import and Lists are the
// operator's.
package crl

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/store"
)

// authority is a CA whose lists are published here: made where its key is, or else
// imported.
type authority struct {
	*ca.CA
	Config Config
}

// imported reports whether the CA's lists are made elsewhere. Those of a CA whose
// key is lost are not: they are made again when it is back.
func (a *authority) imported() bool {
	place, _ := a.KeyState()
	return place == ca.KeyElsewhere
}

// Event tells an observer how one attempt to publish a list ended.
type Event struct {
	Issuer    string
	Kind      string // "full", "shard", "delta" or "imported"
	Outcome   string // "published", "refused", "unavailable" or "error"
	Took      time.Duration
	Latencies []time.Duration // from each new revocation to the list that has it; a sample if there are very many
}

// Deps is what a Publisher stands on.
type Deps struct {
	Store   *store.Store
	Leases  *lease.Leases
	Dir     string // where this node keeps its lists; nobody else writes there
	Now     func() time.Time
	Log     *slog.Logger
	Observe func(Event) // may be nil
}

// How long things take.
const (
	pollEvery  = 500 * time.Millisecond // how soon another node's list is seen
	leaseTime  = time.Minute
	retryAfter = 30 * time.Second // after a list could not be published
	breather   = 9                // an immediate list is followed by that many times its own duration of rest
)

// Publisher publishes lists. It is safe for concurrent use.
type Publisher struct {
	Deps
	woken       chan struct{} // makes Run look before its time
	local       *localLists
	authorities atomic.Pointer[map[string]*authority] // by id, aliases too
	seen        atomic.Bool                           // the store was looked at

	mu    sync.Mutex
	state map[string]*state // by issuer id
}

// state is what this process remembers of an issuer.
type state struct {
	fetching sync.Mutex // held while lists are fetched; the rest is under Publisher.mu

	busy      bool           // a build is under way in this process
	crlSeq    int64          // of the issuer's row when its lists were fetched last
	fetched   bool           // crlSeq is set
	retry     bool           // a list could not be fetched
	checked   int64          // revocations up to this sequence need no immediate list
	notBefore time.Time      // when the next build may be tried
	refused   map[key]string // why the last attempt came to nothing
	alarmed   map[key]string // the alarm that was logged last
	shards    int            // the highest number of shards so far

	behind       map[key]bool // series of which the disk has a newer list than the database
	contradicted map[key]bool // series whose next list lacks what the one on disk has
	weighed      string       // what lost was made from
	lost         lacking      // what the lists on disk have and the database has not
}

// New opens the folder of lists, which it makes if it must. A list on disk that
// cannot be read is set aside and said; the store has another.
func New(d Deps) (*Publisher, error) {
	if d.Observe == nil {
		d.Observe = func(Event) {}
	}
	s, wrong, err := openLocal(d.Dir)
	if err != nil {
		return nil, err
	}
	for _, err := range wrong {
		d.Log.Error("list on disk not usable", "error", err)
	}
	p := &Publisher{Deps: d, local: s, state: map[string]*state{}, woken: make(chan struct{}, 1)}
	p.authorities.Store(&map[string]*authority{})
	return p, nil
}

// Swap puts another set of CAs in force. configs, by id, are completed and checked.
// Those whose last certificate has expired need no lists.
func (p *Publisher) Swap(all *ca.Set, configs map[string]Config) {
	byID := map[string]*authority{}
	for _, c := range all.All() {
		if !c.Installed() || c.Stage == ca.Retired {
			continue
		}
		a := &authority{CA: c, Config: configs[c.ID]}
		for _, id := range c.IDs() {
			byID[id] = a
		}
	}
	p.authorities.Store(&byID)
	p.wake() // a CA that is new here has no list yet
}

// wake makes Run look at once.
func (p *Publisher) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *Publisher) authority(id string) (*authority, error) {
	if a := (*p.authorities.Load())[id]; a != nil {
		return a, nil
	}
	return nil, fault.New(fault.NotFound, "there is no issuer %q", id)
}

// of returns the state of an issuer; p.mu is held.
func (p *Publisher) of(id string) *state {
	s := p.state[id]
	if s == nil {
		s = &state{refused: map[key]string{}, alarmed: map[key]string{}, contradicted: map[key]bool{}}
		p.state[id] = s
	}
	return s
}

// Run fetches what others publish and builds what is due, until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	var builds sync.WaitGroup
	defer builds.Wait()
	builds.Go(func() { p.Store.Changes(ctx, func(store.Change) { p.wake() }) })
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failing := false
	for {
		err := p.Round(ctx, func(work func()) { builds.Go(work) })
		if err != nil && !failing && ctx.Err() == nil {
			p.Log.ErrorContext(ctx, "lists not looked after", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.woken:
		}
	}
}

// Round looks once at every issuer: lists that others published are fetched,
// lists that are due are built by spawn.
func (p *Publisher) Round(ctx context.Context, spawn func(work func())) error {
	rows, err := p.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	for i := range rows {
		a, err := p.authority(rows[i].ID)
		if err != nil {
			continue // not in force here
		}
		p.follow(ctx, &rows[i])
		if a.ID != rows[i].ID {
			continue // an alias: its lists are the CA's
		}
		if err := p.weigh(ctx, a, rows[i].RevocationSeq); err != nil {
			return err
		}
		p.alarm(ctx, a)
		if a.Issuer() != nil {
			p.consider(ctx, a, &rows[i], spawn)
		}
	}
	p.seen.Store(true)
	return nil
}

// follow fetches the lists of an issuer if there are new ones.
func (p *Publisher) follow(ctx context.Context, row *store.IssuerRecord) {
	p.mu.Lock()
	s := p.of(row.ID)
	news := !s.fetched || s.crlSeq != row.CRLSeq || s.retry
	s.shards = max(s.shards, row.CRLShards)
	p.mu.Unlock()
	if !news {
		return
	}
	err := p.fetchAll(ctx, row.ID)
	if err != nil && ctx.Err() == nil {
		p.Log.ErrorContext(ctx, "lists not fetched", "issuer", row.ID, "error", err)
	}
	p.mu.Lock()
	s.crlSeq, s.fetched = row.CRLSeq, true
	s.retry = fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Internal)
	p.mu.Unlock()
}

// consider builds what is due of an issuer, unless that is under way or was tried
// a moment ago.
func (p *Publisher) consider(ctx context.Context, a *authority, row *store.IssuerRecord, spawn func(func())) {
	p.mu.Lock()
	s := p.of(a.ID)
	idle, checked := !s.busy && !p.Now().Before(s.notBefore), s.checked
	p.mu.Unlock()
	if !idle {
		return
	}
	due, urgent, err := p.due(ctx, a, row, checked)
	switch {
	case err != nil:
		p.Log.ErrorContext(ctx, "lists not looked after", "issuer", a.ID, "error", err)
		return
	case len(due) == 0:
		p.mu.Lock()
		s.checked = max(s.checked, row.RevocationSeq)
		p.mu.Unlock()
		return
	}
	p.mu.Lock()
	s.busy = true
	p.mu.Unlock()
	spawn(func() { p.scheduled(ctx, a, urgent) })
}

// scheduled builds what is due, if no other node does, and sets when to look
// again.
func (p *Publisher) scheduled(ctx context.Context, a *authority, urgent bool) {
	began, checked := p.Now(), int64(0)
	var failed error
	ran, err := p.Leases.Try(ctx, "crl/"+a.ID, leaseTime, func(ctx context.Context, _ int64) {
		failed = p.buildDue(ctx, a, &checked)
	})
	err = errors.Join(err, failed)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.of(a.ID)
	s.busy = false
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.notBefore = p.Now().Add(retryAfter)
		p.Log.ErrorContext(ctx, "list not published", "issuer", a.ID, "error", err)
	case ran:
		s.checked = max(s.checked, checked)
		if urgent {
			s.notBefore = p.Now().Add(breather * p.Now().Sub(began))
		}
	}
}

// buildDue decides again now that no other node builds, and builds.
func (p *Publisher) buildDue(ctx context.Context, a *authority, checked *int64) error {
	row, err := p.Store.Issuer(ctx, a.ID)
	if err != nil {
		return err
	}
	p.follow(ctx, row)
	p.mu.Lock()
	after := p.of(a.ID).checked
	p.mu.Unlock()
	due, _, err := p.due(ctx, a, row, after)
	if err != nil {
		return err
	}
	var all []error
	for _, k := range due {
		all = append(all, p.attempt(ctx, a, k, Options{Actor: "server"}))
	}
	*checked = row.RevocationSeq
	return errors.Join(all...)
}

// due returns the lists of an issuer whose time has come, and whether one of them
// is because of a revocation that is published at once.
func (p *Publisher) due(
	ctx context.Context, a *authority, row *store.IssuerRecord, checked int64,
) (due []key, urgent bool, err error) {
	now := p.Now()
	for _, k := range p.keys(a, row.CRLShards) {
		if h := p.local.get(k); h == nil || a.Config.time(k, h.thisUpdate).Compare(now) <= 0 ||
			h.thisUpdate.After(now) || p.settled(k) {
			due = append(due, k)
		}
	}
	if a.Config.Delta > 0 && !slices.Contains(due, key{a.ID, 0, false}) {
		k := key{a.ID, 0, true}
		if h := p.local.get(k); h == nil || a.Config.time(k, h.thisUpdate).Compare(now) <= 0 {
			due = append(due, k)
		}
	}
	if row.RevocationSeq <= checked {
		return due, false, nil
	}
	reasons, err := a.Config.reasons()
	if err != nil {
		return nil, false, err
	}
	shards, err := p.Store.Unlisted(ctx, a.ID, checked, reasons)
	if err != nil {
		return nil, false, err
	}
	for _, shard := range append(shards, 0) {
		if k := (key{a.ID, shard, false}); len(shards) > 0 && !slices.Contains(due, k) {
			due, urgent = append(due, k), true
		}
	}
	return due, urgent, nil
}

// time returns when the list after one of the given date is to be published.
func (c Config) time(k key, thisUpdate time.Time) time.Time {
	if k.delta {
		return thisUpdate.Add(c.Skew + c.Delta)
	}
	return thisUpdate.Add(c.Skew + c.Interval)
}

// keys are the complete lists of an issuer, the full one first.
func (p *Publisher) keys(a *authority, shards int) []key {
	keys := []key{{a.ID, 0, false}}
	for n := range max(shards, a.Config.Shards) {
		keys = append(keys, key{a.ID, n + 1, false})
	}
	return keys
}
