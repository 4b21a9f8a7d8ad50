// Package lease runs work that only one node may do at a time: building lists,
// purging, checkpoints. A lease is a row with an end and a token that rises with
// each new holder; work that writes may carry the token as a fence.
//
// Run is the entry point. It keeps trying to get the lease, runs the work while
// it has it, and stops the work before the lease can pass to another node. The
// clocks of the nodes must agree to well within a sixth of the lease.
package lease

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Rows is where leases are kept; *store.Store implements it.
type Rows interface {
	// AcquireLease takes a lease that is free or has run out.
	AcquireLease(ctx context.Context, name, holder string, now time.Time, ttl time.Duration) (token int64, ok bool,
		err error)
	// RenewLease extends a lease; false if another holder has taken it.
	RenewLease(ctx context.Context, name string, token int64, now time.Time, ttl time.Duration) (bool, error)
	// ReleaseLease lets others have it at once.
	ReleaseLease(ctx context.Context, name string, token int64, now time.Time) error
}

// Leases gets leases for one process.
type Leases struct {
	rows   Rows
	holder string
	now    func() time.Time
	log    *slog.Logger
}

// New returns the leases of a holder, whose name no other process has.
func New(rows Rows, holder string, now func() time.Time, log *slog.Logger) *Leases {
	return &Leases{rows, holder, now, log}
}

// Run runs work whenever this process has the lease of that name, until ctx
// ends; then it releases the lease. The context of work ends when the lease is
// lost or was not renewed in time, and work must return soon after. If work
// returns by itself, it is run again after a third of ttl.
func (l *Leases) Run(ctx context.Context, name string, ttl time.Duration, work func(ctx context.Context, token int64)) {
	for ctx.Err() == nil {
		started := l.now()
		token, ok, err := l.rows.AcquireLease(ctx, name, l.holder, started, ttl)
		switch {
		case err != nil && ctx.Err() == nil:
			l.log.WarnContext(ctx, "lease not acquired", "lease", name, "error", err)
		case ok:
			l.hold(ctx, name, token, started, ttl, work)
		}
		sleep(ctx, jitter(ttl/3))
	}
}

// Try runs work once if the lease is free, and reports whether it was. The
// context of work ends when the lease is lost or was not renewed in time.
func (l *Leases) Try(
	ctx context.Context, name string, ttl time.Duration, work func(ctx context.Context, token int64),
) (bool, error) {
	started := l.now()
	token, ok, err := l.rows.AcquireLease(ctx, name, l.holder, started, ttl)
	if err != nil || !ok {
		return false, err
	}
	l.hold(ctx, name, token, started, ttl, work)
	return true, nil
}

// hold runs work and renews the lease until either ends.
func (l *Leases) hold(ctx context.Context, name string, token int64, renewed time.Time, ttl time.Duration,
	work func(context.Context, int64)) {
	held, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(held, token)
	}()
	for l.renewing(held, done, name, token, &renewed, ttl) {
	}
	stop()
	<-done
	// The caller may be leaving; others should not wait for the lease to run out.
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl/6)
	defer cancel()
	// Free whatever the clocks say: it may have been set back since.
	if err := l.rows.ReleaseLease(release, name, token, time.Unix(0, 0)); err != nil {
		l.log.WarnContext(ctx, "lease not released", "lease", name, "error", err)
	}
}

// renewing waits for the next renewal, renews, and reports whether the lease is
// still held. It gives up a sixth of ttl before the lease would run out.
func (l *Leases) renewing(
	held context.Context, done <-chan struct{}, name string, token int64, renewed *time.Time, ttl time.Duration,
) bool {
	last := renewed.Add(ttl - ttl/6)
	wait := time.NewTimer(min(jitter(ttl/4), last.Sub(l.now())))
	defer wait.Stop()
	select {
	case <-done:
		return false
	case <-held.Done():
		return false
	case <-wait.C:
	}
	attempt, cancel := context.WithTimeout(held, last.Sub(l.now()))
	defer cancel()
	at := l.now()
	ok, err := l.rows.RenewLease(attempt, name, token, at, ttl)
	switch {
	case err == nil && ok:
		*renewed = at
		return true
	case err == nil:
		l.log.WarnContext(held, "lease lost", "lease", name)
		return false
	case l.now().Before(last):
		return true // the database may be back for another attempt
	default:
		l.log.WarnContext(held, "lease not renewed in time", "lease", name, "error", err)
		return false
	}
}

// jitter spreads nodes that started together: between 3/4 and 5/4 of d.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1) //nolint:gosec,forbidigo // no secret
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
