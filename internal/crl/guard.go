package crl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// lookup is how many serials are asked for at once.
const lookup = 200

// guard refuses a list that lacks an entry of the last one though that has not
// expired by the new list's date, and is no hold that was released (invariant 5).
// It reads both lists once, side by side.
func (p *Publisher) guard(ctx context.Context, a *authority, last lent, this time.Time, content io.Reader) error {
	next, err := newReader(content)
	if err != nil {
		return err
	}
	if last.held == nil {
		return next.walk()
	}
	old, err := newReader(last.content())
	if err != nil {
		return fmt.Errorf("read the last list: %w", err)
	}
	m := missing{p: p, ctx: ctx, issuer: a.ID, this: this}
	if err := m.compare(old, next); err != nil {
		return err
	}
	if !old.sorted || !next.sorted {
		return fault.New(fault.Conflict, "the last list of %s is not in the order of its serials: it was not made "+
			"here", a.ID).Because("crl_order")
	}
	return m.verdict(last.held)
}

// missing collects what a new list lacks.
type missing struct {
	p      *Publisher
	ctx    context.Context //nolint:containedctx // lives for one comparison
	issuer string
	this   time.Time
	batch  []issuer.Revoked
	lost   int64
	some   []string
}

func (m *missing) compare(old, next *reader) error {
	inNew, err := next.next()
	if err != nil {
		return err
	}
	for {
		inOld, err := old.next()
		if err != nil {
			return fmt.Errorf("read the last list: %w", err)
		}
		if !inOld {
			break
		}
		for inNew && compare(next.last.serial, old.last.serial) < 0 {
			if inNew, err = next.next(); err != nil {
				return err
			}
		}
		if inNew && compare(next.last.serial, old.last.serial) == 0 {
			continue
		}
		if err := m.add(old.last); err != nil {
			return err
		}
	}
	if err := m.ask(); err != nil {
		return err
	}
	return next.walk()
}

func (m *missing) add(e entry) error {
	r, err := e.revoked()
	if err != nil {
		return fmt.Errorf("read the last list: %w", err)
	}
	if m.batch = append(m.batch, r); len(m.batch) < lookup {
		return nil
	}
	return m.ask()
}

// ask looks up the serials of the batch.
func (m *missing) ask() error {
	if len(m.batch) == 0 {
		return nil
	}
	serials := make([]pki.Serial, len(m.batch))
	for i, r := range m.batch {
		serials[i] = r.Serial
	}
	known, _, err := m.p.Store.StandingsOnRecord(m.ctx, m.issuer, serials)
	if err != nil {
		return err
	}
	for _, r := range m.batch {
		st, found := known[r.Serial]
		expired := found && !st.NotAfter.After(m.this)
		released := found && st.Revocation == nil && hold(r)
		if expired || released {
			continue
		}
		if m.lost++; len(m.some) < 5 {
			m.some = append(m.some, string(r.Serial))
		}
	}
	m.batch = m.batch[:0]
	return nil
}

func (m *missing) verdict(last *held) error {
	if m.lost == 0 {
		return nil
	}
	return fault.New(fault.Conflict,
		"list %d of %s, which is published, has %d entries that the database does not have as revoked (%s): was an "+
			"old backup restored? privyseal crl recover %s --dry-run takes them over from the list; or restore a "+
			"newer backup",
		last.number, m.issuer, m.lost, strings.Join(m.some, ", "), m.issuer).Because("crl_entries_lost")
}

// changes returns what a delta list says: entries of current that base lacks or
// has otherwise, and those of base that are gone, as removeFromCRL (RFC 5280,
// section 5.2.4). Both are in the order of their serials.
func changes(base *reader, current issuer.Entries) issuer.Entries {
	return func(each func(issuer.Revoked) error) error {
		more, err := base.next()
		if err != nil {
			return err
		}
		gone := func() error {
			r, err := base.last.revoked()
			if err != nil {
				return err
			}
			if err := each(issuer.Revoked{Serial: r.Serial, At: r.At, Reason: pki.RemoveFromCRL}); err != nil {
				return err
			}
			more, err = base.next()
			return err
		}
		err = current(func(e issuer.Revoked) error {
			serial := e.Serial.Big().Bytes()
			for more && compare(base.last.serial, serial) < 0 {
				if err := gone(); err != nil {
					return err
				}
			}
			if !more || compare(base.last.serial, serial) != 0 {
				return each(e)
			}
			was, err := base.last.revoked()
			if err != nil {
				return err
			}
			if more, err = base.next(); err != nil || same(was, e) {
				return err
			}
			return each(e)
		})
		for err == nil && more {
			err = gone()
		}
		return err
	}
}

// same compares two entries as lists show them.
func same(a, b issuer.Revoked) bool {
	second := func(t *time.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	return a.Reason == b.Reason && a.At.Unix() == b.At.Unix() && second(a.InvalidityAt) == second(b.InvalidityAt)
}
