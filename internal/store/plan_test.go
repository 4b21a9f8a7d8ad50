package store_test

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// certificatesOf fills a table: 30,000 rows, 10 % of them revoked, 3,000 requesters,
// and of every 1,000 one that failed and one of a rare profile.
var certificatesOf = map[string]string{
	"sqlite": `WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 30000) `,
	"pgx":    `WITH g AS (SELECT generate_series(1, 30000) AS n) `,
}

const fillCertificates = `INSERT INTO certificates (id, issuer_id, serial, status, node, profile, profile_version,
	protocol, endpoint, requester, request_id, key_hash, subject, subject_lower, names, not_before, not_after, shard,
	lineage, origin, claims, reserved_at) SELECT CAST(1000000 + n AS text),
	CASE WHEN n % 100 = 0 THEN 'ca-2' ELSE 'ca-1' END, CAST(n AS text),
	CASE WHEN n % 1000 = 1 THEN 'failed' ELSE 'issued' END, 'n', CASE WHEN n % 1000 = 2 THEN 'rare' ELSE 'tls' END, '1',
	'acme', 'e', 'account:' || CAST(n % 3000 AS text), '', CAST(CAST(n AS text) AS HASH), 's', 's', '[]', NOW, NOW, 0,
	'', CAST(n AS text), '', NOW FROM g`

const fillRevocations = `INSERT INTO revocations (certificate_id, issuer_id, serial, shard, not_after, reason,
	revoked_at, seq, requester) SELECT CAST(1000000 + n * 10 AS text), 'ca-1', CAST(n * 10 AS text), 0, NOW, 1, NOW, n,
	'r' FROM g WHERE n <= 3000`

// fill writes certificates and revocations into a migrated database.
func fill(t *testing.T, driver, dsn string) {
	t.Helper()
	now, hash := `1798761600000000`, `blob`
	if driver == "pgx" {
		now, hash = `timestamptz '2027-01-01'`, `bytea`
	}
	db, err := sql.Open(driver, dsn)
	noErr(t, err)
	defer db.Close()
	values := strings.NewReplacer("NOW", now, "HASH", hash)
	for _, rows := range []string{fillCertificates, fillRevocations} {
		into, from, _ := strings.Cut(values.Replace(rows), ") SELECT ")
		_, err := db.Exec(into + ") " + certificatesOf[driver] + "SELECT " + from)
		noErr(t, err)
	}
	_, err = db.Exec("ANALYZE")
	noErr(t, err)
}

// scans finds a step that reads a whole table; sorts one that sorts what it found.
// (The store turns Seq Scan off, so a table is read whole by an index without a
// condition. Backwards by id, up to the limit, is how everything is listed.)
var (
	scans = regexp.MustCompile(`Seq Scan on (certificates|revocations)|` +
		`Index Scan using \w+ on (certificates c|revocations r) [^\n]*(\n +(Filter|->)|$)|SCAN [cr]\b`)
	sorts = regexp.MustCompile(`Sort  |USE TEMP B-TREE`)
)

// TestListsAreReadFromAnIndex: the first page and a deep one of a list by one
// field neither read a whole table nor, where many can match, sort.
func TestListsAreReadFromAnIndex(t *testing.T) {
	for driver, url := range map[string]func(testing.TB) string{
		"sqlite": storetest.SQLiteURL, "pgx": storetest.PostgresURL,
	} {
		dsn := url(t)
		s := storetest.Open(t, dsn, "n")
		noErr(t, s.Migrate(context.Background()))
		fill(t, driver, strings.TrimPrefix(dsn, "sqlite:"))
		for _, q := range []struct {
			store.Search
			index string
			few   bool // match, so that sorting them is no matter
		}{
			{store.Search{Requester: "account:7"}, "certificates_requester", true},
			{store.Search{Profile: "rare"}, "certificates_profile", false},
			{store.Search{Issuer: "ca-2"}, "certificates_issuer", false},
			{store.Search{Status: "failed"}, "certificates_status", false},
			{store.Search{Status: "imported"}, "certificates_status", false},
			{store.Search{Key: make([]byte, 32)}, "certificates_key", true},
			{store.Search{Serial: pki.Serial("29")}, "certificates_serial", true},
		} {
			for _, after := range []string{"", "1015000"} {
				q.After, q.Limit = after, 100
				plan, err := s.Plan(context.Background(), q.Search)
				noErr(t, err)
				bad := scans.FindString(plan)
				if !q.few {
					bad += sorts.FindString(plan)
				}
				if bad != "" || !strings.Contains(plan, q.index) {
					t.Errorf("%s, %+v: %q in\n%s", driver, q.Search, bad, plan)
				}
			}
		}
	}
}

// TestSearchQuotesValues: no value of a search is taken for a part of the statement.
func TestSearchQuotesValues(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		c := newCertificate("order:1", "a.example.test")
		c.Requester = `it's \ "1" $1 %`
		issue(t, s, c)
		found, _, err := s.SearchCertificates(ctx, store.Search{Requester: c.Requester})
		noErr(t, err)
		if len(found) != 1 {
			t.Errorf("%q found %d certificates", c.Requester, len(found))
		}
		for _, value := range []string{`x' OR 'a' = 'a`, `\' OR 1 = 1 --`, `$1`, `%`,
			`'; DROP TABLE certificates; --`, `a/*`} {
			for _, q := range []store.Search{{Requester: value}, {Name: value}, {Name: "*" + value}, {Profile: value}} {
				found, _, err := s.SearchCertificates(ctx, q)
				noErr(t, err)
				if len(found) != 0 {
					t.Errorf("%q found %d certificates", value, len(found))
				}
			}
		}
		for _, value := range []string{"a\x00' OR 'a' = 'a", "\xc3' OR 'a' = 'a"} {
			if found, _, err := s.SearchCertificates(ctx, store.Search{Requester: value}); len(found) != 0 {
				t.Errorf("%q found %d certificates, %v", value, len(found), err)
			}
		}
	})
}
