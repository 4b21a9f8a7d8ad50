package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Authorization is an account's right to a name, proved or to be proved.
type Authorization struct {
	ID, AccountID string
	Identifier    pki.Identifier
	Wildcard      bool
	Status        string // "pending", "valid", "invalid", "deactivated" or "revoked" (by an operator)
	Expires       time.Time
	Token         string
	Attempted     string     // type of the challenge being or last attempted
	Attempts      int        // attempts that failed and are to be repeated
	NextAttemptAt *time.Time // when a worker may take it
	Thumbprint    string     // of the account's key when the client responded
	ValidatedAt   *time.Time
	Error, Record json.RawMessage
	CreatedAt     time.Time
}

var authorizations = table[Authorization]{
	name: "authorizations", alias: "a",
	columns: []column[Authorization]{
		col("id", func(r *Authorization) *string { return &r.ID }),
		col("account_id", func(r *Authorization) *string { return &r.AccountID }),
		col("identifier_type", func(r *Authorization) *pki.IdentifierType { return &r.Identifier.Type }),
		col("identifier_value", func(r *Authorization) *string { return &r.Identifier.Value }),
		col("wildcard", func(r *Authorization) *bool { return &r.Wildcard }),
		col("status", func(r *Authorization) *string { return &r.Status }),
		col("expires", func(r *Authorization) *time.Time { return &r.Expires }),
		col("token", func(r *Authorization) *string { return &r.Token }),
		col("attempted", func(r *Authorization) *string { return &r.Attempted }),
		col("attempts", func(r *Authorization) *int { return &r.Attempts }),
		col("next_attempt_at", func(r *Authorization) **time.Time { return &r.NextAttemptAt }),
		col("thumbprint", func(r *Authorization) *string { return &r.Thumbprint }),
		col("validated_at", func(r *Authorization) **time.Time { return &r.ValidatedAt }),
		col("error", func(r *Authorization) *json.RawMessage { return &r.Error }),
		col("record", func(r *Authorization) *json.RawMessage { return &r.Record }),
		col("created_at", func(r *Authorization) *time.Time { return &r.CreatedAt }),
	},
}.ready()

// StatusAt is the stored status, until time has passed over it: then it is "expired".
func (a *Authorization) StatusAt(now time.Time) string {
	if (a.Status == "valid" || a.Status == "pending") && !now.Before(a.Expires) {
		return "expired"
	}
	return a.Status
}

// Name is the identifier as the order has it.
func (a *Authorization) Name() string {
	if a.Wildcard {
		return "*." + a.Identifier.Value
	}
	return a.Identifier.Value
}

// Authorization returns an authorization by id.
func (s *Store) Authorization(ctx context.Context, id string) (*Authorization, error) {
	found, err := s.authorizations(ctx, `WHERE a.id = $1`, id)
	if err != nil {
		return nil, err
	}
	return one(found, "read authorization")
}

func (s *Store) authorizations(ctx context.Context, where string, args ...any) ([]Authorization, error) {
	var found []Authorization
	err := s.query(ctx, "read authorizations", authorizations.query+where, args, authorizations.scan(&found))
	return found, err
}

// AuthorizationName is what an authorization is for.
type AuthorizationName struct {
	Identifier pki.Identifier // without "*."
	Wildcard   bool
}

// ReusableAuthorizations returns an account's valid authorizations for the given
// names that last beyond validUntil, at most one for a name.
func (s *Store) ReusableAuthorizations(
	ctx context.Context, accountID string, names []AuthorizationName, validUntil time.Time,
) ([]Authorization, error) {
	if len(names) == 0 {
		return nil, nil
	}
	wanted := map[AuthorizationName]bool{}
	var values []string
	for _, n := range names {
		wanted[n] = true
		values = append(values, n.Identifier.Value)
	}
	for len(values)&(len(values)-1) != 0 { // few different lengths, few statements to prepare
		values = append(values, values[0])
	}
	in, args := list([]any{accountID, validUntil}, values)
	found, err := s.authorizations(ctx, `WHERE a.account_id = $1 AND a.status = 'valid' AND a.expires > $2
		AND a.identifier_value IN `+in+` ORDER BY a.expires DESC, a.id`, args...)
	if err != nil {
		return nil, err
	}
	reusable := found[:0]
	for _, a := range found {
		name := AuthorizationName{a.Identifier, a.Wildcard}
		if wanted[name] {
			wanted[name] = false
			reusable = append(reusable, a)
		}
	}
	return reusable, nil
}

// StartChallenge records the client's response to one challenge of a pending
// authorization, once. at is when another worker may take the attempt if the
// starter has not finished it; see ClaimChallenge.
func (s *Store) StartChallenge(
	ctx context.Context, authzID, typ, thumbprint string, at time.Time,
) (started bool, err error) {
	return s.swap(ctx, "start challenge", must(`UPDATE authorizations
		SET attempted = $1, thumbprint = $2, next_attempt_at = $3
		WHERE id = $4 AND status = 'pending' AND attempted = '' AND expires > $3`, typ, thumbprint, at, authzID))
}

// swap commits one compare-and-swap and reports whether it was won.
func (s *Store) swap(ctx context.Context, what string, st *stmt) (bool, error) {
	won := true
	err := s.commit(ctx, &write{
		what: what, guards: []*stmt{st},
		lost: func(int) error { won = false; return fault.New(fault.Conflict, "%s: lost", what) },
	})
	if !won {
		return false, nil
	}
	return err == nil, err
}

// FinishChallenge settles a pending authorization: valid until expires, or
// invalid, and with it its pending orders. It is fault.Conflict if it is settled
// already or another challenge was attempted.
func (s *Store) FinishChallenge(ctx context.Context, authzID, typ string, valid bool, problem, record json.RawMessage,
	validatedAt, expires time.Time, ev *Event) error {
	status, at := "invalid", (*time.Time)(nil)
	if valid {
		status, at = "valid", &validatedAt
	}
	w := &write{
		what: "finish challenge",
		guards: []*stmt{must(`UPDATE authorizations SET status = $1, error = $2, record = $3, validated_at = $4,
			expires = $5, next_attempt_at = NULL WHERE id = $6 AND status = 'pending' AND attempted = $7`,
			status, problem, record, at, expires, authzID, typ)},
		events: optional(ev),
		lost:   func(int) error { return fault.New(fault.Conflict, "the authorization is settled") },
	}
	if !valid {
		w.effects = []*stmt{endOrdersOf(authzID)}
	}
	return s.commit(ctx, w)
}

// endOrdersOf makes the pending orders of an authorization that has ended
// invalid: nothing that comes later could make them ready. Why is told by the
// authorization.
func endOrdersOf(authzID string) *stmt {
	return may(`UPDATE orders SET status = 'invalid' WHERE status = 'pending'
		AND id IN (SELECT order_id FROM order_authorizations WHERE authorization_id = $1)`, authzID)
}

// EndChallenge makes a pending authorization invalid whose validation cannot be
// carried on, whatever was attempted; fault.Conflict if it is not pending.
func (s *Store) EndChallenge(ctx context.Context, authzID string, problem json.RawMessage, ev Event) error {
	return s.commit(ctx, &write{
		what: "end challenge",
		guards: []*stmt{must(`UPDATE authorizations SET status = 'invalid', error = $1, next_attempt_at = NULL
			WHERE id = $2 AND status = 'pending'`, problem, authzID)},
		effects: []*stmt{endOrdersOf(authzID)},
		events:  []Event{ev},
		lost:    func(int) error { return fault.New(fault.Conflict, "the authorization is settled") },
	})
}

// RetryChallenge notes a failed attempt that is to be repeated at next. It is
// fault.Conflict if the authorization is settled.
func (s *Store) RetryChallenge(
	ctx context.Context, authzID string, attempts int, next time.Time, problem, record json.RawMessage,
) error {
	won, err := s.swap(ctx, "retry challenge", must(`UPDATE authorizations
		SET attempts = $1, next_attempt_at = $2, error = $3, record = $4
		WHERE id = $5 AND status = 'pending' AND attempted <> ''`, attempts, next, problem, record, authzID))
	if err == nil && !won {
		return fault.New(fault.Conflict, "the authorization is settled")
	}
	return err
}

// PendingChallenges returns the ids of authorizations whose next attempt is due,
// the one that has waited longest first.
func (s *Store) PendingChallenges(ctx context.Context, due time.Time, limit int) ([]string, error) {
	var ids []string
	err := s.query(ctx, "read due authorizations", `SELECT a.id FROM authorizations a
		WHERE a.status = 'pending' AND a.attempted <> '' AND a.next_attempt_at <= $1
		ORDER BY a.next_attempt_at, a.id LIMIT $2`, []any{due, limit}, scanIDs(&ids))
	return ids, err
}

func scanIDs(into *[]string) func(scanFunc) error {
	return func(scan scanFunc) error {
		var id string
		err := scan(&id)
		*into = append(*into, id)
		return err
	}
}

// ClaimChallenge gives a due attempt to one worker of all nodes: until the given
// time no other gets it.
func (s *Store) ClaimChallenge(ctx context.Context, authzID string, now, until time.Time) (claimed bool, err error) {
	return s.swap(ctx, "claim challenge", must(`UPDATE authorizations SET next_attempt_at = $1
		WHERE id = $2 AND status = 'pending' AND attempted <> '' AND next_attempt_at <= $3`, until, authzID, now))
}

// DeactivateAuthorization takes back a pending or valid authorization (RFC 8555,
// section 7.5.2), and with it the pending orders that rest on it; fault.Conflict
// if it is neither.
func (s *Store) DeactivateAuthorization(ctx context.Context, id string, ev Event) error {
	return s.endAuthorization(ctx, id, "deactivated", ev)
}

// RevokeAuthorization is DeactivateAuthorization for an operator: the status is
// "revoked" (RFC 8555, section 7.1.6).
func (s *Store) RevokeAuthorization(ctx context.Context, id string, ev Event) error {
	return s.endAuthorization(ctx, id, "revoked", ev)
}

func (s *Store) endAuthorization(ctx context.Context, id, status string, ev Event) error {
	return s.commit(ctx, &write{
		what: "end authorization",
		guards: []*stmt{must(`UPDATE authorizations SET status = $1, next_attempt_at = NULL
			WHERE id = $2 AND status IN ('pending', 'valid')`, status, id)},
		effects: []*stmt{endOrdersOf(id)},
		events:  []Event{ev},
		lost:    func(int) error { return fault.New(fault.Conflict, "the authorization is neither pending nor valid") },
	})
}
