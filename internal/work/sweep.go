package work

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Sweep finds what nobody works on and queues what fits. What does not fit stays
// in the store for the next sweep, of this process or another.
func (q *Queue[T]) Sweep(ctx context.Context, start bool) {
	ids, err := q.cfg.List(ctx, start)
	for i := 0; err == nil && i < len(ids); i++ {
		if !q.holds(ids[i]) {
			q.guarded(ctx, ids[i], func() { err = q.take(ctx, ids[i], start) })
		}
	}
	if err != nil && ctx.Err() == nil {
		q.cfg.Log.WarnContext(ctx, "work that is left not read", "queue", q.cfg.Name, "error", err)
	}
}

func (q *Queue[T]) holds(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.held[id]
	return ok || q.failed[id]
}

// take makes a row of the store an item of this queue. The error is what speaks
// against going on with others.
func (q *Queue[T]) take(ctx context.Context, id string, start bool) error {
	item, k, err := q.cfg.Read(ctx, id)
	switch {
	case errors.Is(err, ErrGone):
		return nil
	case errors.Is(err, ErrRow):
		q.park(ctx, id, err, nil)
		return nil
	case err != nil:
		return err
	}
	if err := q.hold(k); err != nil {
		return nil //nolint:nilerr // no room for it, or somebody was quicker
	}
	claimed, err := q.cfg.Claim(ctx, item, start)
	if err != nil || !claimed {
		q.release(id)
		return err
	}
	q.push(&entry[T]{key: k, item: item})
	return nil
}

// guarded calls f on behalf of a row and parks the row if f panics.
func (q *Queue[T]) guarded(ctx context.Context, id string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			q.park(ctx, id, fmt.Errorf("panic: %v", p), debug.Stack())
		}
	}()
	f()
}

// park ends a row that cannot be worked on. If that is impossible, or panics as
// well, this process leaves the row alone from then on.
func (q *Queue[T]) park(ctx context.Context, id string, cause error, stack []byte) {
	log := q.cfg.Log.With("queue", q.cfg.Name, "id", id)
	log.ErrorContext(ctx, "row parked: it cannot be worked on", "error", cause, "stack", string(stack))
	err := q.end(ctx, id)
	if err != nil {
		log.ErrorContext(ctx, "parked row not ended: it is left alone until the next start", "error", err)
	}
	q.mu.Lock()
	q.parked++
	if err != nil {
		q.failed[id] = true
	}
	q.mu.Unlock()
	q.release(id)
}

func (q *Queue[T]) end(ctx context.Context, id string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return q.cfg.Park(context.WithoutCancel(ctx), id)
}
