package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// engine is a database as the queries see it. Both engines take the same text:
// $1 placeholders in order of first use, ON CONFLICT, RETURNING, and no function
// that only one of them has.
type engine interface {
	// read runs queries in one round trip and hands their rows to their each.
	read(ctx context.Context, queries ...query) error
	// snapshot runs queries one after the other on one state of the database, and
	// lets them take as long as they need.
	snapshot(ctx context.Context, queries ...query) error
	// gather is how long the committer waits for more writes after a batch that
	// several shared: longer than it takes a caller to come back, where a commit
	// costs more than that wait; zero where a commit itself takes long enough.
	gather() time.Duration
	// begin opens a write transaction. Only the committer calls it.
	begin(ctx context.Context) (txn, error)
	// share ends a SELECT whose rows of the given tables no other transaction may
	// change before this one commits; empty where there is one writer only.
	share(tables string) string
	// announcement tells other nodes that this transaction raised revocation
	// sequences; nil where there are none.
	announcement() *stmt
	close() error
}

// txn is a write transaction. After an error it can only be rolled back.
type txn interface {
	// run executes statements in one round trip and fills in their results.
	run(ctx context.Context, stmts []*stmt) error
	// commit executes statements and commits in the same round trip. An error is
	// errUnknown when the commit may have happened.
	commit(ctx context.Context, stmts []*stmt) error
	rollback()
}

// query is one SELECT; each is called for every row.
type query struct {
	sql  string
	args []any
	each func(scan scanFunc) error
}

type scanFunc func(dest ...any) error

// stmt is one statement of a write. need is the number of rows that it must
// touch for the write to win: none for statements that may touch any number.
type stmt struct {
	sql  string
	args []any
	need int64
	out  []any // destinations of RETURNING or of a SELECT, filled from the first row
	n    int64 // rows touched
	read bool  // it is a SELECT, which touches nothing
}

const anyRows = -1

// must returns a statement that has to touch exactly one row.
func must(sql string, args ...any) *stmt { return &stmt{sql: sql, args: args, need: 1} }

// may returns a statement that may touch any number of rows.
func may(sql string, args ...any) *stmt { return &stmt{sql: sql, args: args, need: anyRows} }

// reads marks a statement as one that looks and writes nothing.
func (st *stmt) reads(out ...any) *stmt {
	st.read, st.out = true, out
	return st
}

// returning sets where the statement's RETURNING columns go.
func (st *stmt) returning(out ...any) *stmt {
	st.out = out
	return st
}

// queryRow reads one row, or returns ErrNotFound.
func (s *Store) queryRow(ctx context.Context, what, sql string, args []any, dest ...any) error {
	found := false
	err := s.query(ctx, what, sql, args, func(scan scanFunc) error {
		found = true
		return scan(dest...)
	})
	if err == nil && !found {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return err
}

// query reads rows.
func (s *Store) query(ctx context.Context, what, sql string, args []any, each func(scan scanFunc) error) error {
	if err := s.engine.read(ctx, query{sql, args, each}); err != nil {
		return failed(what, err)
	}
	return nil
}

// multi returns an insert of rows with the given prefix, such as "INSERT INTO t
// (a, b)", cut into statements of 64, 32, 16 … rows, so that the number of
// different texts, and of prepared statements, stays small.
func multi(prefix string, rows [][]any) []*stmt {
	var out []*stmt
	for size := 64; size > 0; size /= 2 {
		for len(rows) >= size {
			out = append(out, multiRow(prefix, rows[:size]))
			rows = rows[size:]
		}
	}
	return out
}

func multiRow(prefix string, rows [][]any) *stmt {
	var sql strings.Builder
	sql.WriteString(prefix)
	sql.WriteString(" VALUES ")
	args := make([]any, 0, len(rows)*len(rows[0]))
	for i, row := range rows {
		if i > 0 {
			sql.WriteString(", ")
		}
		for j, v := range row {
			args = append(args, v)
			if j == 0 {
				sql.WriteByte('(')
			} else {
				sql.WriteString(", ")
			}
			fmt.Fprintf(&sql, "$%d", len(args))
		}
		sql.WriteByte(')')
	}
	return may(sql.String(), args...)
}

// list returns "($n, $n+1, …)" for values that follow the arguments in args,
// and the arguments with them. SQLite and PostgreSQL both take it after IN.
func list[T any](args []any, values []T) (string, []any) {
	var sql strings.Builder
	for i, v := range values {
		args = append(args, v)
		if i > 0 {
			sql.WriteString(", ")
		}
		fmt.Fprintf(&sql, "$%d", len(args))
	}
	return "(" + sql.String() + ")", args
}

// micros cuts a time to what both engines keep.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// encode turns an argument into what drivers take: times cut to microseconds,
// JSON and lists as text, absent values as NULL.
func encode(arg any) any {
	switch v := arg.(type) {
	case time.Time:
		return micros(v)
	case *time.Time:
		if v == nil {
			return nil
		}
		return micros(*v)
	case json.RawMessage:
		if v == nil {
			return nil
		}
		return string(v)
	case []byte:
		if v == nil {
			return nil
		}
		return v
	case pki.Serial:
		return string(v)
	case pki.IdentifierType:
		return string(v)
	case pki.Reason:
		return int64(v)
	case int:
		return int64(v)
	default:
		return arg
	}
}

func encodeAll(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = encode(a)
	}
	return out
}

// destination wraps a Go value that a driver cannot fill by itself.
type destination struct{ to any }

// Scan implements sql.Scanner, which both drivers honour.
func (d destination) Scan(src any) error {
	switch to := d.to.(type) {
	case *time.Time:
		t, err := asTime(src)
		*to = t
		return err
	case **time.Time:
		if src == nil {
			*to = nil
			return nil
		}
		t, err := asTime(src)
		*to = &t
		return err
	case *json.RawMessage:
		switch v := src.(type) {
		case nil:
			*to = nil
		case string:
			*to = json.RawMessage(v)
		case []byte:
			*to = append(json.RawMessage{}, v...)
		default:
			return fmt.Errorf("scan JSON: got %T", src)
		}
		return nil
	default:
		return fmt.Errorf("scan: no way from %T to %T", src, d.to)
	}
}

func asTime(src any) (time.Time, error) {
	switch v := src.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v.UTC(), nil
	case int64:
		return time.UnixMicro(v).UTC(), nil
	default:
		return time.Time{}, fmt.Errorf("scan time: got %T", src)
	}
}

func decodeAll(dest []any) []any {
	out := make([]any, len(dest))
	for i, d := range dest {
		switch d.(type) {
		case *time.Time, **time.Time, *json.RawMessage:
			out[i] = destination{d}
		default:
			out[i] = d
		}
	}
	return out
}

// asJSON encodes lists that are kept as one column; they hold plain strings and
// identifiers, which cannot fail to encode. An absent list is an empty one.
func asJSON[T any](list []T) json.RawMessage {
	if list == nil {
		list = []T{}
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic(fmt.Sprintf("store: encode a list of %T: %v", list, err))
	}
	return b
}

// fromJSON decodes what asJSON encoded.
func fromJSON[T any](raw json.RawMessage, into *[]T) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
