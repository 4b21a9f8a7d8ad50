package access_test

import (
	"context"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestRowsBySQL: whatever is written, put back or taken out behind our back is found, by
// this process and by the next, and grants nothing until it is settled.
func TestRowsBySQL(t *testing.T) {
	const state = `UPDATE access_state SET number = (SELECT number FROM kept_state),
		digest = (SELECT digest FROM kept_state), mac = (SELECT mac FROM kept_state)`
	copyRows := []string{
		`CREATE TABLE kept AS SELECT * FROM access_records`, `CREATE TABLE kept_state AS SELECT * FROM access_state`,
	}
	const remove = `DELETE FROM access_records`
	for name, sql := range map[string][]string{
		"taken out": {remove + ` WHERE kind = 'block'`},
		"altered":   {`UPDATE access_records SET body = replace(body, 'requester', 'admin') WHERE kind = 'grant'`},
		"put in": {`INSERT INTO access_records SELECT kind, 'x', number, digest, body, mac, used_at, used_from
			FROM access_records WHERE kind = 'grant'`},
		"put back":     {`INSERT OR REPLACE INTO access_records SELECT * FROM kept`},
		"all put back": {remove, `INSERT INTO access_records SELECT * FROM kept`, state},
		"emptied":      {remove, `UPDATE access_state SET number = 0, digest = x'', mac = x''`},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			ctx := t.Context()
			c, _, _ := f.login(t, ada())
			f.give(t, adaSubject, "requester", access.Scope{All: true})
			gone := f.give(t, "uid:9", "requester", access.Scope{All: true})
			storetest.Exec(t, f.url, copyRows...)
			_, err := f.Revoke(ctx, f.root, gone.ID, "")
			must(t, err)
			_, err = f.Block(ctx, f.root, access.Block{Subject: "uid:8", Reason: "test"}, "")
			must(t, err)
			must(t, f.Decide(ctx, c, api.CertIssue, web("a.test"))) // the twin
			storetest.Exec(t, f.url, sql...)
			f.again(t, 1)
			want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Unavailable, "access_doubt")
			found, err := f.Doubt(ctx)
			if err != nil || len(found) == 0 {
				t.Fatalf("found %q, %v", found, err)
			}
			must(t, f.Decide(ctx, f.root, api.CertIssue, web("a.test")))
			_, _, err = f.Remake(ctx, "looked at each", store.Event{At: f.now, Action: "access.accepted",
				Outcome: "success"})
			must(t, err)
			if found, err := f.Doubt(ctx); err != nil || len(found) > 0 {
				t.Errorf("after it was accepted: %q, %v", found, err)
			}
		})
	}
}

// TestRemakeUnderAnotherKey: the records do not need the former key after a reseal.
func TestRemakeUnderAnotherKey(t *testing.T) {
	f := start(t)
	ctx := context.Background()
	c, _, _ := f.login(t, ada())
	f.give(t, adaSubject, "requester", access.Scope{All: true})
	f.again(t, 2, 1)
	rows, _, err := f.Remake(ctx, "", store.Event{At: f.now, Action: "secrets.resealed", Outcome: "success"})
	if err != nil || rows != 2 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	f.again(t, 2)
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	f.again(t, 1)
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Unavailable, "access_doubt")
}

// TestOnPostgres: the records hold on the other engine too.
func TestOnPostgres(t *testing.T) {
	f := &fixture{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), url: storetest.PostgresURL(t)}
	f.store = storetest.Open(t, f.url, "node-1")
	f.again(t, 1)
	ctx := t.Context()
	var err error
	f.root, err = f.Peer(ctx, 0)
	must(t, err)
	c, secret, _ := f.login(t, ada())
	f.give(t, adaSubject, "requester", access.Scope{All: true})
	f.again(t, 1)
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	_, err = f.Bearer(ctx, secret, home)
	must(t, err)
	storetest.Exec(t, f.url, `DELETE FROM access_records WHERE kind = 'session'`)
	f.again(t, 1)
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Unavailable, "access_doubt")
}
