package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// purgeBatch is the usual number of rows that one commit deletes.
const purgeBatch = 500

// keptOrigins is how far back a purge looks for expired certificates whose
// origins it may forget. One that was missed for so long does no harm.
const keptOrigins = 90 * 24 * time.Hour

// Purged counts what a purge deleted.
type Purged struct {
	Orders, Authorizations, Nonces, Limits, Origins, Responders int64
	Requests, Credentials                                       int64 // EST users and SCEP challenges are credentials
}

// Purge deletes what expired before now, a kind after the other, each until nothing
// is left of it. A kind that fails stops no other: the error has all of them.
func (s *Store) Purge(ctx context.Context, now time.Time, batch int) (p Purged, err error) {
	var failed []error
	for _, k := range s.purges(&p, now, batch) {
		for {
			n, err := k.step(ctx)
			if err != nil {
				failed = append(failed, err)
			}
			if err != nil || n < int64(batch) {
				break
			}
			if ctx.Err() != nil {
				return p, fmt.Errorf("purge: %w", ctx.Err())
			}
		}
	}
	return p, errors.Join(failed...)
}

// keptCredentials is how long an expired EST user or SCEP challenge is still
// listed.
const keptCredentials = 30 * 24 * time.Hour

// keptHooks is how long a webhook that is away is tried after its request
// expired.
const keptHooks = 24 * time.Hour

// PurgeStep deletes at most batch rows of each kind, each kind in a commit of its
// own. A kind that fails stops no other.
func (s *Store) PurgeStep(ctx context.Context, now time.Time, batch int) (p Purged, err error) {
	var failed []error
	for _, k := range s.purges(&p, now, batch) {
		if _, err := k.step(ctx); err != nil {
			failed = append(failed, err)
		}
	}
	return p, errors.Join(failed...)
}

// purge deletes at most a batch of one kind and counts it.
type purge struct {
	count *int64
	run   func(context.Context) (int64, error)
}

func (k purge) step(ctx context.Context) (int64, error) {
	n, err := k.run(ctx)
	*k.count += n
	return n, err
}

// purges are expired orders, then expired authorizations that no order names, then
// expired requests (those that wait for a person only once they are marked as
// expired), then credentials that expired long ago, limits that are at rest, expired
// responder certificates, origins of expired certificates whose order and request are
// gone, and spent nonces. An origin never goes before its order:
// the order would turn from valid into something else.
func (s *Store) purges(p *Purged, now time.Time, batch int) []purge {
	steps := []struct {
		count *int64
		sql   string
		args  []any
	}{
		{&p.Orders, `DELETE FROM orders WHERE expires < $1 AND id IN (SELECT id FROM orders WHERE expires < $1
			ORDER BY expires LIMIT $2)`,
			[]any{now, batch}},
		{&p.Authorizations, `DELETE FROM authorizations WHERE expires < $1 AND id IN (SELECT a.id
			FROM authorizations a WHERE a.expires < $1
			AND NOT EXISTS (SELECT 1 FROM order_authorizations l WHERE l.authorization_id = a.id) ORDER BY a.expires
			LIMIT $2)`,
			[]any{now, batch}},
		{&p.Requests, `DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE expires_at < $1 AND (hook = ''
			OR expires_at < $2)
			AND (status NOT IN ('pending', 'approved') OR consumed_at IS NOT NULL) ORDER BY expires_at LIMIT $3)`,
			[]any{now, now.Add(-keptHooks), batch}},
		{&p.Credentials, `DELETE FROM est_users WHERE name IN (SELECT name FROM est_users WHERE expires_at < $1
			ORDER BY expires_at LIMIT $2)`,
			[]any{now.Add(-keptCredentials), batch}},
		{&p.Credentials, `DELETE FROM scep_challenges WHERE id IN (SELECT id FROM scep_challenges
			WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`,
			[]any{now.Add(-keptCredentials), batch}},
		{&p.Limits, `DELETE FROM limits WHERE tat < $1 AND key IN (SELECT key FROM limits WHERE tat < $1 ORDER BY tat
			LIMIT $2)`,
			[]any{now.UnixMicro(), batch}},
		{&p.Responders, `DELETE FROM ocsp_responders WHERE certificate_id IN (SELECT certificate_id FROM ocsp_responders
			WHERE not_after < $1 ORDER BY not_after LIMIT $2)`, []any{now, batch}},
	}
	var all []purge
	for _, step := range steps {
		all = append(all, purge{step.count, func(ctx context.Context) (int64, error) {
			st := may(step.sql, step.args...)
			err := s.commit(ctx, &write{what: "purge", guards: []*stmt{st}})
			return st.n, err
		}})
	}
	return append(all,
		purge{&p.Origins, func(ctx context.Context) (int64, error) { return s.purgeOrigins(ctx, now, batch) }},
		purge{&p.Nonces, func(ctx context.Context) (int64, error) { return s.purgeNonces(ctx, now, batch) }})
}

// purgeOrigins looks for them outside of a commit: what it reads grows with the
// certificates that expired lately, and no writer may wait for that.
func (s *Store) purgeOrigins(ctx context.Context, now time.Time, batch int) (int64, error) {
	var due []any
	err := s.query(ctx, "look for origins to purge", `SELECT g.origin FROM certificates c JOIN origins g
		ON g.certificate_id = c.id AND g.origin = c.origin
		WHERE c.not_after < $1 AND c.not_after > $2 AND NOT EXISTS (SELECT 1 FROM orders o
		WHERE o.id = SUBSTR(g.origin, 7))
		AND NOT EXISTS (SELECT 1 FROM requests q WHERE q.origin = g.origin) LIMIT $3`,
		[]any{now, now.Add(-keptOrigins), batch}, func(scan scanFunc) error {
			var origin string
			defer func() { due = append(due, origin) }()
			return scan(&origin)
		})
	if err != nil || len(due) == 0 {
		return 0, err
	}
	for len(due) < batch { // one text for all, which is prepared once
		due = append(due, due[0])
	}
	places := make([]string, batch)
	for i := range places {
		places[i] = placeholder(i + 1)
	}
	st := may(`DELETE FROM origins WHERE origin IN (`+strings.Join(places, ", ")+`)`, due...)
	err = s.commit(ctx, &write{what: "purge origins", guards: []*stmt{st}})
	return st.n, err
}

func (s *Store) purgeNonces(ctx context.Context, now time.Time, batch int) (int64, error) {
	if s.nonces != nil {
		s.nonces.purge(now)
		return 0, nil // all of them at once: nothing is left for another step
	}
	st := may(`DELETE FROM nonces WHERE value IN (SELECT value FROM nonces WHERE expires < $1 ORDER BY expires
		LIMIT $2)`, now, batch)
	err := s.commit(ctx, &write{what: "purge nonces", guards: []*stmt{st}})
	return st.n, err
}
