package store_test

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// wantOurs wants an error that is logged and never told, and that clients are not asked
// to repeat.
func wantOurs(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !fault.Is(err, fault.Internal) || fault.Of(err).RetryAfter != 0 {
		t.Errorf("%s: %v, want a fault of ours", what, err)
	}
}

func wantRefused(t *testing.T, what string, err error, by string) {
	t.Helper()
	if !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "database_refused" ||
		!strings.Contains(fault.Of(err).Detail, by) {
		t.Errorf("%s: %v, want it refused: %s", what, err, by)
	}
}

// TestFT11_OurFaults: a database that answers is not away. What it says is in the log.
func TestFT11_OurFaults(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		storetest.Exec(t, url, `ALTER TABLE accounts RENAME COLUMN contact TO contacts`)
		_, err := s.Account(ctx, a.ID)
		wantOurs(t, "a column that is not there", err)
		wantOurs(t, "a write to it", s.UpdateAccount(ctx, a.ID, &[]string{"mailto:a@b.test"}, false, event("x")))
		storetest.Exec(t, url, `ALTER TABLE accounts RENAME COLUMN contacts TO contact`)
		_, err = s.Account(ctx, a.ID)
		noErr(t, err)
		storetest.Exec(t, url, `UPDATE accounts SET contact = 'no JSON'`)
		_, err = s.Account(ctx, a.ID)
		wantOurs(t, "a row of another shape", err)
		noErr(t, s.Ping(ctx))
	})
}

// TestFT11_ATriggerRefuses: what an administrator forbids is refused, by name.
func TestFT11_ATriggerRefuses(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		refuse(t, url, "audit_events", "NEW.seq > 0")
		wantRefused(t, "trigger", s.AppendAudit(context.Background(), event("x")), "a trigger of its administrator")
	})
}

// TestFT11_PostgresRefuses takes from the server's user what it had when it started.
func TestFT11_PostgresRefuses(t *testing.T) {
	t.Parallel()
	ctx, cluster := context.Background(), storetest.Start(t)
	admin := cluster.URL("postgres")
	noErr(t, storetest.Open(t, admin, "admin").Migrate(ctx))
	storetest.Exec(t, admin, `CREATE ROLE app LOGIN`, `GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	s := storetest.Open(t, asUser(t, admin, "app"), "node-1")
	noErr(t, s.AppendAudit(ctx, event("x")))
	storetest.Exec(t, admin, `REVOKE INSERT ON audit_events FROM app`)
	wantRefused(t, "privilege", s.AppendAudit(ctx, event("x")),
		"the configured user lacks a privilege (SQLSTATE 42501)")
	storetest.Exec(t, admin, `GRANT INSERT ON audit_events TO app`,
		`ALTER ROLE app SET default_transaction_read_only = on`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`)
	wantRefused(t, "replica", s.AppendAudit(ctx, event("x")), "it is read-only")
	storetest.Exec(t, admin, `ALTER ROLE app NOLOGIN`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`)
	wantRefused(t, "user", s.AppendAudit(ctx, event("x")), "it does not let the configured user in (SQLSTATE 28000)")
	wantRefused(t, "ping", s.Ping(ctx), "it does not let the configured user in")
	storetest.Exec(t, admin, `ALTER ROLE app LOGIN`, `ALTER ROLE app RESET default_transaction_read_only`)
	noErr(t, s.AppendAudit(ctx, event("x")))
	noErr(t, cluster.Stop())
	if err := s.Ping(ctx); !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "" {
		t.Errorf("stopped: %v, want that it does not answer", err)
	}
	noErr(t, cluster.Start())
}

func asUser(t *testing.T, dsn, user string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	noErr(t, err)
	q := u.Query()
	q.Set("user", user)
	u.RawQuery = q.Encode()
	return u.String()
}

// TestFT11_ADamagedFile: a SQLite file that was overwritten is refused in those words.
func TestFT11_ADamagedFile(t *testing.T) {
	t.Parallel()
	file := storetest.SQLiteURL(t)
	s, err := store.Open(context.Background(), store.Config{URL: file, Node: "node-1"})
	noErr(t, err)
	noErr(t, s.Close())
	path := strings.TrimPrefix(file, "sqlite:")
	noErr(t, os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600))
	_, err = store.Open(context.Background(), store.Config{URL: file, Node: "node-1"})
	if err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("opened: %v", err)
	}
}
