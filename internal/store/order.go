package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Order is an ACME order. Two of its states are not stored: it is valid when
// CertificateID is set, whatever Status says, and ready when it is stored as
// pending and all its authorizations are valid.
type Order struct {
	ID, AccountID     string
	Endpoint, Profile string
	Replaces          string
	InPlaceOf         string // for CreateOrder: the order that replaced the same certificate and came to nothing
	Identifiers       []pki.Identifier
	AuthorizationIDs  []string // in the order of creation
	NotBefore         *time.Time
	NotAfter          *time.Time
	Status            string // stored: "pending", "processing", "waiting" (for a person) or "invalid"
	Error             json.RawMessage
	CSR               []byte
	Node              string // that finalizes it
	Expires           time.Time
	CreatedAt         time.Time
	ProcessingAt      *time.Time
	CertificateID     string        // issued under the origin "order:<id>"
	Approval          RequestStatus // status of the request for approval while the order waits; empty if that is gone
	ApprovalReason    string        // of the person who decided
}

var orders = table[Order]{
	name: "orders", alias: "o",
	columns: []column[Order]{
		col("id", func(r *Order) *string { return &r.ID }),
		col("account_id", func(r *Order) *string { return &r.AccountID }),
		col("endpoint", func(r *Order) *string { return &r.Endpoint }),
		col("profile", func(r *Order) *string { return &r.Profile }),
		col("replaces", func(r *Order) *string { return &r.Replaces }),
		listCol("identifiers", func(r *Order) *[]pki.Identifier { return &r.Identifiers }),
		col("not_before", func(r *Order) **time.Time { return &r.NotBefore }),
		col("not_after", func(r *Order) **time.Time { return &r.NotAfter }),
		col("status", func(r *Order) *string { return &r.Status }),
		col("error", func(r *Order) *json.RawMessage { return &r.Error }),
		col("csr", func(r *Order) *[]byte { return &r.CSR }),
		col("node", func(r *Order) *string { return &r.Node }),
		col("expires", func(r *Order) *time.Time { return &r.Expires }),
		col("created_at", func(r *Order) *time.Time { return &r.CreatedAt }),
		col("processing_at", func(r *Order) **time.Time { return &r.ProcessingAt }),
		computed("COALESCE(c.id, '')", func(r *Order) *string { return &r.CertificateID }),
		computed("COALESCE(q.status, '')", func(r *Order) *RequestStatus { return &r.Approval }),
		computed("COALESCE(q.reason, '')", func(r *Order) *string { return &r.ApprovalReason }),
	},
	joins: `LEFT JOIN origins g ON g.origin = 'order:' || o.id
		LEFT JOIN certificates c ON c.id = g.certificate_id AND c.status = 'issued'
		LEFT JOIN requests q ON o.status = 'waiting' AND q.origin = 'order:' || o.id `,
}.ready()

// CreateOrder stores an order and the authorizations that are new for it;
// o.AuthorizationIDs names those and the reused ones. It is fault.Denied if the
// account is not valid.
func (s *Store) CreateOrder(ctx context.Context, o Order, newAuthz []Authorization, ev *Event) error {
	o.CSR = nil
	args := orders.row(&o)
	w := &write{
		what: "create order",
		guards: []*stmt{must(fmt.Sprintf(`%s SELECT %s FROM accounts WHERE id = $%d AND status = 'valid'`,
			orders.insert, orders.values, len(args)+1), append(args, o.AccountID)...)},
		events: optional(ev),
		lost: func(guard int) error {
			if guard > 0 {
				return fault.New(fault.AlreadyReplaced, "another order replaces the certificate already")
			}
			return fault.New(fault.Denied, "the account is not valid")
		},
	}
	if o.Replaces != "" {
		w.guards = append(w.guards, must(`INSERT INTO replacements (replaces, order_id) VALUES ($1, $2)
			ON CONFLICT (replaces) DO UPDATE SET order_id = excluded.order_id WHERE replacements.order_id = $3`,
			o.Replaces, o.ID, o.InPlaceOf))
	}
	authz := make([][]any, len(newAuthz))
	for i := range newAuthz {
		authz[i] = authorizations.row(&newAuthz[i])
	}
	links := make([][]any, len(o.AuthorizationIDs))
	for i, id := range o.AuthorizationIDs {
		links[i] = []any{o.ID, i, id}
	}
	w.effects = append(multi(authorizations.insert, authz),
		multi(`INSERT INTO order_authorizations (order_id, position, authorization_id)`, links)...)
	return s.commit(ctx, w)
}

func optional(ev *Event) []Event {
	if ev == nil {
		return nil
	}
	return []Event{*ev}
}

// Order returns an order and its authorizations in one round trip.
func (s *Store) Order(ctx context.Context, id string) (*Order, []Authorization, error) {
	var found []Order
	var authz []Authorization
	err := s.engine.read(ctx,
		query{orders.query + `WHERE o.id = $1`, []any{id}, orders.scan(&found)},
		query{authorizations.query + `JOIN order_authorizations l ON l.authorization_id = a.id
			WHERE l.order_id = $1 ORDER BY l.position`, []any{id}, authorizations.scan(&authz)})
	if err != nil {
		return nil, nil, failed("read order", err)
	}
	o, err := one(found, "read order")
	if err != nil {
		return nil, nil, err
	}
	for _, a := range authz {
		o.AuthorizationIDs = append(o.AuthorizationIDs, a.ID)
	}
	return o, authz, nil
}

// ended holds of a pending order "o" that can never become ready as of $2: its
// time is over, or that of one of its authorizations, which may also have ended
// otherwise (RFC 8555, section 7.1.6).
const ended = `(o.expires <= $2 OR EXISTS (SELECT 1 FROM order_authorizations l
	LEFT JOIN authorizations a ON a.id = l.authorization_id
	WHERE l.order_id = o.id AND (a.id IS NULL OR a.status NOT IN ('pending', 'valid') OR a.expires <= $2)))`

// certified holds of an order "o" that has its certificate.
const certified = `EXISTS (SELECT 1 FROM origins g JOIN certificates c ON c.id = g.certificate_id
	WHERE g.origin = 'order:' || o.id AND c.status = 'issued')`

// OrdersByAccount returns ids of an account's orders after the given one, oldest
// first, without those that are invalid by now (RFC 8555, section 7.1.2.1).
func (s *Store) OrdersByAccount(
	ctx context.Context, accountID, after string, now time.Time, limit int,
) ([]string, error) {
	var ids []string
	err := s.query(ctx, "list orders", `SELECT o.id FROM orders o WHERE o.account_id = $1 AND (
			o.status = 'processing' OR o.status = 'pending' AND NOT `+ended+`
			OR `+certified+`
			OR o.status = 'waiting' AND EXISTS (SELECT 1 FROM requests q
				WHERE q.origin = 'order:' || o.id AND q.status IN ('pending', 'approved')))
		AND o.id > $3 ORDER BY o.id LIMIT $4`, []any{accountID, now, after, limit}, scanIDs(&ids))
	return ids, err
}

// Replacement returns the order that replaces a certificate (RFC 9773), ErrNotFound
// if none does.
func (s *Store) Replacement(ctx context.Context, replaces string) (string, error) {
	var id string
	err := s.queryRow(ctx, "read replacement", `SELECT order_id FROM replacements WHERE replaces = $1`,
		[]any{replaces}, &id)
	return id, err
}

// Pending is what an account has under way.
type Pending struct {
	Orders, Authorizations int
	// OrdersUntil and AuthorizationsUntil are when the first of them ends by itself;
	// nil if there is none.
	OrdersUntil, AuthorizationsUntil *time.Time
}

// CountPending counts an account's orders that are pending and may still become
// ready, and the pending authorizations that such orders wait for.
func (s *Store) CountPending(ctx context.Context, accountID string, now time.Time) (Pending, error) {
	var p Pending
	const orders = `FROM orders o WHERE o.account_id = $1 AND o.status = 'pending' AND NOT ` + ended
	const authorizations = `FROM authorizations z
		WHERE z.account_id = $1 AND z.status = 'pending' AND z.expires > $2 AND EXISTS
		(SELECT 1 FROM order_authorizations m JOIN orders o ON o.id = m.order_id
		WHERE m.authorization_id = z.id AND o.status = 'pending' AND NOT ` + ended + `)`
	err := s.engine.read(ctx,
		query{`SELECT COUNT(*), MIN(o.expires) ` + orders, []any{accountID, now},
			func(scan scanFunc) error { return scan(&p.Orders, &p.OrdersUntil) }},
		query{`SELECT COUNT(*), MIN(z.expires) ` + authorizations, []any{accountID, now},
			func(scan scanFunc) error { return scan(&p.Authorizations, &p.AuthorizationsUntil) }})
	if err != nil {
		return p, failed("count pending orders", err)
	}
	return p, nil
}

// StartFinalize stores the CSR and moves an order from pending to processing if
// all its authorizations are valid and neither they nor it have expired;
// otherwise it is fault.NotReady.
func (s *Store) StartFinalize(ctx context.Context, orderID string, csr []byte, node string, at time.Time) error {
	return s.commit(ctx, &write{
		what: "start finalize",
		guards: []*stmt{must(`UPDATE orders SET status = 'processing', csr = $1, node = $2, processing_at = $3
			WHERE id = $4 AND status = 'pending' AND expires > $3
			AND EXISTS (SELECT 1 FROM order_authorizations l WHERE l.order_id = orders.id)
			AND NOT EXISTS (SELECT 1 FROM order_authorizations l LEFT JOIN authorizations a ON a.id = l.authorization_id
				WHERE l.order_id = orders.id AND (a.id IS NULL OR a.status <> 'valid' OR a.expires <= $3))`,
			csr, node, at, orderID)},
		lost: func(int) error { return fault.New(fault.NotReady, "the order is not ready") },
	})
}

// FailOrder makes an order invalid, unless it has its certificate; that, and one
// that is invalid already, is fault.Conflict.
func (s *Store) FailOrder(ctx context.Context, orderID string, problem json.RawMessage, ev *Event) error {
	return s.failOrder(ctx, orderID, `'pending', 'processing'`, problem, ev)
}

// EndOrder is FailOrder for an order that nobody can work on, also if it waits
// for a person.
func (s *Store) EndOrder(ctx context.Context, orderID string, problem json.RawMessage, ev *Event) error {
	return s.failOrder(ctx, orderID, `'pending', 'processing', 'waiting'`, problem, ev)
}

func (s *Store) failOrder(ctx context.Context, orderID, from string, problem json.RawMessage, ev *Event) error {
	return s.commit(ctx, &write{
		what: "fail order",
		guards: []*stmt{must(`UPDATE orders SET status = 'invalid', error = $1
			WHERE id = $2 AND status IN (`+from+`) AND NOT EXISTS
				(SELECT 1 FROM origins g JOIN certificates c ON c.id = g.certificate_id
				WHERE g.origin = 'order:' || orders.id AND c.status = 'issued')`, problem, orderID)},
		events: optional(ev),
		lost:   func(int) error { return fault.New(fault.Conflict, "the order has ended") },
	})
}

// UnfinishedOrders returns the ids of orders without a certificate that are to be
// finished: those that a node is processing, those that any node has been
// processing since before overdue, and those that a person has approved.
func (s *Store) UnfinishedOrders(
	ctx context.Context, node string, now, overdue time.Time, limit int,
) ([]string, error) {
	var ids []string
	err := s.engine.read(ctx,
		query{`SELECT o.id FROM orders o WHERE o.status = 'processing' AND o.processing_at < $1
			AND (o.processing_at < $2 OR o.node = $3) AND NOT ` + certified + `
			ORDER BY o.processing_at, o.id LIMIT $4`, []any{now, overdue, node, limit}, scanIDs(&ids)},
		query{`SELECT o.id FROM orders o JOIN requests q ON q.origin = 'order:' || o.id
			WHERE o.status = 'waiting' AND q.status = 'approved' AND NOT ` + certified + `
			ORDER BY o.id LIMIT $1`, []any{limit}, scanIDs(&ids)})
	if err != nil {
		return nil, failed("read unfinished orders", err)
	}
	return ids, nil
}

// ProcessingOrders returns orders without a certificate that a node, or any node
// if it is empty, has been finalizing since before the given time, oldest first.
func (s *Store) ProcessingOrders(ctx context.Context, node string, olderThan time.Time) ([]Order, error) {
	where := `WHERE o.status = 'processing' AND c.id IS NULL AND o.processing_at < $1`
	args := []any{olderThan}
	if node != "" {
		where += ` AND o.node = $2`
		args = append(args, node)
	}
	var found []Order
	err := s.query(ctx, "read processing orders", orders.query+where+` ORDER BY o.processing_at, o.id`, args,
		orders.scan(&found))
	return found, err
}

// TakeOrder makes node the one that finalizes a processing order. The order is
// as it was read: fault.Conflict if another node has taken it since.
func (s *Store) TakeOrder(ctx context.Context, o Order, node string, at time.Time) error {
	return s.commit(ctx, &write{
		what: "take order",
		guards: []*stmt{must(`UPDATE orders SET node = $1, processing_at = $2
			WHERE id = $3 AND status = 'processing' AND node = $4 AND processing_at = $5`, node, at, o.ID, o.Node,
			o.ProcessingAt)},
		lost: func(int) error { return fault.New(fault.Conflict, "another node has taken the order") },
	})
}

// ParkOrder lets a processing order wait for a person. Nothing works on it until
// ResumeOrder.
func (s *Store) ParkOrder(ctx context.Context, id string) error {
	return s.commit(ctx, &write{
		what:   "park order",
		guards: []*stmt{must(`UPDATE orders SET status = 'waiting' WHERE id = $1 AND status = 'processing'`, id)},
		lost:   func(int) error { return fault.New(fault.Conflict, "the order is not processing") },
	})
}

// ResumeOrder makes node the one that finalizes an approved order that waited.
// It is fault.Conflict if another node was quicker.
func (s *Store) ResumeOrder(ctx context.Context, id, node string, at time.Time) error {
	return s.commit(ctx, &write{
		what: "resume order",
		guards: []*stmt{must(`UPDATE orders SET status = 'processing', node = $1, processing_at = $2 WHERE id = $3
			AND status = 'waiting'
			AND EXISTS (SELECT 1 FROM requests q WHERE q.origin = 'order:' || orders.id AND q.status = 'approved')`,
			node, at, id)},
		lost: func(int) error { return fault.New(fault.Conflict, "another node has resumed the order") },
	})
}
