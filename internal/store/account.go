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

const (
	accountColumns = `id, endpoint, thumbprint, jwk, contact, status, terms_agreed_at, terms, eab_kid, created_at, created_from`
	selectAccount  = `SELECT ` + accountColumns + ` FROM accounts `
)

func scanAccounts(into *[]Account) func(scanFunc) error {
	return func(scan scanFunc) error {
		var a Account
		var contact, jwk json.RawMessage
		err := scan(&a.ID, &a.Endpoint, &a.Thumbprint, &jwk, &contact, &a.Status, &a.TermsAgreedAt, &a.Terms, &a.EABKID, &a.CreatedAt, &a.CreatedFrom)
		if err != nil {
			return err
		}
		a.JWK = jwk
		*into = append(*into, a)
		return fromJSON(contact, &(*into)[len(*into)-1].Contact)
	}
}

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
	w := &write{
		what: "create account",
		guards: []*stmt{must(`INSERT INTO accounts (`+accountColumns+`, binding)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			a.ID, a.Endpoint, a.Thumbprint, json.RawMessage(a.JWK), asJSON(a.Contact), a.Status, a.TermsAgreedAt, a.Terms, a.EABKID, a.CreatedAt, a.CreatedFrom, string(a.Binding))},
		events: []Event{ev},
	}
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
	if err := s.query(ctx, "read account", selectAccount+`WHERE id = $1`, []any{id}, scanAccounts(&found)); err != nil {
		return nil, err
	}
	return one(found, "read account")
}

// AccountByThumbprint returns the account of a key at an endpoint.
func (s *Store) AccountByThumbprint(ctx context.Context, endpoint, thumbprint string) (*Account, error) {
	var found []Account
	err := s.query(ctx, "read account by key", selectAccount+`WHERE thumbprint = $1 AND endpoint = $2`,
		[]any{thumbprint, endpoint}, scanAccounts(&found))
	if err != nil {
		return nil, err
	}
	return one(found, "read account by key")
}

// AccountBinding returns the signed external account binding that an account came
// with, nil if it had none.
func (s *Store) AccountBinding(ctx context.Context, id string) ([]byte, error) {
	var binding string
	if err := s.queryRow(ctx, "read account binding", `SELECT binding FROM accounts WHERE id = $1`, []any{id}, &binding); err != nil || binding == "" {
		return nil, err
	}
	return []byte(binding), nil
}

// AgreeToTerms records that an account agrees to the terms at a URL. It is
// fault.Conflict if the account is not valid (any more).
func (s *Store) AgreeToTerms(ctx context.Context, id, terms string, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what:   "agree to terms",
		guards: []*stmt{must(`UPDATE accounts SET terms = $1, terms_agreed_at = $2 WHERE id = $3 AND status = 'valid'`, terms, at, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the account is not valid") },
	})
}

// AccountKeyUsed reports whether an account of any endpoint, ended or not, has
// the key.
func (s *Store) AccountKeyUsed(ctx context.Context, thumbprint string) (bool, error) {
	var n int64
	err := s.queryRow(ctx, "look for account key", `SELECT COUNT(*) FROM accounts WHERE thumbprint = $1`, []any{thumbprint}, &n)
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
		w.guards = append(w.guards, must(`UPDATE accounts SET contact = $1 WHERE id = $2 AND status = 'valid'`, asJSON(*contact), id))
	}
	if deactivate {
		w.guards = append(w.guards, must(`UPDATE accounts SET status = 'deactivated' WHERE id = $1 AND status = 'valid'`, id))
		w.effects = append(w.effects,
			may(`UPDATE authorizations SET status = 'deactivated' WHERE account_id = $1 AND status = 'pending'`, id),
			may(`UPDATE orders SET status = 'invalid' WHERE account_id = $1 AND status = 'pending'`, id))
	}
	return s.commit(ctx, w)
}

// ChangeAccountKey replaces an account's key (RFC 8555, section 7.3.5). It is
// fault.Conflict if another account of the endpoint has the new key, or if the
// account no longer has the old one.
func (s *Store) ChangeAccountKey(ctx context.Context, id, oldThumbprint, newThumbprint string, newJWK []byte, ev Event) error {
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
