package ocsp

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

var repeats = flag.Int("revocations", 40, "how many revocations cross from node to node; make faults takes 1000")

// twoNodes is a lab on node-1 and a responder for the same CA on node-2, which
// hears of half of what node-1 commits, or of nothing.
func twoNodes(t *testing.T, loses func() bool) (*lab, *Server) {
	t.Helper()
	dsn := storetest.PostgresURL(t)
	one, two := storetest.Open(t, dsn, "node-1"), storetest.Open(t, dsn, "node-2")
	if err := one.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, one, "")
	l.serve(l.policy(), l.own())
	far := *l
	far.store = two
	far.changes = func(ctx context.Context, each func(store.Change)) {
		two.Changes(ctx, func(c store.Change) {
			if !loses() {
				each(c)
			}
		})
	}
	return l, far.serve(l.policy(), l.own())
}

// TestOCSP_O10_RevocationCrossesNodes: revoked on one node, answered by the
// other within a second, every time.
func TestOCSP_O10_RevocationCrossesNodes(t *testing.T) {
	for name, loses := range map[string]func() bool{
		"half of the notifications lost": func() bool { return rand.IntN(2) == 0 }, //nolint:gosec // a test
		"all lost":                       func() bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			l, far := twoNodes(t, loses)
			var took []time.Duration
			for i := range *repeats {
				c := l.issue(fmt.Sprintf("n%d.example.test", i))
				der := l.ask(c).der()
				if s := read(t, get(far, der).Body.Bytes()).Singles[0]; s.Status != "good" {
					t.Fatalf("revocation %d: before: %+v", i, s)
				}
				l.revoke(c, pki.Superseded)
				committed := time.Now()
				for read(t, get(far, der).Body.Bytes()).Singles[0].Status != "revoked" {
					if time.Since(committed) > 5*time.Second {
						t.Fatalf("revocation %d is not seen", i)
					}
					time.Sleep(time.Millisecond)
				}
				took = append(took, time.Since(committed))
			}
			slices.Sort(took)
			t.Logf("%d revocations seen by the other node: median %v, 99th %v, longest %v",
				len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
			if longest := took[len(took)-1]; longest > time.Second {
				t.Errorf("one took %v", longest)
			}
			l.holds()
		})
	}
}

// TestInvariant6_NoGoodAfterRevocation asks without a pause while certificates
// are revoked: no answer says good with a thisUpdate after the commit.
func TestInvariant6_NoGoodAfterRevocation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l := newLab(t, s, "")
		h := l.serve(l.policy(func(p *Policy) { p.Mode = Live }), l.own())
		var certs []*issuance.Certificate
		for i := range 8 {
			certs = append(certs, l.issue(fmt.Sprintf("i%d.example.test", i)))
		}
		committed := make([]atomic.Int64, len(certs)) // Unix seconds
		stop := make(chan struct{})
		var asking sync.WaitGroup
		for worker := range 4 {
			asking.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					i := (n + worker) % len(certs)
					q := l.ask(certs[i])
					if worker%2 == 0 {
						q.nonce = []byte(fmt.Sprintf("0123456789abcde%d", n%10))
					}
					before := committed[i].Load()
					got := read(t, post(h, q.der()).Body.Bytes())
					if got.Status != 0 {
						continue
					}
					if one := got.Singles[0]; one.Status == "good" && before != 0 && one.This.Unix() > before {
						t.Errorf("good as of %v, revoked at %v", one.This.Unix(), before)
					}
				}
			})
		}
		for i, c := range certs {
			time.Sleep(150 * time.Millisecond) // so that seconds pass and answers are kept
			l.revoke(c, pki.KeyCompromise)
			committed[i].Store(time.Now().Unix())
		}
		time.Sleep(1200 * time.Millisecond)
		for _, c := range certs {
			if one := read(t, get(h, l.ask(c).der()).Body.Bytes()).Singles[0]; one.Status != "revoked" {
				t.Errorf("still %+v", one)
			}
		}
		close(stop)
		asking.Wait()
	})
}

// TestInvariant6_WhatChangedMeanwhileIsNotKept revokes between the reading of the
// record and the signature.
func TestInvariant6_WhatChangedMeanwhileIsNotKept(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	c := l.issue("a.example.test")
	a := (*h.authorities.Load())[caID]
	r, err := ParseRequest(l.ask(c).der())
	if err != nil {
		t.Fatal(err)
	}
	was, err := h.lookUp(t.Context(), a, serials(r.CertIDs))
	if err != nil {
		t.Fatal(err)
	}
	l.revoke(c, pki.KeyCompromise)
	eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.known == 1 })
	e, err := h.sign(t.Context(), a, string(r.key()), r.CertIDs, nil, was)
	if err != nil {
		t.Fatal(err)
	}
	a.keep(e)
	if a.cache.get(r.key()) != nil {
		t.Error("an answer of the time before the revocation is kept")
	}
	if s := read(t, get(h, l.ask(c).der()).Body.Bytes()).Singles[0]; s.Status != "revoked" {
		t.Errorf("%+v", s)
	}
}

// A node that has not looked for a second reads the record for each request.
func TestInvariant6_OldLooksDoNotCount(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	s := New(Config{Store: l.store, Now: l.clock.now, Log: quiet()}) // nobody runs it
	if err := l.swap(s, Authority{caID, Answers{l.policy(), l.own()}}); err != nil {
		t.Fatal(err)
	}
	c := l.issue("a.example.test")
	der := l.ask(c).der()
	if err := s.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	get(s, der)
	get(s, der)
	if st := s.Stats()[0]; st.Hits != 1 || st.Signed != 1 {
		t.Errorf("fresh: %+v", st)
	}
	l.clock.jump(maxAge + time.Millisecond)
	get(s, der)
	if st := s.Stats()[0]; st.Hits != 1 || st.Confirmed != 1 || st.Signed != 1 {
		t.Errorf("old, unchanged: %+v", st)
	}
	l.revoke(c, pki.KeyCompromise)
	if one := read(t, get(s, der).Body.Bytes()).Singles[0]; one.Status != "revoked" {
		t.Errorf("old, revoked: %+v", one)
	}
}

// Changes that no row tells empty the cache; so does a sequence that fell.
func TestSequenceGaps(t *testing.T) {
	t.Parallel()
	stamp := func(seqs ...int64) (out []store.Stamp) {
		for _, s := range seqs {
			out = append(out, store.Stamp{Seq: s})
		}
		return out
	}
	for name, c := range map[string]struct {
		stamps []store.Stamp
		known  int64
		now    int64
		want   bool
	}{
		"one":           {stamp(6), 5, 6, true},
		"several":       {stamp(6, 7, 8), 5, 8, true},
		"in bulk":       {stamp(6, 6, 6, 7), 5, 7, true},
		"more by now":   {stamp(6, 7), 5, 6, true},
		"a hole":        {stamp(6, 8), 5, 8, false},
		"the last lost": {stamp(6), 5, 7, false},
		"none":          {nil, 5, 6, false},
	} {
		if got := gapless(c.stamps, c.known, c.now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	get(h, l.ask(l.issue("a.example.test")).der())
	a := (*h.authorities.Load())[caID]
	if err := h.apply(t.Context(), a, 0); err != nil || kept(a) != 1 {
		t.Errorf("nothing changed: %d kept, %v", kept(a), err)
	}
	a.mu.Lock()
	a.known = 9 // a backup was restored
	a.mu.Unlock()
	if err := h.apply(t.Context(), a, 0); err != nil || kept(a) != 0 {
		t.Errorf("the sequence fell: %d kept, %v", kept(a), err)
	}
}
