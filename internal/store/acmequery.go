package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// ACMEQuery chooses ACME accounts, orders or authorizations: an operator's view of them.
// Empty fields choose all.
type ACMEQuery struct {
	Account  string // id
	Endpoint string
	EABKID   string // key that the account was bound with
	Name     string // a name that the account has, or had lately, an order or authorization for
	Address  string // that the account was created from
	Status   string // of an order: what it is by now, with ready among the pending ones
	Now      time.Time
	After    string // id of the last one of the page before
	Limit    int    // 0 is 100
}

// accounts adds the conditions on accounts "u".
func (q ACMEQuery) accounts(t *terms) {
	t.equal("u.endpoint", q.Endpoint)
	t.equal("u.eab_kid", q.EABKID)
	t.equal("u.created_from", q.Address)
	t.equal("u.id", q.Account)
}

// page ends a query with the order of ids and the limit.
func (q ACMEQuery) page(t *terms, id string) string {
	if q.After != "" {
		t.add(id+` > %s`, q.After)
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	where := t.where()
	t.args = append(t.args, limit)
	return where + fmt.Sprintf(`ORDER BY %s LIMIT $%d`, id, len(t.args))
}

// Accounts returns the accounts that q chooses, oldest first.
func (s *Store) Accounts(ctx context.Context, q ACMEQuery) (found []Account, err error) {
	t := &terms{}
	q.accounts(t)
	t.equal("u.status", q.Status)
	if q.Name != "" {
		t.add(`EXISTS (SELECT 1 FROM authorizations z WHERE z.account_id = u.id AND z.identifier_value = %s)`,
			strings.ToLower(q.Name))
	}
	sql := accounts.query + q.page(t, "u.id")
	return found, s.query(ctx, "list accounts", sql, t.args, accounts.scan(&found))
}

// Orders returns the orders that q chooses, oldest first.
func (s *Store) Orders(ctx context.Context, q ACMEQuery) (found []Order, err error) {
	t := &terms{}
	q.accounts(t)
	over := strings.ReplaceAll(ended, "$2", "%[1]s")
	switch q.Status {
	case "":
	case "valid":
		t.add(`c.id IS NOT NULL`)
	case "pending":
		t.add(`c.id IS NULL AND o.status = 'pending' AND NOT `+over, q.Now)
	case "invalid":
		t.add(`c.id IS NULL AND (o.status = 'invalid' OR o.status = 'pending' AND `+over+`)`, q.Now)
	case "processing":
		t.add(`c.id IS NULL AND o.status IN ('processing', 'waiting')`)
	default:
		return nil, nil
	}
	if q.Name != "" {
		t.add(`EXISTS (SELECT 1 FROM order_authorizations l JOIN authorizations z ON z.id = l.authorization_id
			WHERE l.order_id = o.id AND z.identifier_value = %s)`, strings.ToLower(q.Name))
	}
	sql := orders.query + `JOIN accounts u ON u.id = o.account_id ` + q.page(t, "o.id")
	return found, s.query(ctx, "list orders", sql, t.args, orders.scan(&found))
}

// Authorizations returns the authorizations that q chooses, oldest first.
func (s *Store) Authorizations(ctx context.Context, q ACMEQuery) ([]Authorization, error) {
	t := &terms{}
	q.accounts(t)
	t.equal("a.status", q.Status)
	t.equal("a.identifier_value", strings.ToLower(q.Name))
	sql := `JOIN accounts u ON u.id = a.account_id ` + q.page(t, "a.id")
	return s.authorizations(ctx, sql, t.args...)
}

// RevokeAccount ends an account for an operator (status "revoked", RFC 8555, section
// 7.1.2), and with it its authorizations and the orders that are not being finalized;
// the reservation of one that is looks at the account again. It is fault.Conflict if the
// account is not valid (any more).
func (s *Store) RevokeAccount(ctx context.Context, id string, ev Event) error {
	return s.commit(ctx, &write{
		what:   "revoke account",
		guards: []*stmt{must(`UPDATE accounts SET status = 'revoked' WHERE id = $1 AND status = 'valid'`, id)},
		effects: []*stmt{
			may(`UPDATE authorizations SET status = 'revoked', next_attempt_at = NULL
				WHERE account_id = $1 AND status IN ('pending', 'valid')`, id),
			may(`UPDATE orders SET status = 'invalid' WHERE account_id = $1 AND status = 'pending'`, id),
		},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the account is not valid (any more)") },
	})
}
