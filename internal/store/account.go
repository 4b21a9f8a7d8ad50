package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Account is an ACME account. Endpoint and Thumbprint together are unique.
type Account struct {
	ID, Endpoint  string
	Thumbprint    string // RFC 7638, base64url
	JWK           []byte // JSON
	Contact       []string
	Status        string // "valid", "deactivated" or "revoked"
	TermsAgreedAt *time.Time
	Terms         string // that were agreed to then; empty if it was before they were recorded
	EABKID        string
	Binding       []byte // the signed external account binding; only for CreateAccount, AccountBinding reads it
	CreatedAt     time.Time
	CreatedFrom   string // client address
}

var accounts = table[Account]{
	name: "accounts", alias: "u",
	columns: []column[Account]{
		col("id", func(r *Account) *string { return &r.ID }),
		col("endpoint", func(r *Account) *string { return &r.Endpoint }),
		col("thumbprint", func(r *Account) *string { return &r.Thumbprint }),
		{
			name: "jwk", of: func(r *Account) any { return json.RawMessage(r.JWK) },
			to: func(r *Account) any { return (*json.RawMessage)(&r.JWK) },
		},
		listCol("contact", func(r *Account) *[]string { return &r.Contact }),
		col("status", func(r *Account) *string { return &r.Status }),
		col("terms_agreed_at", func(r *Account) **time.Time { return &r.TermsAgreedAt }),
		col("terms", func(r *Account) *string { return &r.Terms }),
		col("eab_kid", func(r *Account) *string { return &r.EABKID }),
		col("created_at", func(r *Account) *time.Time { return &r.CreatedAt }),
		col("created_from", func(r *Account) *string { return &r.CreatedFrom }),
		written("binding", func(r *Account) any { return string(r.Binding) }),
	},
}.ready()

// one returns the only element, or ErrNotFound.
func one[T any](found []T, what string) (*T, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return &found[0], nil
}

// CreateAccount stores a new account and uses up its claim, if any. If the
// endpoint has an account with the same key, that one is returned, nothing is
// written and the claim is left alone.
func (s *Store) CreateAccount(ctx context.Context, a Account, claim *Claim, ev Event) (existing *Account, err error) {
	errExists := errors.New("the account exists")
	sql, args := accounts.add(&a, `ON CONFLICT DO NOTHING`)
	w := &write{what: "create account", guards: []*stmt{must(sql, args...)}, events: []Event{ev}}
	if claim != nil {
		st, err := claim.use(s.cfg.Now())
		if err != nil {
			return nil, err
		}
		w.guards = append(w.guards, st)
	}
	w.lost = func(guard int) error {
		if guard == 0 {
			return errExists
		}
		return claim.lost()
	}
	if err := s.commit(ctx, w); !errors.Is(err, errExists) {
		return nil, err
	}
	return s.AccountByThumbprint(ctx, a.Endpoint, a.Thumbprint)
}

// Account returns an account by id.
func (s *Store) Account(ctx context.Context, id string) (*Account, error) {
	var found []Account
	if err := s.query(ctx, "read account", accounts.query+`WHERE u.id = $1`, []any{id},
		accounts.scan(&found)); err != nil {
		return nil, err
	}
	return one(found, "read account")
}

// AccountByThumbprint returns the account of a key at an endpoint.
func (s *Store) AccountByThumbprint(ctx context.Context, endpoint, thumbprint string) (*Account, error) {
	var found []Account
	err := s.query(ctx, "read account by key", accounts.query+`WHERE u.thumbprint = $1 AND u.endpoint = $2`,
		[]any{thumbprint, endpoint}, accounts.scan(&found))
	if err != nil {
		return nil, err
	}
	return one(found, "read account by key")
}

// AccountBinding returns the signed external account binding that an account came
// with, nil if it had none.
func (s *Store) AccountBinding(ctx context.Context, id string) ([]byte, error) {
	var binding string
	if err := s.queryRow(ctx, "read account binding", `SELECT binding FROM accounts WHERE id = $1`, []any{id},
		&binding); err != nil || binding == "" {
		return nil, err
	}
	return []byte(binding), nil
}

// AgreeToTerms records that an account agrees to the terms at a URL. It is
// fault.Conflict if the account is not valid (any more).
func (s *Store) AgreeToTerms(ctx context.Context, id, terms string, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what: "agree to terms",
		guards: []*stmt{must(`UPDATE accounts SET terms = $1, terms_agreed_at = $2 WHERE id = $3 AND status = 'valid'`,
			terms, at, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the account is not valid") },
	})
}

// AccountKeyUsed reports whether an account of any endpoint, ended or not, has
// the key.
func (s *Store) AccountKeyUsed(ctx context.Context, thumbprint string) (bool, error) {
	var n int64
	err := s.queryRow(ctx, "look for account key", `SELECT COUNT(*) FROM accounts WHERE thumbprint = $1`,
		[]any{thumbprint}, &n)
	return n > 0, err
}

// UpdateAccount replaces the contacts, unless contact is nil, and deactivates
// the account if asked, and with it its pending authorizations and orders. It is
// fault.Conflict if the account is not valid (any more).
func (s *Store) UpdateAccount(ctx context.Context, id string, contact *[]string, deactivate bool, ev Event) error {
	w := &write{what: "update account", events: []Event{ev}, lost: func(int) error {
		return fault.New(fault.Conflict, "the account is not valid")
	}}
	if contact != nil {
		w.guards = append(w.guards, must(`UPDATE accounts SET contact = $1 WHERE id = $2 AND status = 'valid'`,
			asJSON(*contact), id))
	}
	if deactivate {
		w.guards = append(w.guards, must(`UPDATE accounts SET status = 'deactivated' WHERE id = $1
			AND status = 'valid'`, id))
		w.effects = append(w.effects,
			may(`UPDATE authorizations SET status = 'deactivated' WHERE account_id = $1 AND status = 'pending'`, id),
			may(`UPDATE orders SET status = 'invalid' WHERE account_id = $1 AND status = 'pending'`, id))
	}
	return s.commit(ctx, w)
}

// ChangeAccountKey replaces an account's key (RFC 8555, section 7.3.5). It is
// fault.Conflict if another account of the endpoint has the new key, or if the
// account no longer has the old one.
func (s *Store) ChangeAccountKey(
	ctx context.Context, id, oldThumbprint, newThumbprint string, newJWK []byte, ev Event,
) error {
	return s.commit(ctx, &write{
		what: "change account key",
		guards: []*stmt{must(`UPDATE accounts SET thumbprint = $1, jwk = $2
			WHERE id = $3 AND thumbprint = $4 AND status = 'valid' AND NOT EXISTS
				(SELECT 1 FROM accounts other WHERE other.thumbprint = $1 AND other.endpoint = accounts.endpoint)`,
			newThumbprint, json.RawMessage(newJWK), id, oldThumbprint)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "another account has the new key") },
	})
}
