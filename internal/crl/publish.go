package crl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Options say how an operator's list differs from a scheduled one.
type Options struct {
	// ClockWasWrong allows a list that is dated earlier than the last one.
	ClockWasWrong bool
	// AcceptLost is why an imported list may take back revocations of the published
	// one, in the operator's words; empty if it may not.
	AcceptLost string
	Actor      string
	RequestID  string
}

// Publish builds all lists of an issuer now.
func (p *Publisher) Publish(ctx context.Context, id string, o Options) ([]Status, error) {
	a, err := p.authority(id)
	if err != nil {
		return nil, err
	}
	if a.Issuer() == nil {
		return nil, fault.New(fault.Conflict, "the key of %s is not here: sign its list where the key is, and import "+
			"that", id).Because("crl_offline")
	}
	row, err := p.Store.Issuer(ctx, id)
	if err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		var failed error
		ran, err := p.Leases.Try(ctx, "crl/"+id, leaseTime, func(ctx context.Context, _ int64) {
			if failed = p.fetchAll(ctx, id); fault.Is(failed, fault.Conflict) {
				failed = nil // it is on disk that we build; the guard decides
			}
			for _, k := range p.keys(a, row.CRLShards) {
				failed = errors.Join(failed, p.attempt(ctx, a, k, o))
			}
		})
		if err != nil || ran {
			return p.named(id), errors.Join(err, failed, p.settle(ctx, a))
		}
		select { // another node, or the schedule, is at it
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
	return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "another node is building the lists of this issuer").
		After(retryAfter)
}

// attempt builds one list and remembers what came of it.
func (p *Publisher) attempt(ctx context.Context, a *authority, k key, o Options) error {
	began := p.Now()
	latencies, err := p.build(ctx, a, k, o)
	p.note(k, err)
	p.contradict(k, err)
	p.Observe(Event{Issuer: a.ID, Kind: k.kind(), Outcome: outcome(err), Took: p.Now().Sub(began),
		Latencies: latencies})
	if err != nil {
		return fmt.Errorf("publish %s: %w", k, err)
	}
	return nil
}

func (p *Publisher) note(k key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.of(k.issuer).refused, k)
		return
	}
	p.of(k.issuer).refused[k] = detail(err)
}

func outcome(err error) string {
	switch f := fault.Of(err); {
	case f == nil:
		return "published"
	case f.Kind == fault.Conflict:
		return "refused"
	case f.Kind == fault.Unavailable:
		return "unavailable"
	default:
		return "error"
	}
}

func detail(err error) string {
	if f := fault.Of(err); f.Detail != "" {
		return f.Detail
	}
	return err.Error()
}

// revoked is a row of the store as an entry of a list.
func revoked(e store.CRLEntry) issuer.Revoked {
	return issuer.Revoked{Serial: e.Serial, At: e.RevokedAt, Reason: e.Reason, InvalidityAt: e.InvalidityAt}
}

// hold reports whether an entry may leave a list before it expires (rule C8).
func hold(r issuer.Revoked) bool { return r.Reason == pki.CertificateHold }
