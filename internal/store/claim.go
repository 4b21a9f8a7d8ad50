package store

import (
	"context"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Claim names a one-time credential that a request uses up. It is taken by
// compare-and-swap with the reservation and given back if that is abandoned.
type Claim struct {
	Kind string `json:"kind"` // "eab", "est_user", "scep_challenge" or "approval"
	ID   string `json:"id"`
}

// use returns the statement that takes the claim, if it is still to be had.
func (c Claim) use(now time.Time) (*stmt, error) {
	switch c.Kind {
	case "eab":
		return must(`UPDATE eab_keys SET uses = uses + 1 WHERE kid = $1 AND disabled_at IS NULL
			AND (expires_at IS NULL OR expires_at > $2) AND (max_uses = 0 OR uses < max_uses)`, c.ID, now), nil
	case "est_user":
		return must(`UPDATE est_users SET uses = uses + 1 WHERE name = $1 AND disabled_at IS NULL
			AND (expires_at IS NULL OR expires_at > $2) AND (max_uses = 0 OR uses < max_uses)`, c.ID, now), nil
	case "scep_challenge":
		return must(`UPDATE scep_challenges SET uses = uses + 1 WHERE id = $1 AND disabled_at IS NULL
			AND (expires_at IS NULL OR expires_at > $2) AND (max_uses = 0 OR uses < max_uses)`, c.ID, now), nil
	case "approval":
		return must(`UPDATE requests SET consumed_at = $1 WHERE id = $2 AND status = 'approved' AND consumed_at IS NULL AND expires_at > $1`, now, c.ID), nil
	default:
		return nil, fmt.Errorf("claim of kind %q: not known", c.Kind)
	}
}

// giveBack returns the statement that undoes use.
func (c Claim) giveBack() (*stmt, error) {
	switch c.Kind {
	case "eab":
		return may(`UPDATE eab_keys SET uses = uses - 1 WHERE kid = $1 AND uses > 0`, c.ID), nil
	case "est_user":
		return may(`UPDATE est_users SET uses = uses - 1 WHERE name = $1 AND uses > 0`, c.ID), nil
	case "scep_challenge":
		return may(`UPDATE scep_challenges SET uses = uses - 1 WHERE id = $1 AND uses > 0`, c.ID), nil
	case "approval":
		return may(`UPDATE requests SET consumed_at = NULL WHERE id = $1`, c.ID), nil
	default:
		return nil, fmt.Errorf("claim of kind %q: not known", c.Kind)
	}
}

func (c Claim) lost() error {
	return fault.New(fault.Denied, "the credential is used up, expired or disabled").Because(c.Kind + "_used_up")
}

// EABKey is a key for external account binding (RFC 8555, section 7.3.4).
type EABKey struct {
	KID         string
	HMAC        []byte // sealed by the caller
	Description string
	Endpoint    string
	Profiles    []string
	Names       []string
	MaxUses     int // 0 is unlimited
	Uses        int
	ExpiresAt   *time.Time
	DisabledAt  *time.Time
	CreatedBy   string
	CreatedAt   time.Time
}

const eabColumns = `kid, hmac, description, endpoint, profiles, names, max_uses, uses, expires_at, disabled_at, created_by, created_at`

// CreateEAB stores a new key; fault.Conflict if the kid is taken.
func (s *Store) CreateEAB(ctx context.Context, k EABKey, ev Event) error {
	return s.commit(ctx, &write{
		what: "create EAB key",
		guards: []*stmt{must(`INSERT INTO eab_keys (`+eabColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (kid) DO NOTHING`,
			k.KID, k.HMAC, k.Description, k.Endpoint, asJSON(k.Profiles), asJSON(k.Names), k.MaxUses, k.Uses,
			k.ExpiresAt, k.DisabledAt, k.CreatedBy, k.CreatedAt)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the kid is taken") },
	})
}

// EAB returns a key by its kid.
func (s *Store) EAB(ctx context.Context, kid string) (*EABKey, error) {
	found, err := s.eabs(ctx, `WHERE kid = $1`, kid)
	if err != nil {
		return nil, err
	}
	return one(found, "read EAB key")
}

// EABs returns the keys whose kid sorts after the given one, in order of kid.
func (s *Store) EABs(ctx context.Context, after string, limit int) ([]EABKey, error) {
	return s.eabs(ctx, `WHERE kid > $1 ORDER BY kid LIMIT $2`, after, limit)
}

func (s *Store) eabs(ctx context.Context, where string, args ...any) ([]EABKey, error) {
	var keys []EABKey
	err := s.query(ctx, "read EAB keys", `SELECT `+eabColumns+` FROM eab_keys `+where, args, func(scan scanFunc) error {
		var k EABKey
		var profiles, names []byte
		err := scan(&k.KID, &k.HMAC, &k.Description, &k.Endpoint, &profiles, &names, &k.MaxUses, &k.Uses,
			&k.ExpiresAt, &k.DisabledAt, &k.CreatedBy, &k.CreatedAt)
		if err != nil {
			return err
		}
		if err := fromJSON(profiles, &k.Profiles); err != nil {
			return err
		}
		err = fromJSON(names, &k.Names)
		keys = append(keys, k)
		return err
	})
	return keys, err
}

// DisableEAB disables a key; fault.Conflict if it is disabled or unknown.
func (s *Store) DisableEAB(ctx context.Context, kid string, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what:   "disable EAB key",
		guards: []*stmt{must(`UPDATE eab_keys SET disabled_at = $1 WHERE kid = $2 AND disabled_at IS NULL`, at, kid)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "no enabled key has this kid") },
	})
}
