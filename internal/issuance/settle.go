package issuance

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/store"
)

// A reservation ends in one of three ways. Complete makes it issued. When
// certainly nothing was signed it is abandoned. When a signature may exist that
// is not on record it is void: entered as revoked, listed on the CRL, and its
// serial never signed again (rule A42). Both of the latter release the origin.

// release ends the reservation of an attempt that failed. It has its own time,
// because the attempt's may be used up; what it cannot do now, Settle does later.
func (p *Pipeline) release(row store.Certificate, requestID string, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	void := !errors.Is(cause, issuer.ErrUnsigned)
	if err := p.settle(ctx, row, requestID, void, fault.Of(cause).Error()); err != nil &&
		!fault.Is(err, fault.Conflict) {
		p.log.Error("reservation left to be settled", "certificate", row.ID, "issuer", row.IssuerID,
			"serial", string(row.Serial), "void", void, "cause", cause, "error", err)
	}
}

func (p *Pipeline) settle(ctx context.Context, row store.Certificate, requestID string, void bool, why string) error {
	outcome := "abandoned"
	if void {
		outcome = "void"
	}
	ev := event(actionReleased, outcome, p.now(), "server", row.ID, requestID, map[string]any{
		"issuer": row.IssuerID, "serial": row.Serial, "origin": row.Origin, "cause": why,
	})
	return p.store.Abandon(ctx, row.ID, void, ev)
}

// Settle voids the reservations that nobody works on: this node's at once, other
// nodes' when they are older than SweepAge. It runs at start, before the first
// Issue, and then from time to time. It returns how many it settled.
func (p *Pipeline) Settle(ctx context.Context) (int, error) {
	mine, err := p.store.Reserved(ctx, p.node, p.now())
	if err != nil {
		return 0, err
	}
	old, err := p.store.Reserved(ctx, "", p.now().Add(-SweepAge))
	if err != nil {
		return 0, err
	}
	settled := 0
	for _, row := range append(mine, old...) {
		if p.tracked(row.ID) {
			continue
		}
		err := p.settle(ctx, row, row.RequestID, true, "no node works on this reservation")
		if fault.Is(err, fault.Conflict) { // another node was quicker, or it is in both lists
			continue
		}
		if err != nil {
			return settled, err
		}
		settled++
	}
	return settled, nil
}

// existing answers an origin that is taken: with its certificate if there is
// one, with Pending while somebody works on it. A reservation that nobody works
// on, of ours or of a node that is gone, is voided, and Conflict makes Issue try
// again.
func (p *Pipeline) existing(ctx context.Context, origin string) (*Certificate, error) {
	row, err := p.store.CertificateByOrigin(ctx, origin)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) { // released a moment ago
			return nil, fault.New(fault.Conflict, "the request is being worked on").After(time.Second)
		}
		return nil, err
	}
	switch {
	case row.DER != nil:
		return p.Certificate(ctx, row.ID)
	case row.Node == p.node && !p.tracked(row.ID), row.Node != p.node && p.now().Sub(row.ReservedAt) > SweepAge:
		if err := p.settle(ctx, *row, row.RequestID, true, "left behind by an earlier attempt"); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Conflict, "the request is being worked on").After(time.Second)
	default:
		pending := fault.New(fault.Pending, "the certificate is being issued").After(time.Second)
		if id, ok := strings.CutPrefix(origin, "request:"); ok {
			pending = pending.About("request", id)
		}
		return nil, pending
	}
}

func (p *Pipeline) track(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight[id] = struct{}{}
}

func (p *Pipeline) untrack(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inFlight, id)
}

func (p *Pipeline) tracked(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.inFlight[id]
	return ok
}

func (p *Pipeline) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return fault.New(fault.Unavailable, "the server is stopping").After(10 * time.Second)
	}
	p.calls++
	return nil
}

func (p *Pipeline) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls--
	p.idle.Broadcast()
}

// Drain refuses new calls and waits for those under way, until ctx ends.
func (p *Pipeline) Drain(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	stop := context.AfterFunc(ctx, p.idle.Broadcast)
	defer stop()
	for p.calls > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.idle.Wait()
	}
	return nil
}
