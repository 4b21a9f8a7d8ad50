package store

import (
	"context"
	"fmt"
	"time"
)

// SealedColumn is a column that keeps secrets sealed by package seal.
type SealedColumn struct {
	table, id, column string
	needed            string // which rows are of use at the time $1; empty is all
}

// The columns that keep sealed secrets.
var (
	// An EAB key that makes no more accounts is never opened again.
	SealedEABKeys = SealedColumn{"eab_keys", "kid", "hmac", `disabled_at IS NULL AND
		(expires_at IS NULL OR expires_at > $1) AND (max_uses = 0 OR uses < max_uses)`}
	SealedSecrets = SealedColumn{table: "secrets", id: "name", column: "sealed"}
	// MACs begin as sealed secrets do, and need their key as much.
	AccessMACs      = SealedColumn{table: "access_records", id: "id", column: "mac"}
	AccessStateMACs = SealedColumn{table: "access_state", id: "'state'", column: "mac"}
)

// Sealed is a sealed secret.
type Sealed struct {
	ID     string // of its row
	Sealed []byte
}

// SealedAgain replaces a sealed secret by the same one under another key.
type SealedAgain struct {
	ID           string
	Was, Becomes []byte
}

// SealedCount is how many secrets that are of use begin with the same octets.
type SealedCount struct {
	Head  []byte
	Rows  int
	First string // the lowest id of their rows
}

// SealedPage returns up to limit secrets of rows whose ids sort after the given one,
// in order of id.
func (s *Store) SealedPage(ctx context.Context, c SealedColumn, after string, limit int) ([]Sealed, error) {
	var page []Sealed
	sql := fmt.Sprintf(`SELECT %[1]s, %[2]s FROM %[3]s WHERE %[1]s > $1 ORDER BY %[1]s LIMIT $2`,
		c.id, c.column, c.table)
	err := s.query(ctx, "read sealed secrets", sql, []any{after, limit}, func(scan scanFunc) error {
		var row Sealed
		err := scan(&row.ID, &row.Sealed)
		page = append(page, row)
		return err
	})
	return page, err
}

// CountSealed counts the secrets that are of use by their first head octets.
func (s *Store) CountSealed(ctx context.Context, c SealedColumn, head int, now time.Time) ([]SealedCount, error) {
	var counts []SealedCount
	where, args := "", []any(nil)
	if c.needed != "" {
		where, args = "WHERE "+c.needed, []any{now}
	}
	sql := fmt.Sprintf(`SELECT substr(%s, 1, %d) AS head, COUNT(*), MIN(%s) FROM %s %s GROUP BY head ORDER BY head`,
		c.column, head, c.id, c.table, where)
	err := s.query(ctx, "count sealed secrets", sql, args, func(scan scanFunc) error {
		var n SealedCount
		err := scan(&n.Head, &n.Rows, &n.First)
		counts = append(counts, n)
		return err
	})
	return counts, err
}

// Reseal replaces secrets in one commit and returns how many it replaced: one that
// has changed since it was read stays as it is.
func (s *Store) Reseal(ctx context.Context, c SealedColumn, again []SealedAgain, ev Event) (int64, error) {
	sql := fmt.Sprintf(`UPDATE %s SET %s = $1 WHERE %s = $2 AND %[2]s = $3`, c.table, c.column, c.id)
	w := &write{what: "reseal secrets", events: []Event{ev}}
	for _, a := range again {
		w.guards = append(w.guards, may(sql, a.Becomes, a.ID, a.Was))
	}
	if err := s.commit(ctx, w); err != nil {
		return 0, err
	}
	done := int64(0)
	for _, st := range w.guards {
		done += st.n
	}
	return done, nil
}
