package store

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// ESTUser is a name and a password for HTTP Basic authentication of EST. The
// password itself is nowhere.
type ESTUser struct {
	Name        string
	Digest      []byte // of the password, made by the caller
	Description string
	Endpoint    string // empty is any
	Profile     string // empty is any
	MaxUses     int    // certificates that it may have; 0 is unlimited
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
	Subject     string // RFC 4514; the only subject that it is good for; empty is any
	MaxUses     int    // 0 is unlimited
	Uses        int
	ExpiresAt   *time.Time
	DisabledAt  *time.Time
	CreatedBy   string
	CreatedAt   time.Time
}

const (
	estUserColumns   = `name, digest, description, endpoint, profile, max_uses, uses, expires_at, disabled_at, created_by, created_at`
	challengeColumns = `id, digest, description, endpoint, profile, subject, max_uses, uses, expires_at, disabled_at, created_by, created_at`
)

// CreateESTUser stores a new user; fault.Conflict if the name is taken.
func (s *Store) CreateESTUser(ctx context.Context, u ESTUser, ev Event) error {
	return s.commit(ctx, &write{
		what: "create EST user",
		guards: []*stmt{must(`INSERT INTO est_users (`+estUserColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING`,
			u.Name, u.Digest, u.Description, u.Endpoint, u.Profile, u.MaxUses, u.Uses, u.ExpiresAt, u.DisabledAt, u.CreatedBy, u.CreatedAt)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "there is an EST user of this name") },
	})
}

// ESTUser returns a user by name.
func (s *Store) ESTUser(ctx context.Context, name string) (*ESTUser, error) {
	found, err := s.estUsers(ctx, `WHERE name = $1`, name)
	if err != nil {
		return nil, err
	}
	return one(found, "read EST user")
}

// ESTUsers returns the users whose name sorts after the given one, by name.
func (s *Store) ESTUsers(ctx context.Context, after string, limit int) ([]ESTUser, error) {
	return s.estUsers(ctx, `WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

func (s *Store) estUsers(ctx context.Context, where string, args ...any) ([]ESTUser, error) {
	var found []ESTUser
	err := s.query(ctx, "read EST users", `SELECT `+estUserColumns+` FROM est_users `+where, args, func(scan scanFunc) error {
		var u ESTUser
		err := scan(&u.Name, &u.Digest, &u.Description, &u.Endpoint, &u.Profile, &u.MaxUses, &u.Uses, &u.ExpiresAt, &u.DisabledAt, &u.CreatedBy, &u.CreatedAt)
		found = append(found, u)
		return err
	})
	return found, err
}

// DisableESTUser disables a user; fault.Conflict if it is disabled or unknown.
func (s *Store) DisableESTUser(ctx context.Context, name string, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what:   "disable EST user",
		guards: []*stmt{must(`UPDATE est_users SET disabled_at = $1 WHERE name = $2 AND disabled_at IS NULL`, at, name)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "no enabled EST user has this name") },
	})
}

// CreateSCEPChallenge stores a new challenge.
func (s *Store) CreateSCEPChallenge(ctx context.Context, c SCEPChallenge, ev Event) error {
	return s.commit(ctx, &write{
		what: "create SCEP challenge",
		guards: []*stmt{must(`INSERT INTO scep_challenges (`+challengeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			c.ID, c.Digest, c.Description, c.Endpoint, c.Profile, c.Subject, c.MaxUses, c.Uses, c.ExpiresAt, c.DisabledAt, c.CreatedBy, c.CreatedAt)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the challenge exists") },
	})
}

// SCEPChallengeByDigest returns the challenge with the given digest.
func (s *Store) SCEPChallengeByDigest(ctx context.Context, digest []byte) (*SCEPChallenge, error) {
	found, err := s.scepChallenges(ctx, `WHERE digest = $1`, digest)
	if err != nil {
		return nil, err
	}
	return one(found, "read SCEP challenge")
}

// SCEPChallenge returns a challenge by its id.
func (s *Store) SCEPChallenge(ctx context.Context, id string) (*SCEPChallenge, error) {
	found, err := s.scepChallenges(ctx, `WHERE id = $1`, id)
	if err != nil {
		return nil, err
	}
	return one(found, "read SCEP challenge")
}

// SCEPChallenges returns the challenges that are newer than the given id, oldest
// first.
func (s *Store) SCEPChallenges(ctx context.Context, after string, limit int) ([]SCEPChallenge, error) {
	return s.scepChallenges(ctx, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}

func (s *Store) scepChallenges(ctx context.Context, where string, args ...any) ([]SCEPChallenge, error) {
	var found []SCEPChallenge
	err := s.query(ctx, "read SCEP challenges", `SELECT `+challengeColumns+` FROM scep_challenges `+where, args, func(scan scanFunc) error {
		var c SCEPChallenge
		err := scan(&c.ID, &c.Digest, &c.Description, &c.Endpoint, &c.Profile, &c.Subject, &c.MaxUses, &c.Uses, &c.ExpiresAt, &c.DisabledAt, &c.CreatedBy, &c.CreatedAt)
		found = append(found, c)
		return err
	})
	return found, err
}

// DisableSCEPChallenge disables a challenge; fault.Conflict if it is disabled or
// unknown.
func (s *Store) DisableSCEPChallenge(ctx context.Context, id string, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what:   "disable SCEP challenge",
		guards: []*stmt{must(`UPDATE scep_challenges SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL`, at, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "no enabled SCEP challenge has this id") },
	})
}
