package storetest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver
	_ "modernc.org/sqlite"             // the "sqlite" driver

	"github.com/privyseal/privyseal/internal/store"
)

// EachURL is Each for tests that also need the database's URL: to open it a
// second time, or to change it behind the store's back with Exec.
func EachURL(t *testing.T, run func(t *testing.T, url string, s *store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		url := SQLiteURL(t)
		s := Open(t, url, "node-1")
		if err := s.Migrate(context.Background()); err != nil {
			t.Fatal(err)
		}
		run(t, url, s)
	})
	t.Run("postgres", func(t *testing.T) {
		url := PostgresURL(t)
		run(t, url, Open(t, url, "node-1"))
	})
}

// Exec runs statements on a database directly, as its administrator could.
func Exec(t testing.TB, url string, statements ...string) {
	t.Helper()
	db := open(t, url)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.ExecContext(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn = "sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Count runs a query that returns one number.
func Count(t testing.TB, url, query string) int {
	t.Helper()
	db := open(t, url)
	defer db.Close()
	n := 0
	if err := db.QueryRowContext(context.Background(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Lock keeps others from writing to a database until the returned function is
// called: SQLite's write lock, or a lock on PostgreSQL's audit table.
func Lock(t testing.TB, url string) (release func()) {
	t.Helper()
	ctx := context.Background()
	lock := "LOCK TABLE audit_events"
	if strings.HasPrefix(url, "sqlite:") {
		lock = "SELECT 1" // to begin is enough: see open
	}
	db := open(t, url)
	tx, err := db.BeginTx(ctx, nil)
	if err == nil {
		_, err = tx.ExecContext(ctx, lock)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}
