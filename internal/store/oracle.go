package store

import (
	"context"
	"time"
)

// DanglingOrigins returns up to limit origins that point to no certificate that
// is reserved or issued. There are none unless the database was changed by hand
// or a write was torn.
func (s *Store) DanglingOrigins(ctx context.Context, limit int) ([]string, error) {
	var origins []string
	err := s.query(ctx, "read dangling origins", `SELECT o.origin FROM origins o
		LEFT JOIN certificates c ON c.id = o.certificate_id AND c.status IN ('reserved', 'issued')
		WHERE c.id IS NULL ORDER BY o.origin LIMIT $1`, []any{limit}, func(scan scanFunc) error {
		var origin string
		defer func() { origins = append(origins, origin) }()
		return scan(&origin)
	})
	return origins, err
}

// CountOrders returns how many orders are on record.
func (s *Store) CountOrders(ctx context.Context) (int, error) {
	var n int64
	err := s.queryRow(ctx, "count orders", `SELECT COUNT(*) FROM orders`, nil, &n)
	return int(n), err
}

// StrandedOrders returns ids of up to limit orders that wait for a person but
// have no request that a person could decide, and of those that were approved
// before the given time and are not resumed.
func (s *Store) StrandedOrders(ctx context.Context, now, approvedBefore time.Time, limit int) ([]string, error) {
	var ids []string
	err := s.query(ctx, "read stranded orders", `SELECT o.id FROM orders o LEFT JOIN requests q
		ON q.origin = 'order:' || o.id
		WHERE o.status = 'waiting' AND o.expires > $1 AND (q.id IS NULL OR q.status = 'approved'
		AND q.consumed_at IS NULL AND q.decided_at < $2)
		ORDER BY o.id LIMIT $3`, []any{now, approvedBefore, limit}, func(scan scanFunc) error {
		var id string
		defer func() { ids = append(ids, id) }()
		return scan(&id)
	})
	return ids, err
}
