package work

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// item is a piece of work that takes a while, possibly at a target.
type item struct {
	key    Key
	takes  time.Duration
	target string
	tries  int
	done   time.Duration // when, since the start
}

// bench is a queue of items in a bubble of synctest.
type bench struct {
	*Queue[*item]
	began time.Time
	log   bytes.Buffer
	mu    sync.Mutex
	order []string // ids as they began
	peak  map[string]int
	now   map[string]int
	rows  map[string]*item // of the store
	ended []string
	do    func(*item, *Turn) Next // instead of the usual
	park  func(id string) error
}

func newBench(b Bounds) *bench {
	x := &bench{began: time.Now(), peak: map[string]int{}, now: map[string]int{}, rows: map[string]*item{}}
	x.Queue = New(Config[*item]{
		Name: "items", Bounds: b, Every: time.Minute, Log: slog.New(slog.NewTextHandler(&x.log, nil)),
		List: x.list, Read: x.read, Do: x.work,
		Claim: func(_ context.Context, i *item, _ bool) (bool, error) { return i.target != "claimed by another", nil },
		Park: func(_ context.Context, id string) error {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.ended = append(x.ended, id)
			if x.park != nil {
				return x.park(id)
			}
			delete(x.rows, id)
			return nil
		},
	})
	return x
}

func (x *bench) list(context.Context, bool) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []string
	for id := range x.rows {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func (x *bench) read(_ context.Context, id string) (*item, Key, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.rows[id]
	if i == nil {
		return nil, Key{}, ErrGone
	}
	switch i.target {
	case "gone":
		return nil, Key{}, ErrGone
	case "corrupt":
		return nil, Key{}, fmt.Errorf("%w: bad JSON", ErrRow)
	case "away":
		return nil, Key{}, errors.New("the database is away")
	case "panics":
		panic("on reading " + id)
	}
	return i, i.key, nil
}

func (x *bench) count(name string, by int) {
	x.now[name] += by
	x.peak[name] = max(x.peak[name], x.now[name])
}

func (x *bench) work(ctx context.Context, i *item, turn *Turn) Next {
	if x.do != nil {
		return x.do(i, turn)
	}
	if i.target != "" && !turn.Enter(i.target) {
		return Wait
	}
	x.mu.Lock()
	x.order = append(x.order, i.key.ID)
	names := []string{"all", "owner " + i.key.Owner, "source " + i.key.Source, "target " + i.target}
	for _, n := range names {
		x.count(n, 1)
	}
	x.mu.Unlock()
	select {
	case <-time.After(i.takes):
	case <-ctx.Done():
		return Done
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range names {
		x.count(n, -1)
	}
	i.tries++
	i.done = time.Since(x.began)
	return Done
}

// run works for a while, then stops and waits for the end.
func (x *bench) run(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	x.Run(ctx)
}

func (x *bench) add(t *testing.T, i *item) {
	t.Helper()
	if err := x.Add(i.key, i); err != nil {
		t.Fatal(i.key, err)
	}
}

var wide = Bounds{Running: 64, Held: 10_000, HeldOwner: 10_000, HeldSource: 10_000}

// However many slow attempts there are of one account, of the accounts of one
// address, or at one target, somebody else's is made at once.
func TestFS4_NobodyIsStarved(t *testing.T) {
	t.Parallel()
	for name, slow := range map[string]func(n int) *item{
		"one account":               func(int) *item { return &item{key: Key{Owner: "a", Source: "s"}} },
		"many accounts, one source": func(n int) *item { return &item{key: Key{Owner: fmt.Sprint(n % 50), Source: "s"}} },
		"many sources, one target": func(n int) *item {
			return &item{key: Key{Owner: fmt.Sprint(n), Source: fmt.Sprint("s", n%40)}, target: "tar pit"}
		},
		"one account, the same target as others": func(int) *item { return &item{key: Key{Owner: "a", Source: "s"}, target: "shared"} },
		"many accounts of one source, the same target as others": func(n int) *item {
			return &item{key: Key{Owner: fmt.Sprint(n), Source: "s"}, target: "shared"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := newBench(wide)
				for n := range 1000 {
					i := slow(n)
					i.key.ID, i.takes = fmt.Sprint("slow-", n), 10*time.Second
					x.add(t, i)
				}
				var honest []*item
				for n := range 20 { // one now, and one each second
					i := &item{key: Key{ID: fmt.Sprint("honest-", n), Owner: "honest", Source: "elsewhere"},
						takes: 10 * time.Millisecond, target: "shared"}
					honest = append(honest, i)
					time.AfterFunc(time.Duration(n)*time.Second, func() { _ = x.Add(i.key, i) })
				}
				x.run(t, time.Minute)
				for n, i := range honest {
					if waited := i.done - time.Duration(n)*time.Second; i.done == 0 || waited > 100*time.Millisecond {
						t.Fatalf("honest attempt %d took %s", n, waited)
					}
				}
			})
		})
	}
}

// Accounts behind one address share it; none waits for all attempts of another.
func TestFS4_AccountsOfOneSourceTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newBench(Bounds{Running: 1, Held: 100, HeldOwner: 100, HeldSource: 100})
		for _, id := range []string{"a1", "a2", "a3", "a4", "b1", "c1", "c2", "d1"} {
			source := "s"
			if id[0] == 'd' {
				source = "elsewhere"
			}
			x.add(t, &item{key: Key{ID: id, Owner: id[:1], Source: source}, takes: time.Second})
		}
		x.run(t, time.Minute)
		if diff := cmp.Diff([]string{"a1", "d1", "b1", "c1", "a2", "c2", "a3", "a4"}, x.order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

// An item to which its target is lent need not come to it: what it connects to may
// have changed. Then the next one that waits has its turn.
func TestFS4_WhoDoesNotComeToItsTargetLendsItOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := wide
		b.Running = 4
		x := newBench(b)
		x.do = func(i *item, turn *Turn) Next {
			switch i.tries++; {
			case i.key.Owner == "waits" && i.tries > 1:
			case !turn.Enter("shared"):
				return Wait
			case !turn.Enter("shared"):
				t.Error("an attempt that has entered was refused")
			default:
				time.Sleep(time.Second)
			}
			return Done
		}
		for n := range 3 {
			x.add(t, &item{key: Key{ID: fmt.Sprint("busy-", n), Owner: "busy", Source: fmt.Sprint(n)}})
		}
		for n := range 5 {
			x.add(t, &item{key: Key{ID: fmt.Sprint("waits-", n), Owner: "waits", Source: fmt.Sprint("s", n)}})
		}
		x.run(t, time.Minute)
		if x.Held() != 0 || len(x.running) != 0 || len(x.waiting) != 0 {
			t.Errorf("left over: %d held, %v, %v", x.Held(), x.running, x.waiting)
		}
	})
}

// An attempt that ends with Wait though nothing refused it is made again.
func TestFS4_WaitForNoTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newBench(wide)
		i := &item{key: Key{ID: "1"}}
		x.do = func(i *item, _ *Turn) Next {
			if i.tries++; i.tries < 3 {
				return Wait
			}
			return Done
		}
		x.add(t, i)
		x.run(t, time.Minute)
		if i.tries != 3 || x.Held() != 0 {
			t.Errorf("%d tries, %d held", i.tries, x.Held())
		}
	})
}

// Nothing is forgotten, whatever shares targets with whatever, and no share is
// exceeded.
func TestFS4_EveryItemIsDone(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			b := wide
			b.Running = 1 + r.IntN(12)
			x := newBench(b)
			var all []*item
			for n := range 300 {
				i := &item{
					key:    Key{ID: fmt.Sprint(n), Owner: fmt.Sprint(r.IntN(9)), Source: fmt.Sprint(r.IntN(4))},
					takes:  time.Duration(r.IntN(2000)) * time.Millisecond,
					target: []string{"", "x", "y", "z"}[r.IntN(4)],
				}
				all = append(all, i)
				time.AfterFunc(time.Duration(r.IntN(30))*time.Second, func() { _ = x.Add(i.key, i) })
			}
			x.run(t, time.Hour)
			for _, i := range all {
				if i.tries != 1 {
					t.Fatalf("seed %d: %+v was done %d times", seed, i.key, i.tries)
				}
			}
			if n := x.Held(); n != 0 || len(x.load) != 0 || len(x.running) != 0 || len(x.waiting) != 0 || x.total != 0 {
				t.Errorf("seed %d: left over: %d held, %v, %v, %v, %d", seed, n, x.load, x.running, x.waiting, x.total)
			}
			for name, n := range x.peak {
				most := b.Running
				switch {
				case strings.HasPrefix(name, "owner"):
					most = max(most/2, 1)
				case strings.HasPrefix(name, "source"):
					most = (most + 1) / 2
				case strings.HasPrefix(name, "target") && name != "target ":
					most -= most / 4
				}
				if n > most {
					t.Errorf("seed %d: %s had %d of %d workers", seed, name, n, b.Running)
				}
			}
		})
	}
}

func TestFS4_PlacesAreBounded(t *testing.T) {
	t.Parallel()
	x := newBench(Bounds{Running: 1, Held: 6, HeldOwner: 2, HeldSource: 4})
	add := func(id, owner, source string) error { k := Key{id, owner, source}; return x.Add(k, &item{key: k}) }
	for _, c := range []struct {
		id, owner, source string
		want              error
	}{
		{"1", "a", "s", nil},
		{"1", "a", "s", ErrHeld},
		{"2", "a", "s", nil},
		{"3", "a", "s", &Full{"owner", 2}},
		{"4", "b", "s", nil},
		{"5", "c", "s", nil},
		{"6", "d", "s", &Full{"source", 4}},
		{"7", "e", "t", nil},
		{"8", "f", "u", nil},
		{"9", "g", "v", &Full{"all", 6}},
	} {
		err := add(c.id, c.owner, c.source)
		if fmt.Sprint(err) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.id, err, c.want)
		}
	}
	x.release("4")
	if err := x.Room(Key{"6", "d", "s"}); err != nil {
		t.Error(err)
	}
}

func TestRetriesKeepTheirPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newBench(Bounds{Running: 2, Held: 1, HeldOwner: 1, HeldSource: 1})
		x.do = func(i *item, _ *Turn) Next {
			i.tries++
			i.done = time.Since(x.began)
			return []Next{After(2 * time.Second), After(8 * time.Second), Done}[i.tries-1]
		}
		i := &item{key: Key{ID: "1"}}
		x.add(t, i)
		time.AfterFunc(5*time.Second, func() {
			if err := x.Add(Key{ID: "2"}, i); err == nil {
				t.Error("an item that waits to be tried again has lost its place")
			}
		})
		x.run(t, time.Minute)
		if i.tries != 3 || i.done != 10*time.Second || x.Held() != 0 {
			t.Errorf("%d tries, the last after %s, %d held", i.tries, i.done, x.Held())
		}
	})
}

func TestSweepTakesWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newBench(Bounds{Running: 8, Held: 10, HeldOwner: 2, HeldSource: 10})
		for id, target := range map[string]string{"1": "gone", "2": "claimed by another", "3": "", "4": "", "5": "",
			"6": "away", "7": ""} {
			x.rows[id] = &item{key: Key{ID: id, Owner: "a"}, target: target, takes: 10 * time.Minute}
		}
		x.add(t, x.rows["3"])
		x.run(t, 2*time.Minute) // row 5 does not fit, and nothing can be read from row 6 on
		if diff := cmp.Diff([]string{"3", "4"}, slices.Sorted(slices.Values(x.order))); diff != "" {
			t.Errorf("worked on (-want +got):\n%s", diff)
		}
		if !strings.Contains(x.log.String(), "the database is away") {
			t.Errorf("log: %s", x.log.String())
		}
	})
}

// A row on which the code panics is ended and counted; one that cannot even be
// ended is left alone. Everything else goes on.
func TestFS19_PanicsAreParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := newBench(wide)
		x.rows["reads"] = &item{key: Key{ID: "reads"}, target: "panics"}
		x.rows["corrupt"] = &item{key: Key{ID: "corrupt"}, target: "corrupt"}
		x.rows["works"] = &item{key: Key{ID: "works"}, target: "explodes"}
		x.rows["stuck"] = &item{key: Key{ID: "stuck"}, target: "explodes"}
		x.rows["fine"] = &item{key: Key{ID: "fine"}}
		x.do = func(i *item, _ *Turn) Next {
			x.mu.Lock()
			defer x.mu.Unlock()
			i.tries++
			if i.target == "explodes" {
				panic("on working at " + i.key.ID)
			}
			delete(x.rows, i.key.ID)
			return Done
		}
		x.park = func(id string) error {
			if id == "stuck" {
				panic("on ending " + id)
			}
			delete(x.rows, id)
			return nil
		}
		stuck := x.rows["stuck"]
		x.run(t, 10*time.Minute)
		if left := fmt.Sprint(x.list(t.Context(), false)); left != "[stuck] <nil>" || stuck.tries != 1 {
			t.Errorf("left %s, the one that cannot be ended was tried %d times", left, stuck.tries)
		}
		if diff := cmp.Diff([]string{"corrupt", "reads", "stuck", "works"},
			slices.Sorted(slices.Values(x.ended))); diff != "" || x.Parked() != 4 || x.Held() != 0 {
			t.Errorf("%d parked, %d held (-want +got):\n%s", x.Parked(), x.Held(), diff)
		}
		for _, want := range []string{"level=ERROR", "id=works", "panic: on working at works", "queue_test.go",
			"panic: on ending stuck", "bad JSON"} {
			if !strings.Contains(x.log.String(), want) {
				t.Errorf("the log lacks %q: %s", want, x.log.String())
			}
		}
	})
}
