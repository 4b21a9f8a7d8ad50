// Mutants finds refusals that no test notices: `go run ./test/mutants ./internal/acme`.
//
// A mutant is one condition, of an if statement or of a case of a switch without a tag,
// whose branch returns a fault or another error that is made there (-passed-on: also one
// that is only passed on). It is dropped once, so that nothing is refused, and negated
// once. A package is compiled a single time, with every condition asked through a
// function that the environment tells which mutant lives; the checkout is not touched.
// Each test runs alone first, which tells which conditions it comes by; then each mutant
// runs with those tests, fastest first, until one fails. One that no test fails survives.
// The tests are the package's own and those of the packages given with -with.
//
// Results are kept in -state, by the text of the package and its tests, so that a run that
// was ended goes on. A condition that was never true in any test survives its dropping
// without a run. It takes an hour and more for a large package, and is not part of CI.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.state, "state", "mutants.jsonl", "file of results, which is gone on with")
	flag.BoolVar(&o.passedOn, "passed-on", false, "conditions that only pass an error on too")
	flag.BoolVar(&o.short, "short", false, "run the tests with -short")
	flag.Func("with", "folder of another package whose tests count too (repeatable)", func(dir string) error {
		o.with = append(o.with, dir)
		return nil
	})
	flag.StringVar(&o.only, "only", "", "conditions in files whose name has this in it")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: go run ./test/mutants [flags] PACKAGE-FOLDER…\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

type options struct {
	state, only     string
	with            []string
	passedOn, short bool
}

func run(ctx context.Context, o options, folders []string) error {
	results, err := load(o.state)
	if err != nil {
		return err
	}
	defer results.close()
	var sums []sum
	for _, dir := range folders {
		p, err := newSubject(ctx, dir, o)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		err = p.hunt(ctx, results)
		sums = append(sums, p.sum(results))
		p.close()
		if err != nil {
			report(sums)
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	report(sums)
	return nil
}

// sum is what became of the mutants of one package.
type sum struct {
	dir                         string
	conditions, mutants, killed int
	survivors                   []survivor
}

type survivor struct {
	condition
	mode, why string
}

// The ways in which a condition is changed.
const (
	dropped = "dropped"
	negated = "negated"
)

// What became of a mutant.
const (
	killed   = "killed"
	never    = "no test takes the branch"
	unseen   = "no test fails"
	unasked  = "no test comes by"
	patience = 5 * time.Minute // for the tests of one mutant, at most
)

func report(sums []sum) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PACKAGE\tCONDITIONS\tMUTANTS\tKILLED\tSURVIVE")
	for _, s := range sums {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", s.dir, s.conditions, s.mutants, s.killed, len(s.survivors))
	}
	_ = w.Flush()
	for _, s := range sums {
		for _, v := range s.survivors {
			fmt.Printf("%s:%d: %s: %s: %s\n", v.file, v.line, v.mode, v.why, v.text)
		}
	}
}

func (p *subject) sum(results *store) sum {
	s := sum{dir: p.dir, conditions: len(p.conditions)}
	for _, c := range p.conditions {
		for _, mode := range []string{dropped, negated} {
			switch fate := results.of[p.key(c, mode)]; fate {
			case "":
				continue // not reached
			case killed:
				s.killed++
			default:
				s.survivors = append(s.survivors, survivor{c, mode, fate})
			}
			s.mutants++
		}
	}
	return s
}

// byTime orders tests by how long they took alone.
func byTime(took map[string]time.Duration, names []string) []string {
	return slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(took[a], took[b]), cmp.Compare(a, b))
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
