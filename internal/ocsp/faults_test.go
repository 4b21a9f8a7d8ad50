package ocsp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestOCSP_O9_SignerDown(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Presigned, Live} {
		l := newLab(t, storetest.SQLite(t), "")
		h := l.serve(l.policy(func(p *Policy) { p.Mode = mode }), l.own())
		kept, other := l.issue("a.example.test"), l.issue("b.example.test")
		get(h, l.ask(kept).der())
		err := errors.New("the token is gone")
		l.key.fail.Store(&err)
		status := func(q ask) int { return read(t, post(h, q.der()).Body.Bytes()).Status }
		if got := status(l.ask(kept)); got != 0 {
			t.Errorf("%s, kept: %d", mode, got)
		}
		nonce := l.ask(kept)
		nonce.nonce = []byte("0123456789abcdef")
		if got := read(t, post(h, nonce.der()).Body.Bytes()); got.Status != 0 || got.Nonce != nil {
			t.Errorf("%s, kept, with a nonce: %+v", mode, got)
		}
		if got := status(l.ask(other)); got != int(TryLater) {
			t.Errorf("%s, not kept: %d", mode, got)
		}
		// A kept good is not given once the record says revoked.
		l.key.fail.Store(nil)
		l.clock.jump(12 * time.Hour) // past half of its life: still given
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		l.key.fail.Store(&err)
		if got := status(l.ask(kept)); got != 0 {
			t.Errorf("%s, past its half: %d", mode, got)
		}
		l.revoke(kept, pki.KeyCompromise)
		eventually(t, func() bool { return status(l.ask(kept)) == int(TryLater) })
		l.key.fail.Store(nil)
		if got := read(t, post(h, l.ask(kept).der()).Body.Bytes()).Singles[0]; got.Status != "revoked" {
			t.Errorf("%s, after: %+v", mode, got)
		}
	}
}

func TestOCSP_O14_SignedAnewAtHalfOfTheirLife(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	asked, forgotten := l.issue("a.example.test"), l.issue("b.example.test")
	first := read(t, get(h, l.ask(asked).der()).Body.Bytes())
	get(h, l.ask(forgotten).der())
	a := (*h.authorities.Load())[caID]
	a.cache.each(func(e *entry) {
		if r := time.Unix(e.refresh, 0).Sub(time.Unix(e.from, 0)); r < 24*time.Hour*2/5 || r > 24*time.Hour*3/5 {
			t.Errorf("signed anew after %v", r)
		}
		r, _ := ParseRequest(l.ask(forgotten).der())
		if e.key == string(r.key()) {
			e.used.Store(false)
		}
	})
	before := h.Stats()[0].Refreshed
	l.clock.jump(15 * time.Hour)
	eventually(t, func() bool { return h.Stats()[0].Refreshed == before+1 })
	second := read(t, get(h, l.ask(asked).der()).Body.Bytes())
	if d := second.Singles[0].This.Sub(first.Singles[0].This); d < 15*time.Hour {
		t.Errorf("thisUpdate moved by %v", d)
	}
	l.clock.jump(10 * time.Hour) // the forgotten one ends
	eventually(t, func() bool { return h.Stats()[0].Kept == 1 })
}

func TestClockJumps(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	c := l.issue("a.example.test")
	der := l.ask(c).der()
	check := func(when string) {
		t.Helper()
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		s := read(t, get(h, der).Body.Bytes()).Singles[0]
		now := l.clock.now()
		if s.This.After(now) || !s.Next.After(now) {
			t.Errorf("%s, at %v: from %v to %v", when, now, s.This, s.Next)
		}
		if s.Status == "revoked" && s.RevokedAt.After(s.This) {
			t.Errorf("%s: revoked at %v, after thisUpdate %v", when, s.RevokedAt, s.This)
		}
	}
	check("at first")
	l.clock.jump(72 * time.Hour)
	check("three days ahead")
	l.revoke(c, pki.Superseded)
	eventually(t, func() bool { return read(t, get(h, der).Body.Bytes()).Singles[0].Status == "revoked" })
	check("revoked")
	l.clock.jump(-72 * time.Hour)
	check("back again")
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]time.Duration{"strict": 0, "lenient": time.Hour} {
		dsn := storetest.PostgresURL(t)
		s := storetest.Open(t, dsn, "node-1")
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		l := newLab(t, s, "")
		own := New(Config{Store: s, Now: l.clock.now, Log: quiet()})
		if err := l.swap(own, Authority{caID, Answers{l.policy(func(p *Policy) { p.Outage = outage }),
			l.own()}}); err != nil {
			t.Fatal(err)
		}
		kept, other := l.ask(l.issue("a.example.test")).der(), l.ask(l.issue("b.example.test")).der()
		if err := own.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		get(own, kept)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		status := func(der []byte) ResponseStatus { return ResponseStatus(read(t, get(own, der).Body.Bytes()).Status) }
		if got := status(kept); got != Successful {
			t.Errorf("%s, within the second: %s", name, got)
		}
		l.clock.jump(2 * time.Second)
		want := map[time.Duration]ResponseStatus{0: TryLater, time.Hour: Successful}[outage]
		if got := status(kept); got != want {
			t.Errorf("%s, kept: %s, want %s", name, got, want)
		}
		if got := status(other); got != TryLater {
			t.Errorf("%s, not kept: %s", name, got)
		}
		l.clock.jump(2 * time.Hour)
		if got := status(kept); got != TryLater {
			t.Errorf("%s, after the outage that is allowed: %s", name, got)
		}
	}
}

// An outage is a line now and then, not one for each request.
func TestFailuresAreLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	var text bytes.Buffer
	s := New(Config{Store: l.store, Now: l.clock.now, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err := l.swap(s, Authority{caID, Answers{l.policy(), l.own()}}); err != nil {
		t.Fatal(err)
	}
	der := l.ask(l.issue("a.example.test")).der()
	down := errors.New("the token is gone")
	l.key.fail.Store(&down)
	for range 20 {
		get(s, der)
	}
	l.clock.jump(time.Minute)
	get(s, der)
	if n := strings.Count(text.String(), "the token is gone"); n != 2 || s.Stats()[0].Failures != 21 {
		t.Errorf("%d lines of %d failures:\n%s", n, s.Stats()[0].Failures, text.String())
	}
}

func TestManyAskTheSameAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	before := l.key.used.Load()
	der := l.ask(l.issue("a.example.test")).der()
	issued := l.key.used.Load() - before
	var asking sync.WaitGroup
	for range 64 {
		asking.Go(func() {
			if w := post(h, der); w.Code != 200 {
				t.Errorf("HTTP %d", w.Code)
			}
		})
	}
	asking.Wait()
	if made := l.key.used.Load() - before - issued; made > 3 {
		t.Errorf("%d signatures for one answer", made)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	small := newEntry("0", []byte("x"), reading{}, golden, golden.Add(time.Hour)).cost() + 8
	c := newCache(shards * 4 * small)
	hot := newEntry("hot", []byte("x"), reading{}, golden, golden.Add(time.Hour))
	c.put(hot)
	for i := range 10_000 {
		hot.used.Store(true)
		c.put(newEntry(fmt.Sprint(i), []byte("x"), reading{}, golden, golden.Add(time.Hour)))
	}
	if n, octets := c.size(); n > 64 || octets > shards*4*small {
		t.Errorf("%d entries of %d octets", n, octets)
	}
	if c.get([]byte("hot")) == nil {
		t.Error("what is asked for was dropped for what is not")
	}
}

func BenchmarkGet(b *testing.B) {
	l := newLab(b, storetest.SQLite(b), "")
	h := l.serve(l.policy(), l.own())
	der := l.ask(l.issue("a.example.test")).der()
	w := get(h, der)
	if w.Code != 200 {
		b.Fatal(w.Code)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RequestURI = "/ocsp/" + caID + "/" + pathOf(der)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(discard{}, r)
	}
}
