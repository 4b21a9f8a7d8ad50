package crl

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/store"
)

// latencySample bounds how many latencies one list reports.
const latencySample = 10_000

// build makes one list, compares it with the last one and publishes it. Its
// number is durable before anything is signed; what fails later only leaves a gap
// in the numbers.
func (p *Publisher) build(ctx context.Context, a *authority, k key, o Options) ([]time.Duration, error) {
	if err := p.withheld(a, o); err != nil {
		return nil, err
	}
	if k.delta {
		return nil, p.buildDelta(ctx, a, o)
	}
	last, err := p.local.lend(k)
	if err != nil {
		return nil, err
	}
	defer last.Close() //nolint:errcheck // only read
	list, err := p.draft(ctx, a, k, last, o)
	if err != nil {
		return nil, err
	}
	var fresh []time.Time
	var seq int64
	signed, err := a.Issuer().WriteCRL(ctx, p.Dir, list, func(each func(issuer.Revoked) error) (err error) {
		seq, err = p.Store.CRLEntries(ctx, a.ID, k.shard, last.date(), func(e store.CRLEntry) error {
			if !e.Listed && len(fresh) < latencySample {
				fresh = append(fresh, e.RevokedAt)
			}
			return each(revoked(e))
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer signed.Close() //nolint:errcheck // a file without a name
	if err := p.guard(ctx, a, last, list.ThisUpdate, signed.Reader()); err != nil {
		return nil, err
	}
	if err := p.put(ctx, a, k, list, signed, seq, last.numberOr0(), o); err != nil {
		return nil, err
	}
	if k.shard == 0 && a.Config.Delta > 0 && last.held != nil {
		// A complete list and a delta list that come together have the same number
		// and say the same (RFC 5280, section 5.2.4).
		if err := p.together(ctx, a, list, last, signed, seq, o); err != nil {
			return nil, err
		}
	}
	if err := p.mark(ctx, a, k, seq, list.Number.Int64()); err != nil {
		return nil, err
	}
	published := p.Now()
	latencies := make([]time.Duration, 0, len(fresh))
	for _, at := range fresh {
		latencies = append(latencies, max(published.Sub(at), 0))
	}
	return latencies, p.fetchAll(ctx, a.ID)
}

// draft says what stands in the next list beside its entries. Its number is taken.
func (p *Publisher) draft(ctx context.Context, a *authority, k key, last lent, o Options) (issuer.CRL, error) {
	began := p.Now()
	this, err := date(a.Config, last.held, began, o.ClockWasWrong)
	if err != nil {
		return issuer.CRL{}, err
	}
	number, err := p.Store.NextCRLNumber(ctx, a.ID, began, last.numberOr0())
	if err != nil {
		return issuer.CRL{}, err
	}
	list := issuer.CRL{
		Number: big.NewInt(number), ThisUpdate: this,
		NextUpdate: began.Add(a.Config.Validity), NextPublish: began.Add(a.Config.Interval),
	}
	if k.shard > 0 {
		list.Point = a.Issuer().Locations().List(k.shard)
	} else if a.Config.Delta > 0 {
		list.Freshest = a.Issuer().Locations().Delta()
	}
	return list, nil
}

// mark records what a published list contains.
func (p *Publisher) mark(ctx context.Context, a *authority, k key, seq, number int64) error {
	if err := p.Store.MarkListed(ctx, a.ID, k.shard, seq, number); err != nil || k.shard > 0 {
		return err
	}
	// Delta lists compare lists, not rows: what was released may go.
	return p.Store.ForgetReleased(ctx, a.ID, seq)
}

// put stores a signed list, which publishes it.
func (p *Publisher) put(
	ctx context.Context, a *authority, k key, list issuer.CRL, signed *issuer.SignedCRL, seq, after int64, o Options,
) error {
	detail, err := json.Marshal(map[string]any{
		"list": k.String(), "number": list.Number.Int64(), "entries": signed.Entries,
		"sha256":      hex.EncodeToString(signed.SHA256[:]),
		"this_update": list.ThisUpdate.UTC(), "next_update": list.NextUpdate.UTC(), "revocation_seq": seq,
	})
	if err != nil {
		return fmt.Errorf("publish list: %w", err)
	}
	return p.Store.PutCRL(ctx, store.CRLRecord{
		IssuerID: a.ID, Shard: k.shard, Delta: k.delta, Number: list.Number.Int64(),
		ThisUpdate: list.ThisUpdate.Truncate(time.Second), NextUpdate: list.NextUpdate.Truncate(time.Second),
		SHA256: signed.SHA256[:], Size: signed.Size, Entries: signed.Entries, RevocationSeq: seq,
	}, after, signed.Reader(), store.Event{
		At: p.Now(), Action: "crl.published", Outcome: "success", Actor: o.Actor, Subject: a.ID,
		RequestID: o.RequestID, Detail: detail,
	})
}

// date returns thisUpdate of the next list: dated back by the skew, but later than
// the last one. A last list from the future means that a clock is, or was, wrong.
func date(c Config, last *held, now time.Time, clockWasWrong bool) (time.Time, error) {
	this := now.Add(-c.Skew).Truncate(time.Second)
	if last == nil || this.After(last.thisUpdate) || clockWasWrong {
		return this, nil
	}
	if next := last.thisUpdate.Add(time.Second); !next.After(now.Add(time.Second)) {
		return next, nil
	}
	return this, fault.New(fault.Conflict, "the last list is from %s and the clock says %s: look at the clock; if it "+
		"was wrong when that list was made and is right now, publish with --clock-was-wrong",
		last.thisUpdate.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)).Because("crl_clock")
}

// together builds the delta list that goes with a new complete list, from the two
// complete ones.
func (p *Publisher) together(
	ctx context.Context, a *authority, list issuer.CRL, last lent, current *issuer.SignedCRL, seq int64, o Options,
) error {
	return p.signDelta(ctx, a, list, last, seqIs(seq), func(each func(issuer.Revoked) error) error {
		r, err := newReader(current.Reader())
		if err != nil {
			return err
		}
		for {
			more, err := r.next()
			if err != nil || !more {
				return err
			}
			e, err := r.last.revoked()
			if err != nil {
				return err
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}, o)
}

func seqIs(seq int64) func() int64 { return func() int64 { return seq } }

// buildDelta builds a delta list between two complete ones.
func (p *Publisher) buildDelta(ctx context.Context, a *authority, o Options) error {
	base, err := p.local.lend(key{a.ID, 0, false})
	if err != nil {
		return err
	}
	defer base.Close() //nolint:errcheck // only read
	if base.held == nil {
		return fault.New(fault.Conflict, "there is no full list yet that a delta list could add to").
			Because("crl_number")
	}
	began := p.Now()
	before := base.held
	if d := p.local.get(key{a.ID, 0, true}); d != nil && d.thisUpdate.After(base.thisUpdate) {
		before = d
	}
	this, err := date(a.Config, before, began, o.ClockWasWrong)
	if err != nil {
		return err
	}
	number, err := p.Store.NextCRLNumber(ctx, a.ID, began, base.number)
	if err != nil {
		return err
	}
	var seq int64
	list := issuer.CRL{Number: big.NewInt(number), ThisUpdate: this}
	err = p.signDelta(ctx, a, list, base, func() int64 { return seq },
		func(each func(issuer.Revoked) error) (err error) {
			seq, err = p.Store.CRLEntries(ctx, a.ID, 0, base.thisUpdate,
				func(e store.CRLEntry) error { return each(revoked(e)) })
			return err
		}, o)
	return errors.Join(err, p.fetchAll(ctx, a.ID))
}

// signDelta signs and publishes the difference between a complete list and what
// holds now.
func (p *Publisher) signDelta(
	ctx context.Context, a *authority, list issuer.CRL, base lent, seq func() int64, current issuer.Entries, o Options,
) error {
	old, err := newReader(base.content())
	if err != nil {
		return err
	}
	k, now := key{a.ID, 0, true}, p.Now()
	list.Base, list.Freshest = big.NewInt(base.number), ""
	// Some clients keep a delta list until it ends, so it ends soon.
	list.NextUpdate, list.NextPublish = now.Add(3*a.Config.Delta), now.Add(a.Config.Delta)
	signed, err := a.Issuer().WriteCRL(ctx, p.Dir, list, changes(old, current))
	if err != nil {
		return err
	}
	defer signed.Close() //nolint:errcheck // a file without a name
	return p.put(ctx, a, k, list, signed, seq(), p.local.get(k).numberOr0(), o)
}
