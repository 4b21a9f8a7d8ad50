// Command revoke measures revocations on both engines: how many a second in
// bulk, and how long one takes when a million are on record already. The tables
// are filled with SQL; what is measured goes through the door (issuance).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

type settings struct {
	engine  string
	bulk    int // certificates of a revocation in bulk
	revoked int // on record before the second round
	single  int // revocations one after the other
	callers int // and as many again at once
}

func main() {
	var s settings
	flag.StringVar(&s.engine, "engine", "both", "sqlite, postgres or both")
	flag.IntVar(&s.bulk, "bulk", 100_000, "certificates that are revoked in bulk")
	flag.IntVar(&s.revoked, "revoked", 1_000_000, "certificates that are revoked already in the second round")
	flag.IntVar(&s.single, "single", 2000, "certificates that are revoked one by one")
	flag.IntVar(&s.callers, "callers", 32, "callers at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "revoke:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	fmt.Printf("%s/%s, %d CPUs, %s\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, engine := range []string{"sqlite", "postgres"} {
		if s.engine != "both" && s.engine != engine {
			continue
		}
		if err := s.measure(ctx, engine); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
	}
	return nil
}

// measure revokes in bulk in a store that holds nothing else, fills the store,
// and revokes one by one and in bulk again.
func (s settings) measure(ctx context.Context, engine string) (err error) {
	dir, err := os.MkdirTemp("", "privyseal-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	url := "sqlite:" + filepath.Join(dir, "privyseal.db")
	if engine == "postgres" {
		cluster, err := storetest.StartCluster(true)
		if err != nil {
			return err
		}
		defer cluster.Close()
		url = cluster.URL("postgres")
	}
	st, err := store.Open(ctx, store.Config{URL: url, Node: "bench"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	if err := st.PutIssuer(ctx, store.IssuerRecord{ID: "web-1", Name: "web", State: "active",
		Certificate: make([]byte, 700), NotAfter: later(), CreatedAt: time.Now()}); err != nil {
		return err
	}
	b := &bench{settings: s, engine: engine, url: url, store: st, pipeline: issuance.New(issuance.Config{
		Store: st, Node: "bench", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})}
	return b.rounds(ctx)
}

type bench struct {
	settings
	engine, url string
	store       *store.Store
	pipeline    *issuance.Pipeline
}

func (b *bench) rounds(ctx context.Context) error {
	if err := b.fill(ctx, "first", b.bulk, false); err != nil {
		return err
	}
	if err := b.inBulk(ctx, "first"); err != nil {
		return err
	}
	began := time.Now()
	for _, f := range []struct {
		name    string
		count   int
		revoked bool
	}{{"old", b.revoked - b.bulk, true}, {"one", 2 * b.single, false}, {"second", b.bulk, false}} {
		if err := b.fill(ctx, f.name, f.count, f.revoked); err != nil {
			return err
		}
	}
	fmt.Printf("%-9s (filled to %d revoked with SQL in %s)\n", b.engine, b.revoked,
		time.Since(began).Round(time.Second))
	if err := b.oneByOne(ctx); err != nil {
		return err
	}
	return b.inBulk(ctx, "second")
}

// inBulk revokes what fill made under a name.
func (b *bench) inBulk(ctx context.Context, name string) error {
	sel := issuance.Selection{
		Match: store.Match{NamePattern: "*." + name + ".example", Reason: pki.CessationOfOperation},
		Where: "name~*." + name + ".example", Requester: "uid:0", RequestID: "bench",
	}
	began := time.Now()
	count, _, err := b.pipeline.Selected(ctx, sel, 10)
	if err != nil {
		return err
	}
	preview := time.Since(began)
	before, cpu := b.store.Stats(), cpuTime()
	revoked, calls, slowest := 0, 0, time.Duration(0)
	for began = time.Now(); ; calls++ {
		call := time.Now()
		page, err := b.pipeline.RevokeMatching(ctx, sel)
		if err != nil {
			return err
		}
		slowest = max(slowest, time.Since(call))
		revoked += page.Revoked
		if page.Next == "" {
			break
		}
		sel.After = page.Next
	}
	took, after := time.Since(began), b.store.Stats()
	if int64(revoked) != count || revoked != b.bulk {
		return fmt.Errorf("revoked %d of %d", revoked, count)
	}
	on := 0
	if name == "second" {
		on = b.revoked
	}
	fmt.Printf("%-9s bulk, %7d revoked before: %d certificates in %.1f s: %.0f certificates/s, %.0f rows/s, %.0f µs "+
		"CPU each, %d commits; preview %d ms; longest of %d calls %d ms\n",
		b.engine, on, revoked, took.Seconds(), float64(revoked)/took.Seconds(),
		float64(after.Rows-before.Rows)/took.Seconds(),
		float64((cpuTime()-cpu).Microseconds())/float64(revoked), after.Commits-before.Commits, preview.Milliseconds(),
		calls+1, slowest.Milliseconds())
	return nil
}

// oneByOne revokes certificate after certificate, then with many callers.
func (b *bench) oneByOne(ctx context.Context) error {
	var certs []store.Revocable
	for after := ""; ; {
		page, next, err := b.store.Matches(ctx, store.Match{NamePattern: "*.one.example", Reason: pki.Superseded,
			Now: time.Now()}, after, 2*b.single)
		if err != nil {
			return err
		}
		if certs = append(certs, page...); next == "" {
			break
		}
		after = next
	}
	if len(certs) != 2*b.single {
		return fmt.Errorf("%d certificates to revoke one by one, want %d", len(certs), 2*b.single)
	}
	for _, round := range []struct {
		callers int
		certs   []store.Revocable
	}{{1, certs[:b.single]}, {b.callers, certs[b.single:]}} {
		times := make([]time.Duration, len(round.certs))
		var next atomic.Int64
		var all sync.WaitGroup
		errs := make([]error, round.callers)
		began := time.Now()
		for i := range round.callers {
			all.Go(func() {
				for n := next.Add(1) - 1; n < int64(len(round.certs)) && errs[i] == nil; n = next.Add(1) - 1 {
					call := time.Now()
					errs[i] = b.pipeline.Revoke(ctx, issuance.Revocation{CertificateID: round.certs[n].ID,
						Reason: pki.Superseded, Requester: "uid:0"})
					times[n] = time.Since(call)
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		took := time.Since(began)
		slices.Sort(times)
		fmt.Printf("%-9s single, %7d revoked before, %2d callers: p50 %.2f ms, p99 %.2f ms, longest %.1f ms, %.0f/s\n",
			b.engine, b.revoked, round.callers, ms(times[len(times)/2]), ms(times[len(times)*99/100]),
			ms(times[len(times)-1]),
			float64(len(times))/took.Seconds())
	}
	return nil
}

// cpuTime is what this process has used: on SQLite that is all, on PostgreSQL the
// database's share comes on top.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func later() time.Time { return time.Now().AddDate(1, 0, 0) }
