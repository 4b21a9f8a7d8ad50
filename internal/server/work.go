package server

import (
	"context"
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/store"
)

const (
	heartbeatEvery = 10 * time.Second
	notifyEvery    = 5 * time.Second
	settleEvery    = 30 * time.Second
	purgeEvery     = time.Minute
	renewEvery     = 10 * time.Minute
	groupsEvery    = time.Minute
	tendEvery      = 30 * time.Second
	tendRest       = time.Second // between a revocation and a look at our own certificates
	leaseTime      = 60 * time.Second

	// aliveFor is how long a node counts as there after its last heartbeat.
	aliveFor = 3 * heartbeatEvery
	// purgeBatch is how many rows of a kind one commit deletes.
	purgeBatch = 500
)

// startWork settles what the former process left, then starts everything that
// runs beside the listeners.
func (srv *server) startWork(ctx context.Context) error {
	if _, err := srv.pipeline.Settle(ctx); err != nil {
		return err
	}
	if err := srv.beat(ctx); err != nil {
		return err
	}
	srv.logged("lists of the CAs above", srv.checkParents(ctx))
	srv.logged("former issuers", srv.retire(ctx))
	// A new issuer has its first list when the server says that it is ready.
	if err := srv.lists.Round(ctx, func(build func()) { build() }); err != nil {
		return err
	}
	// Work stops after the listeners, so that requests under way finish.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	srv.stopWork = stop
	srv.workers.Go(func() { srv.logged("acme", srv.acme.Run(work)) })
	srv.workers.Go(func() { srv.approvals.Run(work) })
	srv.workers.Go(func() { srv.webhooks.Run(work) })
	srv.workers.Go(func() {
		srv.leases.Run(work, "webhooks", leaseTime, func(ctx context.Context, _ int64) {
			srv.every(ctx, notifyEvery, "webhooks", srv.webhooks.Notify)
		})
	})
	srv.workers.Go(func() { srv.logged("audit", srv.audit.Run(work)) })
	srv.workers.Go(func() { srv.logged("ocsp", srv.ocsp.Run(work)) })
	srv.workers.Go(func() { srv.logged("revocation lists", srv.lists.Run(work)) })
	srv.workers.Go(func() { srv.every(work, parentsEvery, "lists of the CAs above", srv.checkParents) })
	srv.workers.Go(func() { srv.every(work, followEvery, "issuers", srv.follow) })
	srv.workers.Go(func() { srv.every(work, followEvery, "keys", srv.wakeKeys) })
	srv.workers.Go(func() { srv.every(work, retireEvery, "former issuers", srv.retire) })
	srv.workers.Go(func() { srv.every(work, heartbeatEvery, "heartbeat", srv.beat) })
	srv.workers.Go(func() { srv.every(work, settleEvery, "settle", srv.settle) })
	srv.workers.Go(func() { srv.every(work, groupsEvery, "groups of sessions", srv.login.Tend) })
	srv.workers.Go(func() { srv.every(work, renewEvery, "TLS renewal", srv.renewTLS) })
	for i, own := range []struct {
		name string
		look func(context.Context) error
	}{
		{"responder certificates", srv.ensureDelegates},
		{"RA certificates", srv.renewRA},
		{"own TLS certificates", srv.tendTLS},
	} {
		srv.workers.Go(func() { srv.tend(work, srv.tending[i], own.name, own.look) })
	}
	srv.workers.Go(func() {
		srv.leases.Run(work, "purge", leaseTime, func(ctx context.Context, _ int64) {
			srv.every(ctx, purgeEvery, "purge", srv.purge)
		})
	})
	return nil
}

// every does work at each interval until ctx ends.
func (srv *server) every(ctx context.Context, interval time.Duration, name string, work func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := work(ctx); err != nil && ctx.Err() == nil {
				srv.logged(name, err)
			}
		}
	}
}

func (srv *server) logged(what string, err error) {
	if err != nil {
		srv.log.Error("background work failed", "work", what, "error", err)
	}
}

// tend looks after certificates of our own every tendEvery, and soon after each
// revocation, since it may be theirs.
func (srv *server) tend(ctx context.Context, now <-chan struct{}, name string, look func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
		case <-time.After(tendEvery - tendRest):
		case <-now:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tendRest): // many revocations are one look
		}
		if err := look(ctx); err != nil && ctx.Err() == nil {
			srv.logged(name, err)
		}
	}
}

// changes tells of revocations, and has our own certificates looked at for each.
func (srv *server) changes(ctx context.Context, each func(store.Change)) {
	srv.store.Changes(ctx, func(c store.Change) {
		each(c)
		for _, now := range srv.tending {
			select {
			case now <- struct{}{}:
			default: // it will
			}
		}
	})
}

func (srv *server) settle(ctx context.Context) error {
	_, err := srv.pipeline.Settle(ctx)
	return err
}

func (srv *server) purge(ctx context.Context) error {
	p, err := srv.store.Purge(ctx, srv.now(), purgeBatch)
	for table, n := range map[string]int64{
		"orders": p.Orders, "authorizations": p.Authorizations, "nonces": p.Nonces, "limits": p.Limits,
		"origins":         p.Origins,
		"ocsp_responders": p.Responders,
	} {
		srv.metrics.Purged(table, n)
	}
	if cfg := srv.cfg.Load(); ctx.Err() == nil && cfg.Audit.Retention > 0 {
		err = errors.Join(err, srv.archive(ctx, cfg.Audit)) // a purge that fails does not keep the record from it
	}
	return err
}

// archive moves audit events of ended days, or of tenths of a short retention, so that
// a chain has few segments.
func (srv *server) archive(ctx context.Context, a config.Audit) error {
	before := srv.now().Add(-a.Retention).Truncate(min(24*time.Hour, a.Retention/10))
	_, err := srv.audit.Archive(ctx, a.Archive, before)
	srv.unkept.Store(nil)
	if err != nil {
		srv.unkept.Store(new(srv.now()))
	}
	return err
}

// renewTLS reads the certificates of listeners that are in files again, and opens
// the listeners that had none.
func (srv *server) renewTLS(ctx context.Context) error {
	if !srv.changing.TryLock() {
		return nil // a reload does the same, and a server that stops needs none
	}
	defer srv.changing.Unlock()
	return srv.startTLS(ctx, srv.cfg.Load())
}

// beat tells the other nodes that this one is there, and with which
// configuration.
func (srv *server) beat(ctx context.Context) error {
	return srv.store.Heartbeat(ctx, srv.node.Name, srv.node.Chain, srv.cfg.Load().Digest(), srv.now())
}
