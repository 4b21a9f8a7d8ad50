package store

import "context"

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
