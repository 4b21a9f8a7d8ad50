// Command load measures a whole ACME flow (new order, authorization, http-01
// challenge, finalize, download) against a server that it builds and starts
// itself: audit, lint and name server on, P-256 throughout, clients on kept
// connections on the same machine. It prints rates, quantiles, CPU time for one
// certificate of the server and of PostgreSQL apart, a budget by line, peak
// memory, and the floor: the signature operations that one certificate cannot
// avoid, timed in the same run. Machines drift, so quote ratios, not rates.
//
//	go run ./test/load -engine both -clients 32 -duration 20s
//
// With -devices it measures EST enrolments and SCEP operations likewise, beside
// the signature and key operations of each.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/lab"
)

type settings struct {
	engine   string
	clients  int
	duration time.Duration
	most     int64
	keep     string
	devices  bool
	prepared int
}

func main() {
	var s settings
	flag.StringVar(&s.engine, "engine", "both", "sqlite, postgres or both")
	flag.IntVar(&s.clients, "clients", 32, "clients that work at the same time")
	flag.DurationVar(&s.duration, "duration", 20*time.Second, "how long each phase lasts")
	flag.Int64Var(&s.most, "most", 100_000, "certificates after which a phase ends early")
	flag.StringVar(&s.keep, "keep", "", "folder that keeps the program and its CPU profiles")
	flag.BoolVar(&s.devices, "devices", false, "measure EST and SCEP instead of ACME")
	flag.IntVar(&s.prepared, "prepared", 8000, "requests of each kind that -devices makes before the clock starts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	dir := s.keep
	if dir == "" {
		temporary, err := os.MkdirTemp("", "privyseal-load-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(temporary) }()
		dir = temporary
	}
	binary, err := lab.Build(dir)
	if err != nil {
		return err
	}
	one := devices
	if !s.devices {
		one = measure
		fmt.Printf("The floor is %d verifications and %d signatures of P-256, timed before and after each phase.\n\n",
			floorVerifications, floorSignatures)
	}
	failed := false
	for _, engine := range []string{"sqlite", "postgres"} {
		if s.engine != "both" && s.engine != engine {
			continue
		}
		ok, err := one(ctx, s, engine, binary, filepath.Join(dir, engine))
		if err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
		failed = failed || !ok
	}
	if failed {
		return errors.New("some failed; see above")
	}
	return nil
}

// measure runs both phases on one engine.
func measure(ctx context.Context, s settings, engine, binary, dir string) (ok bool, err error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return false, err
	}
	server, database, end, err := start(engine, binary, dir)
	if err != nil {
		return false, err
	}
	defer end()
	responder, err := acmeclient.NewResponder(server.Addr.HTTP01)
	if err != nil {
		return false, err
	}
	defer func() { _ = responder.Close() }()
	hc, err := server.Client(s.clients)
	if err != nil {
		return false, err
	}
	ok = true
	for _, shared := range []bool{false, true} {
		accounts, err := register(ctx, hc, server, responder, s.clients, shared)
		if err != nil {
			return false, err
		}
		l := &load{settings: s, accounts: accounts, server: server, database: database, dir: dir}
		before, err := floor()
		if err != nil {
			return false, err
		}
		if err := l.run(ctx); err != nil {
			return false, err
		}
		after, err := floor()
		if err != nil {
			return false, err
		}
		l.print(engine, shared, binary, (before+after)/2)
		ok = ok && l.failed.Load() == 0
	}
	if err := server.Stop(); err != nil {
		return false, err
	}
	return ok, server.Verify()
}

// start starts a server with profiles switched on, on a database of its own. The
// second result is the process id of PostgreSQL, or 0.
func start(engine, binary, dir string) (server *lab.Server, database int, end func(), err error) {
	dns, stopDNS, err := dnstest.New("lab.test")
	if err != nil {
		return nil, 0, nil, err
	}
	ends := []func(){stopDNS}
	end = func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}
	defer func(end func()) {
		if err != nil {
			end()
		}
	}(end)
	server = &lab.Server{Binary: binary, Dir: filepath.Join(dir, "ca"), Resolver: dns.Addr()}
	if server.Addr, err = lab.FreeAddresses(); err != nil {
		return nil, 0, nil, err
	}
	if engine == "postgres" {
		cluster, err := storetest.StartCluster(true)
		if err != nil {
			return nil, 0, nil, err
		}
		ends = append(ends, cluster.Close)
		server.Database = cluster.URL("postgres")
		if database, err = cluster.PID(); err != nil {
			return nil, 0, nil, err
		}
	}
	if err := server.Start(); err != nil {
		return nil, 0, nil, err
	}
	if err := errors.Join(server.Stop(), enableProfiles(filepath.Join(server.Dir, "privyseal.yaml")),
		server.Start()); err != nil {
		return nil, 0, nil, err
	}
	ends = append(ends, server.Kill)
	return server, database, end, nil
}

// enableProfiles switches pprof on in a configuration that dev wrote.
func enableProfiles(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, after, ok := strings.Cut(string(text), "\n  ops:\n")
	if !ok {
		return fmt.Errorf("%s: no listener ops", file)
	}
	return os.WriteFile(file, []byte(before+"\n  ops:\n    pprof: true\n"+after), 0o600)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
