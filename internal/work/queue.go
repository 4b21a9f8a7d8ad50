// Package work runs what nobody waits for: rows of the store that have to be
// worked on in the background, whichever process accepted them.
//
// A Queue holds an item while it works on it, tries it again after a delay,
// finds by sweeping what a dead process left or what did not fit, and shares its
// workers fairly: by owner (an account), by the source that the owner came from
// (a network), and by target (an address that an attempt connects to). It owns
// no state that would be missed: the row says what has to be done, and every
// item can be dropped and found again.
//
// An item on whose row the code panics is parked: its row is ended, or, if that
// fails, left alone by this process. The process goes on.
package work

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Key says whose an item is.
type Key struct {
	ID     string // of the row; a queue holds it once
	Owner  string // who asked for it, such as an account
	Source string // where that owner comes from, such as a network
}

// Bounds are a queue's limits, all in items.
type Bounds struct {
	Running    int // worked on at the same time
	Held       int // running, queued and waiting for another try, in all
	HeldOwner  int // of those, of one owner
	HeldSource int // of those, of one source
}

// Config is what a Queue needs. The functions of one item are never called for
// it twice at the same time.
type Config[T any] struct {
	Name   string // in log lines
	Bounds Bounds
	Every  time.Duration // between sweeps
	// List returns the ids of rows that nobody seems to work on; start is set in
	// the first sweep of this process.
	List func(ctx context.Context, start bool) ([]string, error)
	// Read reads such a row. It is ErrGone if there is nothing to do (any more), and
	// ErrRow if the row itself is why it cannot be read.
	Read func(ctx context.Context, id string) (T, Key, error)
	// Claim makes it this process's; false if another one was quicker.
	Claim func(ctx context.Context, item T, start bool) (bool, error)
	// Do works on an item until the context ends or it knows what comes next.
	Do func(ctx context.Context, item T, turn *Turn) Next
	// Park ends a row that cannot be worked on, so that no start tries it again.
	Park func(ctx context.Context, id string) error
	Log  *slog.Logger
}

var (
	// ErrGone says that a row needs no work.
	ErrGone = errors.New("nothing to do")
	// ErrRow says that a row cannot be worked on, now or later.
	ErrRow = errors.New("the row cannot be worked on")
	// ErrHeld says that the queue holds the row already.
	ErrHeld = errors.New("it is held already")
)

// Full says that a bound is reached.
type Full struct {
	Who  string // "owner", "source" or "all": whose items are too many
	Most int
}

func (f *Full) Error() string { return fmt.Sprintf("%d items of %s are held already", f.Most, f.Who) }

// Next is what comes after an attempt: Done, Wait or After.
type Next time.Duration

const (
	Done Next = -1 // the item is let go
	Wait Next = -2 // it is tried again when the target that Enter refused is free
)

// After tries the item again, once d has passed. It stays held until then.
func After(d time.Duration) Next { return Next(max(d, 0)) }

// Queue is a queue of items. It is safe for concurrent use.
type Queue[T any] struct {
	cfg Config[T]

	mu      sync.Mutex
	more    sync.Cond
	held    map[string]Key
	load    map[string]int // items held, by owner and by source
	running map[string]int // items running, by owner, source and target
	total   int            // items running
	ready   fair[T]
	waiting map[string]*fair[T] // by the target that was not free
	parked  int
	failed  map[string]bool // ids that could not even be parked
}

// entry is an item in its turn. lent is the target that it waited for.
type entry[T any] struct {
	key  Key
	item T
	lent string
}

// New returns a queue; nothing runs until Run.
func New[T any](cfg Config[T]) *Queue[T] {
	q := &Queue[T]{
		cfg: cfg, held: map[string]Key{}, load: map[string]int{}, running: map[string]int{},
		waiting: map[string]*fair[T]{}, failed: map[string]bool{},
	}
	q.more.L = &q.mu
	return q
}

func owner(k Key) string  { return "owner " + k.Owner }
func source(k Key) string { return "source " + k.Source }

// Room reports whether an item would fit by now; *Full if not.
func (q *Queue[T]) Room(k Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.room(k)
}

func (q *Queue[T]) room(k Key) error {
	b := q.cfg.Bounds
	switch {
	case q.load[owner(k)] >= b.HeldOwner:
		return &Full{"owner", b.HeldOwner}
	case q.load[source(k)] >= b.HeldSource:
		return &Full{"source", b.HeldSource}
	case len(q.held) >= b.Held:
		return &Full{"all", b.Held}
	}
	return nil
}

// Add queues an item whose row says that it is this process's. It is ErrHeld or
// *Full if there is no place; a sweep finds the row later.
func (q *Queue[T]) Add(k Key, item T) error {
	if err := q.hold(k); err != nil {
		return err
	}
	q.push(&entry[T]{key: k, item: item})
	return nil
}

// hold takes a place for an item.
func (q *Queue[T]) hold(k Key) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.held[k.ID]; ok || q.failed[k.ID] {
		return ErrHeld
	}
	if err := q.room(k); err != nil {
		return err
	}
	q.held[k.ID] = k
	q.load[owner(k)]++
	q.load[source(k)]++
	return nil
}

func (q *Queue[T]) push(e *entry[T]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready.push(e)
	q.more.Signal()
}

// release gives a place back.
func (q *Queue[T]) release(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k, ok := q.held[id]
	if !ok {
		return
	}
	delete(q.held, id)
	drop(q.load, owner(k))
	drop(q.load, source(k))
}

// drop takes one from a count and forgets it at zero.
func drop(counts map[string]int, name string) {
	if counts[name]--; counts[name] <= 0 {
		delete(counts, name)
	}
}

// Held is how many items the queue holds.
func (q *Queue[T]) Held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.held)
}

// Parked is how many rows were parked since the start.
func (q *Queue[T]) Parked() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.parked
}

// Run works until ctx ends, first on what the last process left. It returns when
// nothing runs any more.
func (q *Queue[T]) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for range q.cfg.Bounds.Running {
		all.Go(func() { q.work(ctx) })
	}
	q.Sweep(ctx, true)
	tick := time.NewTicker(q.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			q.wake()
			return
		case <-tick.C:
			q.Sweep(ctx, false)
		}
	}
}

// wake lets all workers look whether the context has ended.
func (q *Queue[T]) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.more.Broadcast()
}

func (q *Queue[T]) work(ctx context.Context) {
	for {
		e := q.next(ctx)
		if e == nil {
			return
		}
		turn := &Turn{enter: func(target string) bool { return q.enter(target, e.lent) }}
		next := Done
		q.guarded(ctx, e.key.ID, func() { next = q.cfg.Do(ctx, e.item, turn) })
		q.finish(ctx, e, turn, next)
	}
}

// next waits for an item whose turn it is.
func (q *Queue[T]) next(ctx context.Context) *entry[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ctx.Err() == nil {
		if e := q.ready.pop(q.mayRun); e != nil {
			q.total++
			q.running[owner(e.key)]++
			q.running[source(e.key)]++
			if q.ready.size > 0 {
				q.more.Signal() // what ended may have made room for two
			}
			return e
		}
		q.more.Wait()
	}
	return nil
}

// mayRun keeps anybody from more workers than are left for others: a source from
// more than are free, an owner from more than are free of half of them. So there
// is always one for who has none yet, however slow the others' attempts are.
func (q *Queue[T]) mayRun(k Key) (bySource, byOwner bool) {
	n := q.cfg.Bounds.Running
	ofSource := q.running[source(k)]
	return ofSource < n-q.total, q.running[owner(k)] < max(n/2, 1)-ofSource
}

// finish gives back what an attempt took and puts the item where it belongs.
func (q *Queue[T]) finish(ctx context.Context, e *entry[T], turn *Turn, next Next) {
	q.mu.Lock()
	q.total--
	drop(q.running, owner(e.key))
	drop(q.running, source(e.key))
	for target := range turn.entered {
		drop(q.running, target)
		q.lend(target)
	}
	if e.lent != "" && !turn.entered[e.lent] && turn.refused != e.lent {
		q.lend(e.lent)
	}
	e.lent = ""
	if ctx.Err() != nil {
		next = Done // whoever sweeps next has it
	}
	if next == Wait {
		q.wait(e, turn.refused)
	}
	q.more.Signal()
	q.mu.Unlock()
	switch next {
	case Wait:
	case Done:
		q.release(e.key.ID)
	default:
		time.AfterFunc(time.Duration(next), func() { q.push(e) })
	}
}
