// Command scep-oracle looks for a decryption oracle in SCEP: it sends messages to a
// server that it builds and starts itself, in every messageType and with every kind
// of envelope that cannot be read, in rounds that hold one of each in an order of
// their own. It checks that the answers are equal but for nonces, times and
// signatures, and prints by how much the times of each kind are later than those of a
// broken CBC padding, and Welch's t of that: once without the slowest tenth of each,
// once of the faster half alone. |t| < 4.5 is the aim.
//
// The last kind is the broken padding again, with a delay put in by the client. It
// says what the run was able to see: |t| > 20 for 50 µs is the aim of 10,000 rounds.
//
//	go run ./test/load/scep-oracle                    # 10,000 rounds of each type: hours
//	go run ./test/load/scep-oracle -n 1000 -types 21  # some minutes
//
// An answer takes 20 ms, nearly all of it waiting. More -clients are quicker, and
// blur the times where there are few processors: look at what the control says.
//
// The server's limits of unreadable messages are off: they would end the run. What
// they cost is the same for every kind, and comes after the time that is measured
// for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/privyseal/privyseal/test/lab"
)

type settings struct {
	rounds, clients, variants int
	types                     []string
	delay                     time.Duration
}

func main() {
	var s settings
	var types string
	flag.IntVar(&s.rounds, "n", 10_000, "rounds of each messageType")
	flag.IntVar(&s.clients, "clients", 1, "connections that send at the same time")
	flag.IntVar(&s.variants, "variants", 8, "messages of each kind that take turns")
	flag.StringVar(&types, "types", "19,17,18,20,21,22", "messageTypes")
	flag.DurationVar(&s.delay, "delay", 50*time.Microsecond, "what the last kind is late by")
	flag.Parse()
	s.types = strings.Split(types, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "scep-oracle:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp("", "privyseal-oracle-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	p, err := newParties(ctx, server)
	if err != nil {
		return err
	}
	leaks := 0
	for _, typ := range s.types {
		kinds, err := p.kinds(typ, s)
		if err != nil {
			return fmt.Errorf("type %s: %w", typ, err)
		}
		began := time.Now()
		if err := p.measure(ctx, s, kinds); err != nil {
			return fmt.Errorf("type %s: %w", typ, err)
		}
		leaks += report(typ, kinds, time.Since(began))
	}
	if leaks > 0 {
		return fmt.Errorf("%d kinds can be told apart", leaks)
	}
	return nil
}

// start sets up a server of privyseal dev, and serves it with no limits of
// unreadable messages.
func start(dir string) (*lab.Server, error) {
	binary, err := lab.Build(dir)
	if err != nil {
		return nil, err
	}
	server := &lab.Server{Binary: binary, Dir: filepath.Join(dir, "ca")}
	if server.Addr, err = lab.FreeAddresses(); err != nil {
		return nil, err
	}
	if err := server.Start(); err != nil {
		return nil, err
	}
	if err := server.Stop(); err != nil {
		return nil, err
	}
	file := filepath.Join(server.Dir, "privyseal.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	counts := regexp.MustCompile(`(unreadable_by_\w+:\s+count: )\d+`)
	if n := len(counts.FindAll(text, -1)); n != 3 {
		return nil, fmt.Errorf("%s: %d limits of unreadable messages, want 3", file, n)
	}
	if err := os.WriteFile(file, counts.ReplaceAll(text, []byte("${1}0")), 0o600); err != nil {
		return nil, err
	}
	server.Serve = true
	return server, server.Start()
}
