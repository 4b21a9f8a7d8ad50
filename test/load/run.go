package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/meter"
)

// load is one phase: clients that get certificates until the time is over.
type load struct {
	settings
	accounts []*acmeclient.Client // one for each client, or the same one
	server   *lab.Server
	database int // process id of PostgreSQL, or 0
	dir      string

	issued, failed, orders atomic.Int64
	steps                  meter.Timings
	took                   time.Duration
	serverCPU, databaseCPU time.Duration
	posts                  int64
	profile                string
	profileErr             error
}

func register(
	ctx context.Context, hc *http.Client, s *lab.Server, r *acmeclient.Responder, clients int, shared bool,
) ([]*acmeclient.Client, error) {
	accounts := make([]*acmeclient.Client, clients)
	for i := range accounts {
		if shared && i > 0 {
			accounts[i] = accounts[0]
			continue
		}
		c, err := acmeclient.New(ctx, hc, s.Directory("default"), r)
		if err != nil {
			return nil, err
		}
		if err := c.Register(ctx); err != nil {
			return nil, fmt.Errorf("register account %d: %w", i, err)
		}
		accounts[i] = c
	}
	return accounts, nil
}

func (l *load) run(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	warm, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := l.accounts[0].Certify(warm, key, func(string, time.Duration) {}, "warm.lab.test"); err != nil {
		return fmt.Errorf("first certificate: %w\n%s", err, l.server.Log.Tail(4000))
	}

	posts := l.postsSent()
	serverBefore, databaseBefore, began := meter.CPU(l.server.PID()), meter.TreeCPU(l.database), time.Now()
	var profiling sync.WaitGroup
	profiling.Go(func() { l.profile, l.profileErr = profile(l.server.Addr.Ops, l.dir, l.duration*3/4) })
	var working sync.WaitGroup
	for i := range l.accounts {
		working.Go(func() { l.work(ctx, i, key, began.Add(l.duration)) })
	}
	working.Wait()
	l.took = time.Since(began)
	l.serverCPU, l.databaseCPU = meter.CPU(l.server.PID())-serverBefore, meter.TreeCPU(l.database)-databaseBefore
	l.posts = l.postsSent() - posts
	profiling.Wait()
	return ctx.Err()
}

func (l *load) postsSent() int64 {
	total := int64(0)
	for i, c := range l.accounts {
		if i == 0 || c != l.accounts[0] {
			total += c.Posts.Load()
		}
	}
	return total
}

// work gets one certificate after the other, each for a new name.
func (l *load) work(ctx context.Context, client int, key *ecdsa.PrivateKey, until time.Time) {
	for ctx.Err() == nil && time.Now().Before(until) && l.issued.Load() < l.most {
		name := fmt.Sprintf("h%d-c%d.lab.test", l.orders.Add(1), client)
		began := time.Now()
		one, cancel := context.WithTimeout(ctx, time.Minute)
		_, err := l.accounts[client].Certify(one, key, l.steps.Add, name)
		cancel()
		if err != nil {
			if l.failed.Add(1) <= 5 {
				fmt.Fprintf(os.Stderr, "load: %s: %v\n", name, err)
			}
			continue
		}
		l.issued.Add(1)
		l.steps.Add("whole flow", time.Since(began))
	}
}

func (l *load) print(engine string, shared bool, binary string, low time.Duration) {
	who := "one account each"
	if shared {
		who = "all on one account"
	}
	n := l.issued.Load()
	fmt.Printf("%s, %d clients, %s: %d certificates in %.1f s, %d orders failed\n",
		engine, len(l.accounts), who, n, l.took.Seconds(), l.failed.Load())
	if n == 0 {
		return
	}
	per := func(d time.Duration) float64 { return ms(d) / float64(n) }
	fmt.Printf("  rate                 %8.1f certs/s, %.1f signed requests each\n", float64(n)/l.took.Seconds(),
		float64(l.posts)/float64(n))
	fmt.Printf("  floor                %8.2f ms for one certificate\n", ms(low))
	fmt.Printf("  server CPU           %8.2f ms for one certificate, %.2f × the floor\n", per(l.serverCPU),
		per(l.serverCPU)/ms(low))
	if l.database != 0 {
		fmt.Printf("  PostgreSQL CPU       %8.2f ms for one certificate\n", per(l.databaseCPU))
	}
	fmt.Printf("  server peak RSS      %8.1f MiB\n", meter.PeakRSS(l.server.PID()))
	for _, step := range []string{"order", "authorization", "challenge", "validated", "finalize", "download",
		"whole flow"} {
		p50, p99 := l.steps.Quantiles(step)
		fmt.Printf("  %-20s %8.1f ms p50 %8.1f ms p99\n", step, p50, p99)
	}
	l.printBudget(binary, per(l.serverCPU))
}

func (l *load) printBudget(binary string, perCert float64) {
	shares, err := map[string]float64(nil), l.profileErr
	if err == nil {
		shares, err = budget(binary, l.profile)
	}
	if err != nil {
		fmt.Printf("  no budget: %v\n\n", err)
		return
	}
	var names []string
	for name := range shares {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(1e6 * (shares[b] - shares[a])) })
	fmt.Println("  budget of the server's CPU for one certificate:")
	for _, name := range names {
		fmt.Printf("    %-18s %8.2f ms %5.1f %%\n", name, shares[name]*perCert, 100*shares[name])
	}
	fmt.Println()
}
