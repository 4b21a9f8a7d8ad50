package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// fillStep is how many certificates one statement makes.
const fillStep = 100_000

// fill makes count certificates hN.NAME.example of web-1, revoked or not. Ids
// begin with the name's first letters, so that they do not collide.
func (b *bench) fill(ctx context.Context, name string, count int, revoked bool) error {
	driver, dsn := "pgx", b.url
	if path, ok := strings.CutPrefix(b.url, "sqlite:"); ok {
		driver, dsn = "sqlite", "file:"+path+"?_pragma=busy_timeout(60000)&_pragma=synchronous(OFF)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for from := 0; from < count; from += fillStep {
		for _, statement := range b.statements(name, from, min(from+fillStep, count), revoked) {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", strings.Fields(statement)[2], err)
			}
		}
	}
	_, err = db.ExecContext(ctx, "ANALYZE")
	return err
}

// statements makes certificates from to to. The engines differ in how they count
// and how they write times and blobs.
func (b *bench) statements(name string, from, to int, revoked bool) []string {
	n, hex, blob, key := fmt.Sprintf("generate_series(%d, %d) AS s(n)", from, to-1),
		"lpad(to_hex(n), 12, '0')", "decode(repeat('ab', 600), 'hex')", "decode(lpad(to_hex(n), 64, '0'), 'hex')"
	at := func(t time.Time) string { return "timestamptz '" + t.UTC().Format(time.RFC3339) + "'" }
	if b.engine == "sqlite" {
		n = fmt.Sprintf("(WITH RECURSIVE s(n) AS (SELECT %d UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT n FROM "+
			"s)", from, to-1)
		hex, blob, key = "printf('%012x', n)", "zeroblob(600)", "CAST(printf('%032d', n) AS BLOB)"
		at = func(t time.Time) string { return fmt.Sprint(t.UnixMicro()) }
	}
	reversed := []rune("." + name + ".example")
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	id := fmt.Sprintf("'%08x-0000-7000-8000-' || %s", name[:3], hex)
	serial := fmt.Sprintf("'40%s' || %s", (fmt.Sprintf("%x", name) + strings.Repeat("0", 26))[:26], hex)
	now := time.Now()
	statements := []string{
		fmt.Sprintf(`INSERT INTO certificates (id, issuer_id, serial, status, node, profile, profile_version,
			protocol, endpoint, requester, request_id,
			key_hash, subject, subject_lower, names, not_before, not_after, tbs, der, shard, lineage, origin, claims,
			reserved_at, issued_at)
			SELECT %s, 'web-1', %s, 'issued', 'bench', 'tls-server', 'v1', 'acme', 'default', 'account:1', 'r', %s,
			'', '',
			'[{"type":"dns","value":"h' || n || '.%s.example"}]', %s, %s, NULL, %s, 0, 'l', 'request:' || n, '[]',
			%s, %s FROM %s`,
			id, serial, key, name, at(now), at(later()), blob, at(now), at(now), n),
		fmt.Sprintf(`INSERT INTO certificate_names (certificate_id, position, type, value, reversed)
			SELECT %s, 0, 'dns', 'h' || n || '.%s.example', '%s' || n || 'h' FROM %s`, id, name, string(reversed), n),
	}
	if revoked {
		statements = append(statements, fmt.Sprintf(`INSERT INTO revocations (certificate_id, issuer_id, serial,
			shard, not_after, reason, revoked_at, seq, requester)
			SELECT %s, 'web-1', %s, 0, %s, 4, %s, n, 'uid:0' FROM %s`, id, serial, at(later()), at(now), n))
	}
	return statements
}
