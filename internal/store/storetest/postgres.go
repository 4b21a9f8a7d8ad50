package storetest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/privyseal/privyseal/internal/store"
)

// server is the PostgreSQL server that all tests of a binary share.
var server struct {
	once     sync.Once
	cluster  *Cluster // kept reachable: a collected Cluster closes its pipe, and the server stops
	admin    string   // URL of the database "postgres"
	template string   // migrated database to copy; empty on a server that is not ours
	err      error

	mu   sync.Mutex // one copy of the template at a time
	next int
}

// PostgresURL returns the URL of a new, migrated database, which is dropped
// after the test.
func PostgresURL(t testing.TB) string {
	t.Helper()
	server.once.Do(startServer)
	if server.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(server.err)
		}
		t.Skip(server.err)
	}
	dsn, err := newDatabase(t)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// Start returns a server for one test alone, which may stop and start it. It
// waits for its disk, as in production.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c, err := StartCluster(true)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(c.Close)
	return c
}

func startServer() {
	if dsn := os.Getenv("PRIVYSEAL_TEST_POSTGRES"); dsn != "" {
		server.admin = dsn
		return
	}
	var err error
	if server.cluster, err = StartCluster(false); err == nil {
		server.admin = server.cluster.URL("postgres")
	} else if server.admin, server.err = startContainer(err); server.err != nil {
		return
	}
	server.template = "privyseal_template"
	server.err = makeTemplate()
}

func makeTemplate() error {
	ctx := context.Background()
	if err := admin(ctx, "CREATE DATABASE "+server.template); err != nil {
		return err
	}
	return migrate(ctx, database(server.template))
}

func migrate(ctx context.Context, dsn string) error {
	s, err := store.Open(ctx, store.Config{URL: dsn, Node: "storetest"})
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	return s.Close()
}

func newDatabase(t testing.TB) (string, error) {
	ctx := context.Background()
	server.mu.Lock()
	defer server.mu.Unlock()
	server.next++
	name := fmt.Sprintf("privyseal_%d_%d", os.Getpid(), server.next)
	create := "CREATE DATABASE " + name
	if server.template != "" {
		create += " TEMPLATE " + server.template
	}
	if err := admin(ctx, create); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := admin(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	if server.template != "" {
		return database(name), nil
	}
	return database(name), migrate(ctx, database(name))
}

// admin executes one statement as the server's administrator.
func admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, server.admin)
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// database returns the administrator's URL with another database.
func database(name string) string {
	u, err := url.Parse(server.admin)
	if err != nil {
		return server.admin // Connect has reported it
	}
	u.Path = "/" + name
	return u.String()
}
