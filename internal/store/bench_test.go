package store_test

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// engines runs a benchmark on SQLite and on a PostgreSQL that waits for its
// disk, with one caller and with many.
func engines(b *testing.B, run func(b *testing.B, s *store.Store, callers int)) {
	cluster, err := storetest.StartCluster(true)
	if err == nil {
		b.Cleanup(cluster.Close)
	}
	for _, name := range []string{"sqlite", "postgres"} {
		for _, callers := range []int{1, 32, 256} {
			b.Run(name+"/"+map[int]string{1: "single", 32: "callers=32", 256: "callers=256"}[callers], func(b *testing.B) {
				url := storetest.SQLiteURL(b)
				if name == "postgres" {
					if cluster == nil {
						b.Skip(err)
					}
					url = cluster.URL("postgres")
				}
				s := storetest.Open(b, url, "node-1")
				noErr(b, s.Migrate(context.Background()))
				run(b, s, callers)
			})
		}
	}
}

// share lets callers do b.N acts between them and reports what they cost.
func share(b *testing.B, s *store.Store, callers int, act func() error) {
	var next atomic.Int64
	var all sync.WaitGroup
	before, cpu := s.Stats(), cpuTime()
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := act(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	after := s.Stats()
	b.ReportMetric(float64(after.Rows-before.Rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(after.Commits-before.Commits)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAudit writes one row for each act.
func BenchmarkAudit(b *testing.B) {
	engines(b, func(b *testing.B, s *store.Store, callers int) {
		share(b, s, callers, func() error { return s.AppendAudit(context.Background(), event("bench")) })
	})
}

// BenchmarkCertificate writes what one ACME certificate of one name writes.
func BenchmarkCertificate(b *testing.B) {
	engines(b, func(b *testing.B, s *store.Store, callers int) {
		a := newAccount(b, s)
		share(b, s, callers, func() error {
			ctx := context.Background()
			o := newOrder(b, s, a.ID, base.Add(time.Hour), "a.test")
			if _, _, err := s.Order(ctx, o.ID); err != nil {
				return err
			}
			if _, err := s.StartChallenge(ctx, o.AuthorizationIDs[0], "http-01", "t", base); err != nil {
				return err
			}
			ev := event("authorization.valid")
			if err := s.FinishChallenge(ctx, o.AuthorizationIDs[0], "http-01", true, nil, nil, base, base.Add(time.Hour), &ev); err != nil {
				return err
			}
			if err := s.StartFinalize(ctx, o.ID, make([]byte, 300), "node-1", base); err != nil {
				return err
			}
			c := newCertificate("order:"+o.ID, "a.test")
			c.TBS = make([]byte, 600)
			if err := s.Reserve(ctx, c, nil, event("certificate.intent")); err != nil {
				return err
			}
			if err := s.Complete(ctx, c.ID, make([]byte, 700), base, event("certificate.issued")); err != nil {
				return err
			}
			_, _, err := s.Order(ctx, o.ID)
			return err
		})
	})
}

// BenchmarkNonceAndAccount is what every signed request begins with.
func BenchmarkNonceAndAccount(b *testing.B) {
	engines(b, func(b *testing.B, s *store.Store, callers int) {
		a := newAccount(b, s)
		var n atomic.Int64
		share(b, s, callers, func() error {
			nonce := []byte(store.NewID() + string(rune(n.Add(1))))
			_, _, err := s.AccountAndNonce(context.Background(), a.ID, nonce, base, pki.KeyHash{1})
			return err
		})
	})
}
