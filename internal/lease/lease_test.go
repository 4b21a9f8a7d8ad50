package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/privyseal/privyseal/internal/lease"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// rows is one lease in memory whose database can be away.
type rows struct {
	mu      sync.Mutex
	holder  string
	token   int64
	expires time.Time
	away    bool
}

// set changes the lease from outside.
func (r *rows) set(change func(r *rows)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

var errAway = errors.New("away")

func (r *rows) AcquireLease(_ context.Context, _, holder string, now time.Time, ttl time.Duration) (int64, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return 0, false, errAway
	}
	if now.Before(r.expires) {
		return 0, false, nil
	}
	r.token++
	r.holder, r.expires = holder, now.Add(ttl)
	return r.token, true, nil
}

func (r *rows) RenewLease(_ context.Context, _ string, token int64, now time.Time, ttl time.Duration) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return false, errAway
	}
	if token != r.token {
		return false, nil
	}
	r.expires = now.Add(ttl)
	return true, nil
}

func (r *rows) ReleaseLease(_ context.Context, _ string, token int64, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errAway
	}
	if token == r.token {
		r.expires = now
	}
	return nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLeaseIsRenewedAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{}
		ctx, cancel := context.WithCancel(t.Context())
		var stopped atomic.Bool
		go lease.New(r, "a", time.Now, quiet()).Run(ctx, "x", time.Minute, func(ctx context.Context, token int64) {
			<-ctx.Done()
			stopped.Store(true)
		})
		time.Sleep(time.Hour)
		synctest.Wait()
		if stopped.Load() || r.token != 1 || !r.expires.After(time.Now()) {
			t.Fatalf("after an hour: stopped %t, token %d, expires in %s", stopped.Load(), r.token, time.Until(r.expires))
		}
		cancel()
		synctest.Wait()
		if !stopped.Load() || r.expires.After(time.Now()) {
			t.Fatalf("after cancel: stopped %t, expires in %s", stopped.Load(), time.Until(r.expires))
		}
	})
}

func TestWorkStopsBeforeTheLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stopped time.Time
		go lease.New(r, "a", time.Now, quiet()).Run(ctx, "x", time.Minute, func(ctx context.Context, _ int64) {
			<-ctx.Done()
			stopped = time.Now()
		})
		time.Sleep(5 * time.Minute)
		r.set(func(r *rows) { r.away = true }) // nobody can renew
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if stopped.IsZero() || !stopped.Before(r.expires) {
			t.Fatalf("work stopped at %s, the lease ran out at %s", stopped, r.expires)
		}
		r.set(func(r *rows) { r.away = false })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if r.token < 2 {
			t.Fatal("the lease was not acquired again")
		}
	})
}

func TestWorkStopsWhenTheLeaseIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var ended atomic.Bool
		go lease.New(r, "a", time.Now, quiet()).Run(ctx, "x", time.Minute, func(ctx context.Context, token int64) {
			<-ctx.Done()
			ended.Store(true)
		})
		time.Sleep(time.Second)
		synctest.Wait()
		r.set(func(r *rows) { r.token, r.expires = 7, time.Now().Add(time.Hour) }) // somebody with a fast clock
		time.Sleep(time.Minute)
		synctest.Wait()
		if !ended.Load() {
			t.Fatal("work goes on without the lease")
		}
	})
}

func TestWorkThatReturnsRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var tokens []int64
		go lease.New(&rows{}, "a", time.Now, quiet()).Run(ctx, "x", time.Minute, func(_ context.Context, token int64) {
			tokens = append(tokens, token)
		})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(tokens); n < 8 || n > 25 || tokens[n-1] != int64(n) {
			t.Fatalf("tokens %v", tokens)
		}
	})
}

func TestOneHolderOnRealStores(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLiteURL, "postgres": storetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			dsn := url(t)
			ctx, cancel := context.WithCancel(context.Background())
			var running, most, last atomic.Int64
			turns := make(chan int64, 100)
			done := make(chan struct{}, 3)
			first := storetest.Open(t, dsn, "node-0")
			if err := first.Migrate(ctx); err != nil {
				t.Fatal(err)
			}
			for _, node := range []string{"node-1", "node-2", "node-3"} {
				s := storetest.Open(t, dsn, node)
				go func() {
					lease.New(s, node, time.Now, quiet()).Run(ctx, "work", 300*time.Millisecond, func(_ context.Context, token int64) {
						most.Store(max(most.Load(), running.Add(1)))
						if last.Swap(token) >= token {
							t.Errorf("token %d came again", token)
						}
						turns <- token
						running.Add(-1)
					})
					done <- struct{}{}
				}()
			}
			for range 5 {
				<-turns
			}
			cancel()
			for range 3 {
				<-done
			}
			if most.Load() != 1 {
				t.Errorf("%d at a time", most.Load())
			}
		})
	}
}
