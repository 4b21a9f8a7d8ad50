package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// EABKey is a key for external account binding (RFC 8555, section 7.3.4).
type EABKey struct {
	KID         string
	HMAC        []byte // sealed by the caller
	Description string
	Endpoint    string
	Profiles    []string
	Binding     pki.Binding
	MaxUses     int // 0 is unlimited
	Uses        int
	ExpiresAt   *time.Time
	DisabledAt  *time.Time
	CreatedBy   string
	CreatedAt   time.Time
}

// ESTUser is a name and a password for HTTP Basic authentication of EST. The
// password itself is nowhere.
type ESTUser struct {
	Name        string
	Digest      []byte // of the password, made by the caller
	Description string
	Endpoint    string // empty is any
	Profile     string // empty is any
	Binding     pki.Binding
	MaxUses     int // certificates that it may have; 0 is unlimited
	Uses        int
	ExpiresAt   *time.Time
	DisabledAt  *time.Time
	CreatedBy   string
	CreatedAt   time.Time
}

// SCEPChallenge is a challenge password of SCEP, which is a secret without a
// name: it is found by its digest.
type SCEPChallenge struct {
	ID          string
	Digest      []byte
	Description string
	Endpoint    string // empty is any
	Profile     string // empty is any
	Binding     pki.Binding
	MaxUses     int // 0 is unlimited
	Uses        int
	ExpiresAt   *time.Time
	DisabledAt  *time.Time
	CreatedBy   string
	CreatedAt   time.Time
}

var (
	eabKeys = credential[EABKey]{
		what: "EAB key", kind: "eab", taken: "the kid is taken", none: "no enabled key has this kid",
		list: `kid, hmac, description, endpoint, profiles, names, max_uses, uses, expires_at,
			disabled_at, created_by, created_at, binding`,
		values: func(k *EABKey) []any {
			return []any{
				k.KID, k.HMAC, k.Description, k.Endpoint, asJSON(k.Profiles), asJSON(k.Binding.Names),
				k.MaxUses, k.Uses,
				k.ExpiresAt, k.DisabledAt, k.CreatedBy, k.CreatedAt, bindingJSON(k.Binding),
			}
		},
		scan: func(scan scanFunc, k *EABKey) error {
			var profiles, names, binding []byte
			err := scan(&k.KID, &k.HMAC, &k.Description, &k.Endpoint, &profiles, &names, &k.MaxUses, &k.Uses,
				&k.ExpiresAt, &k.DisabledAt, &k.CreatedBy, &k.CreatedAt, &binding)
			if err != nil {
				return err
			}
			var bound []string
			err = errors.Join(fromJSON(profiles, &k.Profiles), fromJSON(names, &bound))
			if k.Binding = (pki.Binding{Names: bound}); len(bound) == 0 {
				k.Binding = pki.Binding{AnyName: true, Old: true}
			}
			return errors.Join(err, readBinding(binding, &k.Binding))
		},
	}
	estUsers = credential[ESTUser]{
		what: "EST user", kind: "est_user", taken: "there is an EST user of this name",
		none: "no enabled EST user has this name",
		list: `name, digest, description, endpoint, profile, max_uses, uses, expires_at,
			disabled_at, created_by, created_at, binding`,
		values: func(u *ESTUser) []any {
			return []any{
				u.Name, u.Digest, u.Description, u.Endpoint, u.Profile, u.MaxUses, u.Uses, u.ExpiresAt, u.DisabledAt,
				u.CreatedBy, u.CreatedAt, bindingJSON(u.Binding),
			}
		},
		scan: func(scan scanFunc, u *ESTUser) error {
			var binding []byte
			err := scan(&u.Name, &u.Digest, &u.Description, &u.Endpoint, &u.Profile, &u.MaxUses, &u.Uses,
				&u.ExpiresAt, &u.DisabledAt, &u.CreatedBy, &u.CreatedAt, &binding)
			u.Binding = pki.Binding{AnyName: true, Old: true}
			return errors.Join(err, readBinding(binding, &u.Binding))
		},
	}
	scepChallenges = credential[SCEPChallenge]{
		what: "SCEP challenge", kind: "scep_challenge", taken: "the challenge exists",
		none: "no enabled SCEP challenge has this id",
		list: `id, digest, description, endpoint, profile, subject, max_uses, uses, expires_at,
			disabled_at, created_by, created_at, binding`,
		values: func(c *SCEPChallenge) []any {
			return []any{
				c.ID, c.Digest, c.Description, c.Endpoint, c.Profile, c.Binding.Subject, c.MaxUses, c.Uses,
				c.ExpiresAt, c.DisabledAt, c.CreatedBy, c.CreatedAt, bindingJSON(c.Binding),
			}
		},
		scan: func(scan scanFunc, c *SCEPChallenge) error {
			var subject string
			var binding []byte
			err := scan(&c.ID, &c.Digest, &c.Description, &c.Endpoint, &c.Profile, &subject, &c.MaxUses, &c.Uses,
				&c.ExpiresAt, &c.DisabledAt, &c.CreatedBy, &c.CreatedAt, &binding)
			c.Binding = pki.Binding{Subject: subject, AnyName: true, Old: true}
			return errors.Join(err, readBinding(binding, &c.Binding))
		},
	}
)

// bindingJSON is null for a binding of the time before there were any. What earlier
// releases know of it stands in their columns too, so that they hold to that.
func bindingJSON(b pki.Binding) any {
	if b.Old {
		return nil
	}
	text, err := json.Marshal(b)
	if err != nil {
		panic(fmt.Sprintf("store: encode a binding: %v", err)) // strings always encode
	}
	return string(text)
}

// readBinding replaces what the columns of earlier releases say.
func readBinding(raw []byte, into *pki.Binding) error {
	if raw == nil {
		return nil
	}
	var b pki.Binding
	if err := json.Unmarshal(raw, &b); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	*into = b
	return nil
}

// Unbound is how many credentials of each kind may have any name without that
// anybody said so, and are of use: not disabled and not expired, and EST users and
// SCEP challenges not used up. Accounts that a used up EAB key made go on.
type Unbound struct{ ESTUsers, SCEPChallenges, EABKeys int }

// CountUnbound counts them.
func (s *Store) CountUnbound(ctx context.Context, now time.Time) (n Unbound, err error) {
	const open = ` WHERE binding IS NULL AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $1)`
	const left = open + ` AND (max_uses = 0 OR uses < max_uses)`
	sql := `SELECT (SELECT COUNT(*) FROM est_users` + left + `), (SELECT COUNT(*) FROM scep_challenges` + left + `),
		(SELECT COUNT(*) FROM eab_keys` + open + ` AND names = '[]')`
	err = s.queryRow(ctx, "count unbound credentials", sql, []any{now}, &n.ESTUsers, &n.SCEPChallenges, &n.EABKeys)
	return n, err
}

// CreateEAB stores a new key; fault.Conflict if the kid is taken.
func (s *Store) CreateEAB(ctx context.Context, k EABKey, ev Event) error {
	return eabKeys.create(ctx, s, &k, ev)
}

// EAB returns a key by its kid.
func (s *Store) EAB(ctx context.Context, kid string) (*EABKey, error) {
	return eabKeys.by(ctx, s, "kid", kid)
}

// EABs returns the keys whose kid sorts after the given one, in order of kid.
func (s *Store) EABs(ctx context.Context, after string, limit int) ([]EABKey, error) {
	return eabKeys.page(ctx, s, after, limit)
}

// DisableEAB disables a key; fault.Conflict if it is disabled or unknown.
func (s *Store) DisableEAB(ctx context.Context, kid string, at time.Time, ev Event) error {
	return eabKeys.disable(ctx, s, kid, at, ev)
}

// CreateESTUser stores a new user; fault.Conflict if the name is taken.
func (s *Store) CreateESTUser(ctx context.Context, u ESTUser, ev Event) error {
	return estUsers.create(ctx, s, &u, ev)
}

// ESTUser returns a user by name.
func (s *Store) ESTUser(ctx context.Context, name string) (*ESTUser, error) {
	return estUsers.by(ctx, s, "name", name)
}

// ESTUsers returns the users whose name sorts after the given one, by name.
func (s *Store) ESTUsers(ctx context.Context, after string, limit int) ([]ESTUser, error) {
	return estUsers.page(ctx, s, after, limit)
}

// DisableESTUser disables a user; fault.Conflict if it is disabled or unknown.
func (s *Store) DisableESTUser(ctx context.Context, name string, at time.Time, ev Event) error {
	return estUsers.disable(ctx, s, name, at, ev)
}

// CreateSCEPChallenge stores a new challenge.
func (s *Store) CreateSCEPChallenge(ctx context.Context, c SCEPChallenge, ev Event) error {
	return scepChallenges.create(ctx, s, &c, ev)
}

// SCEPChallengeByDigest returns the challenge with the given digest.
func (s *Store) SCEPChallengeByDigest(ctx context.Context, digest []byte) (*SCEPChallenge, error) {
	return scepChallenges.by(ctx, s, "digest", digest)
}

// SCEPChallenge returns a challenge by its id.
func (s *Store) SCEPChallenge(ctx context.Context, id string) (*SCEPChallenge, error) {
	return scepChallenges.by(ctx, s, "id", id)
}

// SCEPChallenges returns the challenges that are newer than the given id, oldest
// first.
func (s *Store) SCEPChallenges(ctx context.Context, after string, limit int) ([]SCEPChallenge, error) {
	return scepChallenges.page(ctx, s, after, limit)
}

// DisableSCEPChallenge disables a challenge; fault.Conflict if it is disabled or
// unknown.
func (s *Store) DisableSCEPChallenge(ctx context.Context, id string, at time.Time, ev Event) error {
	return scepChallenges.disable(ctx, s, id, at, ev)
}
