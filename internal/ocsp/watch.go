package ocsp

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

const (
	// pollEvery is how often the sequences are looked at when nothing is notified.
	pollEvery = 250 * time.Millisecond
	// pollTimeout bounds one look.
	pollTimeout = 2 * time.Second
	// refreshEvery is how often the answers are searched for what is due.
	refreshEvery = time.Second
	// refreshBatch is how many of an authority are signed anew in one go.
	refreshBatch = 200
	// manyChanges is how many changed certificates are applied one by one; more
	// empty the cache.
	manyChanges = 10_000
	// oldNews is how long after a revocation its discovery is no latency but the
	// start of a process.
	oldNews = time.Hour
)

// Run follows the revocations and signs anew what is due, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	done := make(chan struct{}, 2)
	go func() { s.Changes(ctx, func(store.Change) { s.poke() }); done <- struct{}{} }()
	go func() { s.refreshing(ctx); done <- struct{}{} }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	down := false
	for ctx.Err() == nil {
		err := s.look(ctx)
		if (err != nil) != down && ctx.Err() == nil {
			down = err != nil
			if down {
				s.Log.ErrorContext(ctx, "OCSP: revocations cannot be followed; answers need the database", "error", err)
			} else {
				s.Log.InfoContext(ctx, "OCSP: revocations are followed again")
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.wake:
		}
	}
	<-done
	<-done
	return nil
}

// look compares the sequences of the database with those that the caches agree
// with and applies what changed. Only when all of it worked do answers from
// memory count as fresh, from the time at which it began.
func (s *Server) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	began := s.Now()
	witness := s.Store.WitnessVersion()
	all, err := s.Store.RevocationSequences(ctx)
	if err != nil {
		return err
	}
	for a := range s.each {
		a.hear(witness)
		now := all[a.ID].Revocation
		if a.Offline {
			now = 0
			for _, id := range a.facts.Load().ids {
				now = max(now, all[id].CRLNumber)
			}
		}
		if err := s.apply(ctx, a, now); err != nil {
			return err
		}
	}
	s.checked.Store(&began)
	return nil
}

// hear removes all answers if there is another witness of revocations now.
func (a *authority) hear(witness int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.witness != witness {
		a.witness = witness
		a.counts.removed.Add(int64(len(a.cache.remove(func(*entry) bool { return true }))))
	}
}

// apply removes the answers that a change concerns. Changes that cannot be told
// one by one remove all.
func (s *Server) apply(ctx context.Context, a *authority, now int64) error {
	a.mu.Lock()
	known := a.known
	a.mu.Unlock()
	if known == now {
		return nil
	}
	var stamps []store.Stamp
	complete := false
	if known != unseen && now > known && !a.Offline {
		var err error
		if stamps, err = s.Store.ChangedSince(ctx, a.ID, known, manyChanges+1); err != nil {
			return err
		}
		complete = len(stamps) <= manyChanges && gapless(stamps, known, now)
	}
	changed := map[pki.Serial]bool{}
	for _, st := range stamps {
		changed[st.Serial] = true
	}
	a.mu.Lock()
	a.known = now
	gone := a.cache.remove(func(e *entry) bool { return !complete || e.about(changed) })
	a.mu.Unlock()
	seen := s.Now()
	for _, st := range stamps {
		if after := seen.Sub(st.RevokedAt); after < oldNews {
			s.Seen(a.ID, after)
		}
	}
	a.counts.removed.Add(int64(len(gone)))
	if complete && len(gone) > 0 { // who asked before will ask again
		select {
		case s.redo <- due{a, gone}:
		default: // the first to ask waits for the signature
		}
	}
	return nil
}

// gapless reports whether every sequence after known, up to now, is borne by a
// row: then the rows are all that changed.
func gapless(stamps []store.Stamp, known, now int64) bool {
	next := known + 1
	for _, st := range stamps {
		if st.Seq == next {
			next++
		} else if st.Seq > next {
			return false
		}
	}
	return next > now
}

// due are answers to sign anew.
type due struct {
	authority *authority
	entries   []*entry
}

// refreshing signs anew what a change removed and what is due and was asked for, and drops what has ended.
func (s *Server) refreshing(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.redo:
			s.signAnew(ctx, d.authority, d.entries)
		case <-tick.C:
			for a := range s.each {
				s.refresh(ctx, a)
			}
		}
	}
}

func (s *Server) refresh(ctx context.Context, a *authority) {
	now := s.Now().Unix()
	a.cache.remove(func(e *entry) bool { return now >= e.until })
	var entries []*entry
	a.cache.each(func(e *entry) {
		if now >= e.refresh && e.used.Load() && len(entries) < refreshBatch {
			entries = append(entries, e)
		}
	})
	s.signAnew(ctx, a, entries)
}

// signAnew replaces answers one after the other, so that requests find the key
// free. When the key or the database is away it stops: what is kept stays valid
// for half of its life, and the next tick tries again.
func (s *Server) signAnew(ctx context.Context, a *authority, entries []*entry) {
	for _, e := range entries {
		if ctx.Err() != nil || !s.again(ctx, a, e) {
			return
		}
	}
}

func (s *Server) again(ctx context.Context, a *authority, e *entry) bool {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	id, err := parseCertID([]byte(e.key))
	if err != nil {
		s.failed(a, "sign anew", err)
		return false
	}
	ids := []CertID{id}
	read, err := s.lookUp(ctx, a, serials(ids))
	if err != nil {
		s.failed(a, "read status", err)
		return false
	}
	if read.unknown() {
		a.cache.remove(func(o *entry) bool { return o == e })
		return true
	}
	fresh, err := s.sign(ctx, a, e.key, ids, nil, read)
	if err != nil {
		s.failed(a, "sign OCSP response", err)
		return false
	}
	a.keep(fresh)
	a.counts.refreshed.Add(1)
	return true
}
