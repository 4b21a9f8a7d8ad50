package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/migrations"
)

// TestSchemaDrift compares what the two sets of migrations make of a database:
// tables, columns and what may be NULL.
func TestSchemaDrift(t *testing.T) {
	ctx := context.Background()
	lite, pg := storetest.SQLiteURL(t), storetest.PostgresURL(t)
	noErr(t, storetest.Open(t, lite, "n").Migrate(ctx))
	columns := func(driver, dsn, query string) []string {
		db, err := sql.Open(driver, dsn)
		noErr(t, err)
		defer db.Close()
		rows, err := db.QueryContext(ctx, query)
		noErr(t, err)
		defer rows.Close()
		var all []string
		for rows.Next() {
			var table, column string
			var null bool
			noErr(t, rows.Scan(&table, &column, &null))
			if table == "nonces" || strings.HasPrefix(table, "goose_") || strings.HasPrefix(table, "sqlite_") {
				continue // nonces are in memory on SQLite; the others are not ours
			}
			all = append(all, fmt.Sprintf("%s.%s null=%t", table, column, null))
		}
		noErr(t, rows.Err())
		return all
	}
	fromSQLite := columns("sqlite", strings.TrimPrefix(lite, "sqlite:"), `SELECT m.name, c.name, c."notnull" = 0
		FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid`)
	fromPostgres := columns("pgx", pg, `SELECT table_name, column_name, is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = 'public' ORDER BY table_name COLLATE "C", ordinal_position`)
	if diff := cmp.Diff(fromPostgres, fromSQLite); diff != "" || len(fromSQLite) < 100 {
		t.Errorf("%d columns; schemas differ (-postgres +sqlite):\n%s", len(fromSQLite), diff)
	}
	names := func(files fs.FS, folder string) []string {
		found, err := fs.Glob(files, folder+"/*.sql")
		noErr(t, err)
		for i := range found {
			found[i] = filepath.Base(found[i])
		}
		return found
	}
	if diff := cmp.Diff(names(migrations.Postgres, "postgres"), names(migrations.SQLite, "sqlite")); diff != "" {
		t.Errorf("migrations differ (-postgres +sqlite):\n%s", diff)
	}
}

func TestMigrateAtOnceOnSeveralNodes(t *testing.T) {
	nodes(t, func(t *testing.T, one, two *store.Store) {
		var all sync.WaitGroup
		for range 3 {
			for _, s := range []*store.Store{one, two} {
				all.Go(func() {
					if err := s.Migrate(context.Background()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		noErr(t, two.CheckSchema(context.Background()))
	})
}

func TestCheckSchema(t *testing.T) {
	ctx := context.Background()
	empty := storetest.Open(t, storetest.SQLiteURL(t), "n")
	if err := empty.CheckSchema(ctx); err == nil || !strings.Contains(err.Error(), "run privyseal migrate") {
		t.Errorf("empty schema: %v", err)
	}
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		noErr(t, s.CheckSchema(ctx))
		applied := map[string]string{"sqlite": "1", "postgres": "true"}[t.Name()[strings.LastIndex(t.Name(), "/")+1:]]
		storetest.Exec(t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, `+applied+`)`)
		if err := s.CheckSchema(ctx); err == nil || !strings.Contains(err.Error(), "newer release") {
			t.Errorf("newer schema without a mark: %v", err)
		}
		storetest.Exec(t, url, `INSERT INTO schema_marks (version, readable_by) VALUES (99, 98)`)
		if err := s.CheckSchema(ctx); err == nil || !strings.Contains(err.Error(), "newer release") {
			t.Errorf("newer schema that needs a newer binary: %v", err)
		}
		storetest.Exec(t, url, `UPDATE schema_marks SET readable_by = 1 WHERE version = 99`)
		noErr(t, s.CheckSchema(ctx))
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	cases := map[string][]string{ // URL to what the error must name
		"mysql://x":                            {"want sqlite:PATH or postgres://"},
		"":                                     {"want sqlite:PATH or postgres://"},
		"sqlite:":                              {"needs a path"},
		"sqlite:" + folder + "/no/such/x.db":   {"no such file"},
		"sqlite:" + folder:                     {"is a directory"},
		"postgres://u:hunter2@127.0.0.1:1/db":  {"cannot connect to 127.0.0.1:1", "refused"},
		"postgres://u:hunter2@127.0.0.1:x/db":  {"postgres URL is wrong"},
		"postgres://u:hun%zzter2@127.0.0.1/db": {"postgres URL is wrong"},
		"postgres://u:hunter2@127.0.0.1/d?sslmode=x": {"postgres URL is wrong", "sslmode"},
		"postgres://u:hunter2@/db?host=/no/such":     {"/no/such"},
	}
	pg := storetest.PostgresURL(t)
	cases[strings.Replace(pg, "/privyseal_", "/no_such_", 1)] = []string{`no database "no_such_`}
	cases[strings.Replace(pg, "user=postgres", "user=nobody&password=hunter2", 1)] = []string{`role "nobody" does not exist`}
	for url, wants := range cases {
		s, err := store.Open(context.Background(), store.Config{URL: url, Node: "n"})
		if err == nil {
			t.Errorf("%s: opened", url)
			noErr(t, s.Close())
			continue
		}
		for _, want := range append(wants, "database") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: want %q in it", url, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "hun%zz") {
			t.Errorf("%s: the error holds the password: %v", url, err)
		}
	}
	if _, err := store.Open(context.Background(), store.Config{URL: storetest.SQLiteURL(t)}); err == nil {
		t.Error("opened without a node's name")
	}
}

func TestSQLiteFilesAreNotForOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a %41 ? #.db") // every character of a path is only a character
	s := storetest.Open(t, "sqlite:"+path, "n")
	noErr(t, s.Migrate(context.Background()))
	noErr(t, s.AppendAudit(context.Background(), event("x")))
	found, err := filepath.Glob(filepath.Dir(path) + "/*")
	noErr(t, err)
	if len(found) != 3 {
		t.Errorf("files %v, want the database and its two companions", found)
	}
	for _, file := range found {
		info, err := os.Stat(file)
		noErr(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", file, info.Mode().Perm())
		}
	}
}
