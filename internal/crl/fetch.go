package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// fetchAll brings the newest lists of an issuer from the store to the disk. Only
// one call for an issuer is at it at a time, so that what is on the disk is still
// what a list was compared with when that takes its place.
func (p *Publisher) fetchAll(ctx context.Context, id string) error {
	a, err := p.authority(id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	fetching := &p.of(a.ID).fetching
	p.mu.Unlock()
	fetching.Lock()
	defer fetching.Unlock()
	newest, err := p.newest(ctx, a)
	if err != nil {
		return err
	}
	var all []error
	for k, r := range newest {
		err := p.fetch(ctx, a, k, r)
		p.contradict(k, err)
		if err != nil {
			p.note(k, err)
			all = append(all, fmt.Errorf("list %s: %w", k, err))
		}
	}
	p.compare(a, newest)
	return errors.Join(all...)
}

// newest returns the newest list of each series of a CA that the database has.
func (p *Publisher) newest(ctx context.Context, a *authority) (map[key]store.CRLRecord, error) {
	newest := map[key]store.CRLRecord{}
	for _, id := range a.IDs() { // one name and key has one series of numbers
		records, err := p.Store.CRLs(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			k := key{a.ID, r.Shard, r.Delta}
			if have, ok := newest[k]; !ok || have.Number < r.Number {
				newest[k] = r
			}
		}
	}
	return newest, nil
}

// fetch takes over one list, unless that would be a step back (invariant 5).
func (p *Publisher) fetch(ctx context.Context, a *authority, k key, r store.CRLRecord) error {
	have := p.local.get(k)
	if have != nil {
		if have.is(r) {
			return nil
		}
		if err := older(have, r, p.Now()); err != nil {
			return err
		}
	}
	h, err := p.local.receive(k, func(w io.Writer) error { return p.Store.CopyCRL(ctx, r, w) })
	if errors.Is(err, store.ErrNotFound) {
		return fault.Wrap(fault.Unavailable, err, "a newer list came while this one was read")
	}
	if err != nil {
		return err
	}
	if err := p.accept(ctx, a, have, h, r); err != nil {
		return errors.Join(err, os.Remove(h.path))
	}
	if err := p.local.adopt(h); err != nil {
		return err
	}
	p.note(k, nil)
	return nil
}

// is reports whether a record is of this very list.
func (h *held) is(r store.CRLRecord) bool {
	return h.number == r.Number && bytes.Equal(h.sha256[:], r.SHA256)
}

// older refuses a record that is not newer than what is on disk.
func older(have *held, r store.CRLRecord, now time.Time) error {
	switch {
	case r.Number <= have.number:
		return fault.New(fault.Conflict, "the database's newest list is %d, on disk is %d already: was an old backup "+
			"restored? the one on disk stays",
			r.Number, have.number).Because("crl_number")
	case r.ThisUpdate.Before(have.thisUpdate) && !have.thisUpdate.After(now):
		return fault.New(fault.Conflict, "list %d is dated %s, before list %d on disk: the one on disk stays",
			r.Number, r.ThisUpdate.UTC().Format(time.RFC3339), have.number).Because("crl_clock")
	}
	return nil
}

// accept compares a received list with its record and with the one on disk.
func (p *Publisher) accept(ctx context.Context, a *authority, have, h *held, r store.CRLRecord) error {
	if !bytes.Equal(h.sha256[:], r.SHA256) || h.number != r.Number {
		return fmt.Errorf("list %d is damaged in the database", r.Number)
	}
	if have == nil || h.key.delta {
		return nil
	}
	last, err := have.lend()
	if err != nil {
		return err
	}
	defer last.Close() //nolint:errcheck // only read
	list, err := h.lend()
	if err != nil {
		return err
	}
	defer list.Close() //nolint:errcheck // only read
	switch {
	case a.Issuer() != nil:
		return p.guard(ctx, a, last, h.thisUpdate, list.content())
	case r.LossesAccepted > have.number: // of this list, or of one that this node never had
		return nil
	}
	lost := losses{}
	if err := lost.since(ctx, p.Store, a.ID, last.content(), list.content()); err != nil {
		return err
	}
	return lost.refusal(a.ID, h.number, have.number)
}
