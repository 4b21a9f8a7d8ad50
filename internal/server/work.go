package server

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/store"
)

const (
	heartbeatEvery = 10 * time.Second
	notifyEvery    = 5 * time.Second
	settleEvery    = 30 * time.Second
	purgeEvery     = time.Minute
	renewEvery     = 10 * time.Minute
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
func (h *house) startWork(ctx context.Context) error {
	if _, err := h.pipeline.Settle(ctx); err != nil {
		return err
	}
	if err := h.beat(ctx); err != nil {
		return err
	}
	h.logged("lists of the CAs above", h.checkParents(ctx))
	h.logged("former issuers", h.retire(ctx))
	// A new issuer has its first list when the server says that it is ready.
	if err := h.lists.Round(ctx, func(build func()) { build() }); err != nil {
		return err
	}
	// Work stops after the listeners, so that requests under way finish.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stopWork = stop
	h.workers.Go(func() { h.logged("acme", h.acme.Run(work)) })
	h.workers.Go(func() { h.desk.Run(work) })
	h.workers.Go(func() { h.webhooks.Run(work) })
	h.workers.Go(func() {
		h.leases.Run(work, "webhooks", leaseTime, func(ctx context.Context, _ int64) { h.every(ctx, notifyEvery, "webhooks", h.webhooks.Notify) })
	})
	h.workers.Go(func() { h.logged("audit", h.audit.Run(work)) })
	h.workers.Go(func() { h.logged("ocsp", h.ocsp.Run(work)) })
	h.workers.Go(func() { h.logged("revocation lists", h.lists.Run(work)) })
	h.workers.Go(func() { h.every(work, parentsEvery, "lists of the CAs above", h.checkParents) })
	h.workers.Go(func() { h.every(work, followEvery, "issuers", h.follow) })
	h.workers.Go(func() { h.every(work, followEvery, "keys", h.wakeKeys) })
	h.workers.Go(func() { h.every(work, retireEvery, "former issuers", h.retire) })
	h.workers.Go(func() { h.every(work, heartbeatEvery, "heartbeat", h.beat) })
	h.workers.Go(func() { h.every(work, settleEvery, "settle", h.settle) })
	h.workers.Go(func() { h.every(work, renewEvery, "TLS renewal", h.renewTLS) })
	for i, own := range []struct {
		name string
		look func(context.Context) error
	}{{"responder certificates", h.ensureDelegates}, {"RA certificates", h.renewRA}, {"own TLS certificates", h.tendTLS}} {
		h.workers.Go(func() { h.tend(work, h.tending[i], own.name, own.look) })
	}
	h.workers.Go(func() {
		h.leases.Run(work, "purge", leaseTime, func(ctx context.Context, _ int64) { h.every(ctx, purgeEvery, "purge", h.purge) })
	})
	return nil
}

// every does work at each interval until ctx ends.
func (h *house) every(ctx context.Context, interval time.Duration, name string, work func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := work(ctx); err != nil && ctx.Err() == nil {
				h.logged(name, err)
			}
		}
	}
}

func (h *house) logged(what string, err error) {
	if err != nil {
		h.log.Error("background work failed", "work", what, "error", err)
	}
}

// tend looks after certificates of our own every tendEvery, and soon after each
// revocation, since it may be theirs.
func (h *house) tend(ctx context.Context, now <-chan struct{}, name string, look func(context.Context) error) {
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
			h.logged(name, err)
		}
	}
}

// changes tells of revocations, and has our own certificates looked at for each.
func (h *house) changes(ctx context.Context, each func(store.Change)) {
	h.store.Changes(ctx, func(c store.Change) {
		each(c)
		for _, now := range h.tending {
			select {
			case now <- struct{}{}:
			default: // it will
			}
		}
	})
}

func (h *house) settle(ctx context.Context) error {
	_, err := h.pipeline.Settle(ctx)
	return err
}

func (h *house) purge(ctx context.Context) error {
	p, err := h.store.Purge(ctx, h.now(), purgeBatch)
	for table, n := range map[string]int64{
		"orders": p.Orders, "authorizations": p.Authorizations, "nonces": p.Nonces, "limits": p.Limits, "origins": p.Origins,
		"ocsp_responders": p.Responders,
	} {
		h.metrics.Purged(table, n)
	}
	if cfg := h.cfg.Load(); err == nil && cfg.Audit.Retention > 0 {
		_, err = h.audit.Archive(ctx, cfg.Audit.Archive, h.now().Add(-cfg.Audit.Retention))
	}
	return err
}

// renewTLS reads the certificates of listeners that are in files again, and opens
// the listeners that had none.
func (h *house) renewTLS(ctx context.Context) error {
	if !h.changing.TryLock() {
		return nil // a reload does the same, and a server that stops needs none
	}
	defer h.changing.Unlock()
	return h.startTLS(ctx, h.cfg.Load())
}

// beat tells the other nodes that this one is there, and with which
// configuration.
func (h *house) beat(ctx context.Context) error {
	return h.store.Heartbeat(ctx, h.node.Name, h.node.Chain, h.cfg.Load().Digest(), h.now())
}
