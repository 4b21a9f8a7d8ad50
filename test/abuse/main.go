// Command abuse attacks a server that it builds and starts itself, with 256 open files
// and a limit of memory, beside honest ACME clients that ask for half of what the server
// was measured to do. It prints, for each attack, what became of it, the 99th percentile
// of a whole honest flow beside that of a quiet time just before, memory and descriptors.
// It fails where the first is more than three times the second, where the server ever
// held more than 256 MiB, or where descriptors do not come back.
//
//	go run ./test/abuse                          # every attack, some minutes
//	go run ./test/abuse -attacks idle,ocsp -duration 20s
//
// Everything is on the loopback interface; attackers come from 127.0.0.9. An attack is
// bounded in number and ends with its phase.
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

	"github.com/privyseal/privyseal/test/meter"
)

// What is wanted.
const (
	mostSlower  = 3.0 // times the quiet 99th percentile
	mostMemory  = 256.0
	openFiles   = 256
	dataMiB     = 1024            // RLIMIT_DATA of the server: what it may allocate, far over what is wanted
	filesTime   = 3 * time.Minute // 400 validations of three tries, three quarters of 64 workers on one address
	filesBeside = 8               // descriptors more than before that do not count as lost
)

type settings struct {
	duration time.Duration
	attacks  string
	workers  int
}

func main() {
	var s settings
	flag.DurationVar(&s.duration, "duration", 10*time.Second, "how long each phase lasts")
	flag.StringVar(&s.attacks, "attacks", "", "names of attacks, with commas between; empty is all")
	flag.IntVar(&s.workers, "workers", 8, "honest clients that work at the same time, and connections of an attack")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "abuse:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	chosen, err := choose(s.attacks)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "privyseal-abuse-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	t, err := newTarget(ctx, filepath.Join(dir, "ca"), s.workers)
	if err != nil {
		return err
	}
	defer t.close()
	rate, err := t.honest.capacity(ctx, s.duration)
	if err != nil {
		return err
	}
	fmt.Printf("capacity %.1f certificates/s with %d clients; honest clients ask for half of it\n\n", rate, s.workers)
	fmt.Printf("%-10s %8s %8s %7s %9s %6s  %s\n", "attack", "quiet", "p99", "ratio", "peak MiB", "files", "what became of it")
	missed := 0
	for _, a := range chosen {
		ok, err := t.phase(ctx, a, rate/2, s)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		if !ok {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d attacks did more than they may", missed)
	}
	return t.stop()
}

func choose(names string) ([]attack, error) {
	if names == "" {
		return attacks, nil
	}
	var chosen []attack
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, a := range attacks {
			if a.name == name {
				chosen, found = append(chosen, a), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no attack %q", name)
		}
	}
	return chosen, nil
}

// phase measures a quiet time and one under attack, and prints a row.
func (t *target) phase(ctx context.Context, a attack, rate float64, s settings) (ok bool, err error) {
	pid := t.server.PID()
	quiet, err := t.honest.ask(ctx, rate, s.duration)
	if err != nil {
		return false, fmt.Errorf("quiet: %w", err)
	}
	before := meter.Descriptors(pid)
	attacking, end := context.WithTimeout(ctx, s.duration+2*time.Second)
	defer end()
	told := make(chan tally, 1)
	ready := make(chan error, 1)
	go func() { told <- a.run(attacking, t, s.workers, ready) }()
	if err := <-ready; err != nil {
		return false, err
	}
	under, err := t.honest.ask(ctx, rate, s.duration)
	end()
	outcome := <-told
	if err != nil {
		return false, fmt.Errorf("under attack, %v: %w", outcome, err)
	}
	ratio, memory, after := under/quiet, meter.PeakRSS(pid), filesBack(ctx, pid, before)
	var wrong []string
	for text, bad := range map[string]bool{
		"TOO SLOW": ratio > mostSlower, "TOO MUCH MEMORY": memory > mostMemory,
		"FILES LOST": after > before+filesBeside, "NOTHING SENT": outcome.sent == 0,
	} {
		if bad {
			wrong = append(wrong, text)
		}
	}
	fmt.Printf("%-10s %5.0f ms %5.0f ms %6.1fx %9.0f %3d→%-3d %v %s\n", a.name, quiet, under, ratio, memory, before,
		after, outcome, strings.Join(wrong, ", "))
	return len(wrong) == 0, nil
}

// filesBack waits until a process has about as many descriptors as before, or for
// filesTime, and returns how many it has.
func filesBack(ctx context.Context, pid, before int) int {
	for until := time.Now().Add(filesTime); ; {
		now := meter.Descriptors(pid)
		if now <= before+filesBeside || time.Now().After(until) || pause(ctx, 100*time.Millisecond) != nil {
			return now
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

var errFailed = errors.New("honest clients failed")
