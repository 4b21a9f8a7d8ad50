package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// ACMEQuery chooses ACME accounts, orders or authorizations: an operator's view of them.
// Empty fields choose all.
type ACMEQuery struct {
	Account  string // id
	Endpoint string
	EABKID   string // key that the account was bound with
	Name     string // a name that the account has, or had lately, an order or authorization for; may begin with "*."
	Address  string // that the account was created from
	Status   string // what it is by now
	Now      time.Time
	After    string // id of the last one of the page before
	Limit    int    // 0 is 100
}

// ACMEOrder is an order with its authorizations, in the order of AuthorizationIDs.
type ACMEOrder struct {
	Order
	Authorizations []Authorization
}

// orderState is what an order "o" of the query of orders is by now, by the rules of
// issuance.StandingOf; %[1]s is the place of now.
var orderState = `CASE WHEN c.id IS NOT NULL THEN 'valid'
	WHEN o.status = 'processing' OR o.status = 'waiting' AND q.status IN ('pending', 'approved') THEN 'processing'
	WHEN o.status <> 'pending' OR ` + strings.ReplaceAll(ended, "$2", "%[1]s") + ` THEN 'invalid'
	WHEN EXISTS (SELECT 1 FROM order_authorizations l JOIN authorizations a ON a.id = l.authorization_id
		WHERE l.order_id = o.id AND a.status = 'pending') THEN 'pending'
	ELSE 'ready' END`

// authorizationState is Authorization.StatusAt of an authorization "a".
const authorizationState = `CASE WHEN a.status IN ('pending', 'valid') AND a.expires <= %[1]s THEN 'expired'
	ELSE a.status END`

// accounts adds the conditions on accounts "u".
func (q ACMEQuery) accounts(t *terms) {
	t.equal("u.endpoint", q.Endpoint)
	t.equal("u.eab_kid", q.EABKID)
	t.equal("u.created_from", q.Address)
	t.equal("u.id", q.Account)
}

// state adds the condition on what something is by now.
func (q ACMEQuery) state(t *terms, state string) {
	if q.Status != "" {
		t.add(state+` = %[2]s`, q.Now, q.Status)
	}
}

// named is the condition that an authorization "a" is for the name.
func (q ACMEQuery) named() (string, string) {
	name, wildcard := strings.CutPrefix(strings.ToLower(q.Name), "*.")
	if wildcard {
		return `a.identifier_value = %s AND a.wildcard`, name
	}
	return `a.identifier_value = %s`, name
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
		is, name := q.named()
		t.add(`EXISTS (SELECT 1 FROM authorizations a WHERE a.account_id = u.id AND `+is+`)`, name)
	}
	sql := accounts.query + q.page(t, "u.id")
	return found, s.query(ctx, "list accounts", sql, t.args, accounts.scan(&found))
}

// Orders returns the orders that q chooses, oldest first.
func (s *Store) Orders(ctx context.Context, q ACMEQuery) ([]ACMEOrder, error) {
	t := &terms{}
	q.accounts(t)
	q.state(t, orderState)
	if q.Name != "" {
		is, name := q.named()
		t.add(`EXISTS (SELECT 1 FROM order_authorizations l JOIN authorizations a ON a.id = l.authorization_id
			WHERE l.order_id = o.id AND `+is+`)`, name)
	}
	var found []Order
	sql := orders.query + `JOIN accounts u ON u.id = o.account_id ` + q.page(t, "o.id")
	if err := s.query(ctx, "list orders", sql, t.args, orders.scan(&found)); err != nil || len(found) == 0 {
		return nil, err
	}
	return s.withAuthorizations(ctx, found)
}

// withAuthorizations reads the authorizations of a page of orders.
func (s *Store) withAuthorizations(ctx context.Context, page []Order) ([]ACMEOrder, error) {
	out, at, ids := make([]ACMEOrder, len(page)), map[string]*ACMEOrder{}, make([]string, len(page))
	for i := range page {
		out[i].Order, ids[i] = page[i], page[i].ID
		at[page[i].ID] = &out[i]
	}
	in, args := list(nil, ids)
	const linked = `order_authorizations l WHERE l.order_id IN `
	var authzs []Authorization
	err := s.engine.read(ctx,
		query{`SELECT l.order_id, l.authorization_id FROM ` + linked + in + ` ORDER BY l.order_id, l.position`, args,
			func(scan scanFunc) error {
				var order, authz string
				err := scan(&order, &authz)
				if o := at[order]; o != nil {
					o.AuthorizationIDs = append(o.AuthorizationIDs, authz)
				}
				return err
			}},
		query{authorizations.query + `WHERE a.id IN (SELECT l.authorization_id FROM ` + linked + in + `)`, args,
			authorizations.scan(&authzs)})
	if err != nil {
		return nil, failed("read authorizations of orders", err)
	}
	byID := map[string]Authorization{}
	for _, a := range authzs {
		byID[a.ID] = a
	}
	for i := range out {
		for _, id := range out[i].AuthorizationIDs {
			if a, there := byID[id]; there {
				out[i].Authorizations = append(out[i].Authorizations, a)
			}
		}
	}
	return out, nil
}

// Authorizations returns the authorizations that q chooses, oldest first.
func (s *Store) Authorizations(ctx context.Context, q ACMEQuery) ([]Authorization, error) {
	t := &terms{}
	q.accounts(t)
	q.state(t, authorizationState)
	if q.Name != "" {
		is, name := q.named()
		t.add(is, name)
	}
	sql := `JOIN accounts u ON u.id = a.account_id ` + q.page(t, "a.id")
	return s.authorizations(ctx, sql, t.args...)
}

// CountACME counts an account's orders and authorizations by what they are by now.
func (s *Store) CountACME(
	ctx context.Context, account string, now time.Time,
) (ofOrders, ofAuthorizations map[string]int, err error) {
	ofOrders, ofAuthorizations = map[string]int{}, map[string]int{}
	count := func(into map[string]int, state, from string) query {
		return query{
			`SELECT s.state, COUNT(*) FROM (SELECT ` + fmt.Sprintf(state, "$2") + ` AS state FROM ` + from +
				`.account_id = $1) s GROUP BY s.state`, []any{account, now},
			func(scan scanFunc) error {
				var name string
				var n int
				err := scan(&name, &n)
				into[name] = n
				return err
			},
		}
	}
	err = s.engine.read(ctx, count(ofOrders, orderState, `orders o `+orders.joins+`WHERE o`),
		count(ofAuthorizations, authorizationState, `authorizations a WHERE a`))
	if err != nil {
		return nil, nil, failed("count orders of an account", err)
	}
	return ofOrders, ofAuthorizations, nil
}

// RevokeAccount ends an account for an operator (status "revoked", RFC 8555, section
// 7.1.2), and with it its authorizations and the orders that are not being finalized;
// the reservation of one that is looks at the account again. Unless block is nil, it is
// the hash of the account's key, which goes on the block list. It is fault.Conflict if
// the account is not valid (any more) or, with block, has another key by now.
func (s *Store) RevokeAccount(ctx context.Context, a *Account, block *pki.KeyHash, ev Event) error {
	end := `UPDATE accounts SET status = 'revoked' WHERE id = $1 AND status = 'valid'`
	w := &write{
		what:   "revoke account",
		guards: []*stmt{must(end, a.ID)},
		effects: []*stmt{
			may(`UPDATE authorizations SET status = 'revoked', next_attempt_at = NULL
				WHERE account_id = $1 AND status IN ('pending', 'valid')`, a.ID),
			may(`UPDATE orders SET status = 'invalid' WHERE account_id = $1 AND status = 'pending'`, a.ID),
		},
		events: []Event{ev},
		lost: func(int) error {
			return fault.New(fault.Conflict, "the account ended, or changed its key, a moment ago: look at it again").
				Because("account_changed")
		},
	}
	if block != nil {
		w.guards[0] = must(end+` AND thumbprint = $2`, a.ID, a.Thumbprint)
		w.effects = append(w.effects, blockAccountKey(*block, ev.At))
	}
	return s.commit(ctx, w)
}

// BlockAccountKey puts the key of an account that has ended on the block list.
func (s *Store) BlockAccountKey(ctx context.Context, key pki.KeyHash, ev Event) error {
	return s.commit(ctx, &write{
		what: "block account key", effects: []*stmt{blockAccountKey(key, ev.At)}, events: []Event{ev},
	})
}

// blockAccountKey blocks a key of which there need be no certificate.
func blockAccountKey(key pki.KeyHash, at time.Time) *stmt {
	return may(`INSERT INTO blocked_keys (key_hash, certificate_id, blocked_at)
		VALUES ($1, '', $2) ON CONFLICT (key_hash) DO NOTHING`, key[:], at)
}
