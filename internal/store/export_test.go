package store

import (
	"context"
	"strings"
)

// Plan returns how the database answers a search, a step a line.
func (s *Store) Plan(ctx context.Context, q Search) (string, error) {
	where, args := q.page()
	explain, before := "EXPLAIN ", 0 // columns before the text
	if _, ok := s.engine.(*sqlite); ok {
		explain, before = "EXPLAIN QUERY PLAN ", 3
	}
	var lines []string
	each := func(scan scanFunc) error {
		var line string
		into := append([]any{new(int), new(int), new(int)}[:before], &line)
		err := scan(into...)
		lines = append(lines, line)
		return err
	}
	err := s.query(ctx, "explain", explain+certificates.query+where, s.planned(args), each)
	return strings.Join(lines, "\n"), err
}
