package limit_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// clock is a time that a test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func newLimiter(t *testing.T, cfg limit.Config, s *store.Store, c *clock) *limit.Limiter {
	t.Helper()
	l, err := limit.New(cfg, s, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantLimited(t *testing.T, err error) time.Duration {
	t.Helper()
	if !fault.Is(err, fault.RateLimited) {
		t.Fatalf("got %v, want RateLimited", err)
	}
	if after := fault.Of(err).RetryAfter; after > 0 {
		return after
	}
	t.Fatal("the fault does not say when to come again")
	return 0
}

func TestACME_A50_NewAccountsOfAnAddress(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, c := context.Background(), newClock()
		l := newLimiter(t, limit.Config{NewAccounts: limit.Rate{Count: 3, Per: 3 * time.Minute}}, s, c)
		a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
		for i, addr := range []netip.Addr{a, b, a} { // one network of 64 bits
			if err := l.NewAccount(ctx, addr, ""); err != nil {
				t.Fatalf("account %d: %v", i, err)
			}
		}
		if wait := wantLimited(t, l.NewAccount(ctx, b, "")); wait != time.Minute {
			t.Errorf("wait %s, want a minute", wait)
		}
		if err := l.NewAccount(ctx, netip.MustParseAddr("2001:db8:0:1::1"), ""); err != nil {
			t.Errorf("another network: %v", err)
		}
		before := s.Stats()
		wantLimited(t, l.NewAccount(ctx, a, ""))
		if s.Stats() != before {
			t.Error("a remembered denial wrote to the store")
		}
		c.advance(time.Minute)
		if err := l.NewAccount(ctx, a, ""); err != nil {
			t.Errorf("after the wait: %v", err)
		}
		wantLimited(t, l.NewAccount(ctx, a, ""))
		for range 3 { // FR20: who has a key is not refused for what others did
			if err := l.NewAccount(ctx, a, "kid"); err != nil {
				t.Errorf("bound to a key: %v", err)
			}
		}
		wantLimited(t, l.NewAccount(ctx, a, "kid"))
	})
}

func TestLimitHoldsAcrossNodes(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLiteURL, "postgres": storetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			dsn, c := url(t), newClock()
			one, two := storetest.Open(t, dsn, "node-1"), storetest.Open(t, dsn, "node-2")
			if err := one.Migrate(context.Background()); err != nil {
				t.Fatal(err)
			}
			cfg := limit.Config{NewAccounts: limit.Rate{Count: 7, Per: time.Hour}}
			limiters := []*limit.Limiter{newLimiter(t, cfg, one, c), newLimiter(t, cfg, two, c)}
			var allowed atomic.Int64
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					err := limiters[i%2].NewAccount(context.Background(), netip.MustParseAddr("192.0.2.7"), "")
					if err == nil {
						allowed.Add(1)
					} else if !fault.Is(err, fault.RateLimited) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if allowed.Load() != 7 {
				t.Errorf("%d of 40 were allowed, want 7", allowed.Load())
			}
		})
	}
}

func TestACME_A50_PendingOrdersAndAuthorizations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, now := context.Background(), time.Now()
		_, err := s.CreateAccount(ctx, store.Account{ID: "a", Endpoint: "e", Thumbprint: "t", JWK: []byte("{}"), Status: "valid", CreatedAt: now}, nil, store.Event{At: now})
		if err != nil {
			t.Fatal(err)
		}
		l := newLimiter(t, limit.Config{PendingOrders: 2, PendingAuthorizations: 3}, s, newClock())
		order := func(n int) {
			id := fmt.Sprint("z", n)
			o := store.Order{ID: fmt.Sprint("o", n), AccountID: "a", Endpoint: "e", Status: "pending", AuthorizationIDs: []string{id}, Expires: now.Add(time.Hour), CreatedAt: now}
			z := store.Authorization{ID: id, AccountID: "a", Identifier: pki.Identifier{Type: pki.DNS, Value: id}, Status: "pending", Expires: now.Add(time.Hour), CreatedAt: now}
			if err := s.CreateOrder(ctx, o, []store.Authorization{z}, nil); err != nil {
				t.Fatal(err)
			}
		}
		order(1)
		if err := l.NewOrder(ctx, "a", 2); err != nil {
			t.Errorf("second order: %v", err)
		}
		wantLimited(t, l.NewOrder(ctx, "a", 3)) // one pending and three new
		order(2)
		wantLimited(t, l.NewOrder(ctx, "a", 0))
	})
}

func TestConfigCheck(t *testing.T) {
	if err := limit.Defaults().Check(); err != nil {
		t.Error(err)
	}
	for name, cfg := range map[string]limit.Config{
		"no time":         {NewAccounts: limit.Rate{Count: 5}},
		"negative count":  {WrongSecrets: limit.Rate{Count: -1, Per: time.Hour}},
		"too fast":        {WrongSecrets: limit.Rate{Count: 10_000, Per: time.Second}},
		"negative orders": {PendingOrders: -1},
		"enrolments":      {Enrolments: limit.Rate{Count: 1}},
	} {
		if _, err := limit.New(cfg, nil, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestFS1_Unreadable: what one source uses up, or all of them together, refuses
// nobody who sent nothing unreadable.
func TestFS1_Unreadable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx, c := context.Background(), newClock()
		l, other := newLimiter(t, limit.Defaults(), s, c), newLimiter(t, limit.Defaults(), s, c)
		from := func(source string) limit.Envelope { return limit.Envelope{Source: source, Recipient: "ra"} }
		for range 100 {
			if err := l.MayRead(ctx, from("a")); err != nil {
				t.Fatal(err)
			}
			if err := l.Unreadable(ctx, from("a")); err != nil {
				t.Fatal(err)
			}
		}
		wantLimited(t, l.MayRead(ctx, from("a")))
		wantLimited(t, other.MayRead(ctx, from("a"))) // another node knows
		wantLimited(t, other.Unreadable(ctx, from("a")))
		for _, e := range []limit.Envelope{from("b"), {Source: "a", Recipient: "another ra"}} {
			if err := l.MayRead(ctx, e); err != nil {
				t.Errorf("%+v: %v", e, err)
			}
		}
		c.advance(6 * time.Second)
		if err := l.MayRead(ctx, from("a")); err != nil {
			t.Errorf("after six seconds: %v", err)
		}
		for i := range 10 {
			if err := l.Unreadable(ctx, limit.Envelope{Source: fmt.Sprint("c", i), Recipient: "ra", Key: "k"}); err != nil {
				t.Fatal(err)
			}
		}
		wantLimited(t, other.MayRead(ctx, limit.Envelope{Source: "d", Recipient: "ra", Key: "k"}))
		wantLimited(t, other.Unreadable(ctx, limit.Envelope{Source: "d", Recipient: "ra", Key: "k"})) // at once
		if err := other.MayRead(ctx, limit.Envelope{Source: "d", Recipient: "ra", Key: "another"}); err != nil {
			t.Errorf("another key: %v", err)
		}
	})
}

// TestFS1_UnreadableByAll: where all sources together have used up the rate of a
// recipient, a source with room of its own waits until there is some again, no longer.
func TestFS1_UnreadableByAll(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), newClock()
	cfg := limit.Defaults()
	cfg.UnreadableByRecipient = limit.Rate{Count: 3, Per: 3 * time.Second}
	l := newLimiter(t, cfg, storetest.SQLite(t), c)
	a, b := limit.Envelope{Source: "a", Recipient: "ra"}, limit.Envelope{Source: "b", Recipient: "ra"}
	for range 3 {
		if err := l.Unreadable(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	wantLimited(t, l.MayRead(ctx, a))
	if err := l.MayRead(ctx, b); err != nil {
		t.Errorf("who sent nothing: %v", err)
	}
	c.advance(2 * time.Second)
	if err := l.MayRead(ctx, a); err != nil {
		t.Errorf("once there is room again: %v", err)
	}
}
