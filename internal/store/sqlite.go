package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// readers bounds the pool of SQLite readers: each has its own page cache.
const readers = 8

// sqlite is the engine over one file: one connection writes, a pool reads what
// is committed (WAL). Statements are prepared once for each connection.
type sqlite struct {
	path   string
	reader *sql.DB
	writer *sql.DB

	cached sync.Map // SQL text to *sql.Stmt of reader

	// The committer alone uses what follows.
	conn     *sql.Conn
	prepared map[string]*sql.Stmt
}

func openSQLite(ctx context.Context, path string) (*sqlite, error) {
	if path == "" {
		return nil, errors.New("database: sqlite: needs a path")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("database: sqlite path: %w", err)
	}
	// SQLite gives its -wal and -shm files the mode of this one.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	e := &sqlite{path: path}
	if e.writer, err = sql.Open("sqlite", dsn(path, "_txlock", "immediate")); err != nil {
		return nil, fmt.Errorf("database: open sqlite file: %w", err)
	}
	e.writer.SetMaxOpenConns(1)
	if err := e.connect(ctx); err != nil {
		_ = e.writer.Close() // the first error tells
		return nil, fmt.Errorf("database: open sqlite file %s: %w", path, err)
	}
	if e.reader, err = sql.Open("sqlite", dsn(path, "_pragma", "query_only(1)")); err != nil {
		return nil, fmt.Errorf("database: open sqlite file: %w", err)
	}
	e.reader.SetMaxOpenConns(readers)
	e.reader.SetMaxIdleConns(readers)
	return e, nil
}

func dsn(path, key, value string) string {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	q.Add(key, value)
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// connect gives the committer a fresh connection.
func (e *sqlite) connect(ctx context.Context) error {
	if e.conn != nil {
		_ = e.conn.Close() // it is broken, or the store is being closed
	}
	conn, err := e.writer.Conn(ctx)
	if err != nil {
		e.conn = nil
		return err
	}
	e.conn, e.prepared = conn, map[string]*sql.Stmt{}
	return nil
}

func (e *sqlite) close() error {
	err := e.reader.Close()
	if e.conn != nil {
		err = errors.Join(err, e.conn.Close())
	}
	return errors.Join(err, e.writer.Close())
}

func (e *sqlite) read(ctx context.Context, queries ...query) error {
	for _, q := range queries {
		if err := e.readOne(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// readOne runs without its caller's context, as sqliteTx does.
func (e *sqlite) readOne(ctx context.Context, q query) error {
	ctx = context.WithoutCancel(ctx)
	st, ok := e.cached.Load(q.sql)
	if !ok {
		fresh, err := e.reader.PrepareContext(ctx, q.sql)
		if err != nil {
			return err
		}
		var raced bool
		if st, raced = e.cached.LoadOrStore(q.sql, fresh); raced {
			_ = fresh.Close() // the other one stays
		}
	}
	rows, err := st.(*sql.Stmt).QueryContext(ctx, integers(q.args)...)
	if err != nil {
		return err
	}
	return eachSQLite(rows, q.each)
}

func (e *sqlite) snapshot(ctx context.Context, queries ...query) (err error) {
	tx, err := e.reader.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	for _, q := range queries {
		rows, err := tx.QueryContext(ctx, q.sql, integers(q.args)...)
		if err != nil {
			return err
		}
		if err := eachSQLite(rows, q.each); err != nil {
			return err
		}
	}
	return nil
}

func eachSQLite(rows *sql.Rows, each func(scanFunc) error) error {
	defer rows.Close()
	scan := func(dest ...any) error { return rows.Scan(decodeAll(dest)...) }
	for rows.Next() {
		if err := each(scan); err != nil {
			return rowError{err}
		}
	}
	return rows.Err()
}

// integers encodes arguments for SQLite, where times are microseconds.
func integers(args []any) []any {
	out := encodeAll(args)
	for i, a := range out {
		switch v := a.(type) {
		case interface{ UnixMicro() int64 }:
			out[i] = v.UnixMicro()
		case bool:
			out[i] = int64(0)
			if v {
				out[i] = int64(1)
			}
		}
	}
	return out
}

// gather: a commit writes every page that it touched and waits for the disk.
// Under load, two milliseconds halve the number of commits, and with them the
// store's share of the CPU; each caller has its answer sooner than without.
func (e *sqlite) gather() time.Duration { return 2 * time.Millisecond }

// share is nothing: the committer is the only writer.
func (*sqlite) share(string) string { return "" }

func (e *sqlite) begin(ctx context.Context) (txn, error) {
	if e.conn == nil {
		if err := e.connect(ctx); err != nil {
			return nil, err
		}
	}
	return &sqliteTx{e: e}, nil
}

// sqliteTx runs without its callers' contexts: the file is local, busy_timeout
// bounds the wait for another process, and a context would cost a goroutine for
// each statement.
type sqliteTx struct {
	e    *sqlite
	open bool
}

func (t *sqliteTx) run(_ context.Context, stmts []*stmt) error {
	if !t.open {
		if err := t.exec(&stmt{sql: "BEGIN IMMEDIATE"}); err != nil {
			return err
		}
		t.open = true
	}
	for _, st := range stmts {
		if err := t.exec(st); err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTx) commit(ctx context.Context, stmts []*stmt) error {
	if err := t.run(ctx, stmts); err != nil {
		return err
	}
	if err := t.exec(&stmt{sql: "COMMIT"}); err != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	t.open = false
	return nil
}

func (t *sqliteTx) rollback() {
	if !t.open {
		return
	}
	t.open = false
	// SQLite rolls back by itself after some errors, and then has nothing to roll
	// back; a fresh connection is right in that case as in every other.
	if err := t.exec(&stmt{sql: "ROLLBACK"}); err != nil {
		_ = t.e.connect(context.Background()) // or at the next begin
	}
}

func (t *sqliteTx) exec(st *stmt) error {
	ctx := context.Background()
	prepared, ok := t.e.prepared[st.sql]
	if !ok {
		var err error
		if prepared, err = t.e.conn.PrepareContext(ctx, st.sql); err != nil {
			return err
		}
		t.e.prepared[st.sql] = prepared
	}
	if st.out == nil {
		res, err := prepared.ExecContext(ctx, integers(st.args)...)
		if err != nil {
			return err
		}
		st.n, err = res.RowsAffected()
		return err
	}
	rows, err := prepared.QueryContext(ctx, integers(st.args)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for st.n = 0; rows.Next(); st.n++ {
		if st.n == 0 {
			if err := rows.Scan(decodeAll(st.out)...); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}
