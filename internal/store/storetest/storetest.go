// Package storetest gives tests a migrated store of their own, on SQLite and on
// a real PostgreSQL server. Only tests import it.
//
// PostgreSQL is sought in this order: the server that PRIVYSEAL_TEST_POSTGRES
// names, whose user must be allowed to create databases; local binaries, run as
// the user postgres when the test runs as root; a container where a Docker engine
// answers. If there is none the test is skipped, or fails when CI=true.
package storetest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/privyseal/privyseal/internal/store"
)

// Each runs a test on both engines, as subtests "sqlite" and "postgres".
func Each(t *testing.T, run func(t *testing.T, s *store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { run(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { run(t, Postgres(t)) })
}

// SQLite returns a migrated store on a new file.
func SQLite(t testing.TB) *store.Store {
	t.Helper()
	s := Open(t, SQLiteURL(t), "node-1")
	if err := s.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s
}

// SQLiteURL returns the URL of a new file in the test's temporary folder.
func SQLiteURL(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "privyseal.db")
}

// Postgres returns a store on a new, migrated database.
func Postgres(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, PostgresURL(t), "node-1")
}

// Open opens a store under a node's name and closes it after the test.
func Open(t testing.TB, url, node string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), store.Config{URL: url, Node: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
