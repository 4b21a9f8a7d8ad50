package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Claim names a one-time credential that a request uses up. It is taken by
// compare-and-swap with the reservation and given back if that is abandoned.
type Claim struct {
	Kind string `json:"kind"` // "eab", "est_user", "scep_challenge" or "approval"
	ID   string `json:"id"`
}

// countedIn are the tables of credentials that count their uses, by the kind of
// claim.
var countedIn = map[string]struct{ table, key string }{
	"eab": {"eab_keys", "kid"}, "est_user": {"est_users", "name"}, "scep_challenge": {"scep_challenges", "id"},
}

// use returns the statement that takes the claim, if it is still to be had.
func (c Claim) use(now time.Time) (*stmt, error) {
	if c.Kind == "approval" {
		return must(`UPDATE requests SET consumed_at = $1 WHERE id = $2 AND status = 'approved'
			AND consumed_at IS NULL AND expires_at > $1`, now, c.ID), nil
	}
	in, ok := countedIn[c.Kind]
	if !ok {
		return nil, fmt.Errorf("claim of kind %q: not known", c.Kind)
	}
	return must(`UPDATE `+in.table+` SET uses = uses + 1 WHERE `+in.key+` = $1 AND disabled_at IS NULL
		AND (expires_at IS NULL OR expires_at > $2) AND (max_uses = 0 OR uses < max_uses)`, c.ID, now), nil
}

// CheckClaim says why Reserve would refuse a claim at a time; nil if it would not.
func (s *Store) CheckClaim(ctx context.Context, c Claim, now time.Time) error {
	in, ok := countedIn[c.Kind]
	if !ok {
		return fmt.Errorf("claim of kind %q: not known", c.Kind)
	}
	var disabled, expires *time.Time
	var most, uses int64
	sql := `SELECT disabled_at, expires_at, max_uses, uses FROM ` + in.table + ` WHERE ` + in.key + ` = $1`
	err := s.queryRow(ctx, "check claim", sql, []any{c.ID}, &disabled, &expires, &most, &uses)
	refuse := func(what string) error {
		said := strings.ReplaceAll(what, "_", " ")
		return fault.New(fault.Denied, "the credential by which it was asked is %s", said).Because(c.Kind + "_" + what)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return refuse("unknown")
	case err != nil:
		return err
	case disabled != nil:
		return refuse("disabled")
	case expires != nil && !expires.After(now):
		return refuse("expired")
	case most > 0 && uses >= most:
		return refuse("used_up")
	}
	return nil
}

// giveBack returns the statement that undoes use.
func (c Claim) giveBack() (*stmt, error) {
	if c.Kind == "approval" {
		return may(`UPDATE requests SET consumed_at = NULL WHERE id = $1`, c.ID), nil
	}
	in, ok := countedIn[c.Kind]
	if !ok {
		return nil, fmt.Errorf("claim of kind %q: not known", c.Kind)
	}
	return may(`UPDATE `+in.table+` SET uses = uses - 1 WHERE `+in.key+` = $1 AND uses > 0`, c.ID), nil
}

func (c Claim) lost() error {
	return fault.New(fault.Denied, "the credential is used up, expired or disabled").Because(c.Kind + "_used_up")
}

// credential is how one kind of credential stands in its table: made once, read
// by its key and in the order of its keys, disabled once.
type credential[T any] struct {
	what   string // in errors: "EAB key"
	kind   string // in countedIn
	list   string // its columns
	values func(*T) []any
	scan   func(scanFunc, *T) error
	taken  string // what is said of one whose key is taken
	none   string // what is said where none can be disabled
}

func (c *credential[T]) create(ctx context.Context, s *Store, v *T, ev Event) error {
	values := c.values(v)
	places := make([]string, len(values))
	for i := range values {
		places[i] = placeholder(i + 1)
	}
	return s.commit(ctx, &write{
		what: "create " + c.what,
		guards: []*stmt{must(`INSERT INTO `+countedIn[c.kind].table+` (`+c.list+`) VALUES (`+strings.Join(places,
			", ")+`) ON CONFLICT DO NOTHING`,
			values...)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "%s", c.taken) },
	})
}

func (c *credential[T]) find(ctx context.Context, s *Store, where string, args ...any) ([]T, error) {
	var found []T
	err := s.query(ctx, "read "+c.what, `SELECT `+c.list+` FROM `+countedIn[c.kind].table+` `+where, args,
		func(scan scanFunc) error {
			var v T
			err := c.scan(scan, &v)
			found = append(found, v)
			return err
		})
	return found, err
}

// by returns the credential whose column has the value.
func (c *credential[T]) by(ctx context.Context, s *Store, column string, value any) (*T, error) {
	found, err := c.find(ctx, s, `WHERE `+column+` = $1`, value)
	if err != nil {
		return nil, err
	}
	return one(found, "read "+c.what)
}

// page returns those whose key sorts after the given one, in order.
func (c *credential[T]) page(ctx context.Context, s *Store, after string, limit int) ([]T, error) {
	key := countedIn[c.kind].key
	return c.find(ctx, s, `WHERE `+key+` > $1 ORDER BY `+key+` LIMIT $2`, after, limit)
}

func (c *credential[T]) disable(ctx context.Context, s *Store, id string, at time.Time, ev Event) error {
	in := countedIn[c.kind]
	return s.commit(ctx, &write{
		what: "disable " + c.what,
		guards: []*stmt{must(`UPDATE `+in.table+` SET disabled_at = $1 WHERE `+in.key+` = $2 AND disabled_at IS NULL`,
			at, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "%s", c.none) },
	})
}
