package store

import (
	"context"
	"time"
)

// AccessRecord is a row about who may do what. Its body is of meaning to package
// access alone.
type AccessRecord struct {
	Kind, ID string
	Number   int64  // of the change that wrote it
	Digest   []byte // of the secret that finds it; empty if it has none
	Body     string // JSON
	MAC      []byte // over all above
	UsedAt   *time.Time
	UsedFrom string // network of the last use
}

// AccessState says which access records there are.
type AccessState struct {
	Number int64  // of the last change; only rises
	Digest []byte // of the whole set
	MAC    []byte
}

var accessRecords = table[AccessRecord]{
	name: "access_records", alias: "a",
	columns: []column[AccessRecord]{
		col("kind", func(r *AccessRecord) *string { return &r.Kind }),
		col("id", func(r *AccessRecord) *string { return &r.ID }),
		col("number", func(r *AccessRecord) *int64 { return &r.Number }),
		col("digest", func(r *AccessRecord) *[]byte { return &r.Digest }),
		col("body", func(r *AccessRecord) *string { return &r.Body }),
		col("mac", func(r *AccessRecord) *[]byte { return &r.MAC }),
		col("used_at", func(r *AccessRecord) **time.Time { return &r.UsedAt }),
		col("used_from", func(r *AccessRecord) *string { return &r.UsedFrom }),
	},
}.ready()

const selectAccessState = `SELECT number, digest, mac FROM access_state WHERE one = 1`

// AccessStateAction is the action of the events that witness each AccessState.
const AccessStateAction = "access.state"

// AccessState returns the state of the access records.
func (s *Store) AccessState(ctx context.Context) (st AccessState, err error) {
	err = s.queryRow(ctx, "read access state", selectAccessState, nil, &st.Number, &st.Digest, &st.MAC)
	return st, err
}

// Access returns the state, all records by kind and id, and the newest events of
// AccessStateAction, as of one moment.
func (s *Store) Access(ctx context.Context) (st AccessState, rows []AccessRecord, witness []Event, err error) {
	err = s.engine.read(ctx,
		query{selectAccessState, nil, func(scan scanFunc) error { return scan(&st.Number, &st.Digest, &st.MAC) }},
		query{accessRecords.query + `ORDER BY a.kind, a.id`, nil, accessRecords.scan(&rows)},
		query{
			selectEvent + `WHERE action = '` + AccessStateAction + `' ORDER BY at DESC LIMIT 10`, nil,
			scanEvents(&witness),
		})
	if err != nil {
		return st, nil, nil, failed("read access records", err)
	}
	return st, rows, witness, nil
}

// SaveAccess writes and removes records and moves the state on from the number that it
// was decided on; fault.Conflict if that is not its number any more. When a record was
// last used stays.
func (s *Store) SaveAccess(ctx context.Context, was int64, next AccessState, put, drop []AccessRecord,
	events ...Event,
) error {
	w := &write{
		what: "save access records", events: events,
		guards: []*stmt{must(`UPDATE access_state SET number = $1, digest = $2, mac = $3 WHERE one = 1 AND number = $4`,
			next.Number, next.Digest, next.MAC, was)},
	}
	for i := range put {
		sql, args := accessRecords.add(&put[i], `ON CONFLICT (kind, id) DO UPDATE SET
			number = excluded.number, digest = excluded.digest, body = excluded.body, mac = excluded.mac`)
		w.effects = append(w.effects, may(sql, args...))
	}
	for _, r := range drop {
		w.effects = append(w.effects, may(`DELETE FROM access_records WHERE kind = $1 AND id = $2`, r.Kind, r.ID))
	}
	return s.commit(ctx, w)
}

// AccessUse returns when and from where a record was last used.
func (s *Store) AccessUse(ctx context.Context, kind, id string) (at *time.Time, from string, err error) {
	err = s.queryRow(ctx, "read use of access", `SELECT used_at, used_from FROM access_records
		WHERE kind = $1 AND id = $2`, []any{kind, id}, &at, &from)
	return at, from, err
}

// TouchAccess notes a use of a record.
func (s *Store) TouchAccess(ctx context.Context, kind, id string, at time.Time, from string, events ...Event) error {
	return s.commit(ctx, &write{what: "note use of access", events: events, effects: []*stmt{
		may(`UPDATE access_records SET used_at = $1, used_from = $2 WHERE kind = $3 AND id = $4`, at, from, kind, id),
	}})
}
