package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// Event is one entry of the audit record. Callers fill in At and what follows;
// the committer fills in Node, Seq, Prev and Hash, which chain the events of one
// node: Prev is the Hash of the event before (empty at Seq 1).
type Event struct {
	Node       string
	Seq        int64
	Prev, Hash []byte
	At         time.Time
	Action     string // such as "certificate.issued"
	Outcome    string // "ok" or a fault's kind or reason
	Actor      string // such as "account:<id>" or "uid:0"
	Subject    string // what it was done to, such as "certificate:<id>"
	RequestID  string
	Detail     json.RawMessage
}

// Digest returns the event's hash: SHA-256 over a version line and all fields
// but Hash, each with its length before it, numbers as eight octets big-endian,
// the time as Unix microseconds.
func (e *Event) Digest() []byte {
	h := sha256.New()
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		_, _ = h.Write(n[:])
		_, _ = h.Write(b)
	}
	number := func(v int64) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(v))
		field(n[:])
	}
	field([]byte("privyseal audit event 1"))
	field([]byte(e.Node))
	number(e.Seq)
	field(e.Prev)
	number(e.At.UnixMicro())
	for _, s := range []string{e.Action, e.Outcome, e.Actor, e.Subject, e.RequestID} {
		field([]byte(s))
	}
	field(e.Detail)
	return h.Sum(nil)
}

// Head is the end of one node's chain; Seq 0 is a chain without events.
type Head struct {
	Node string `json:"node"`
	Seq  int64  `json:"seq"`
	Hash []byte `json:"hash"`
}

const insertEvent = `INSERT INTO audit_events (node, seq, prev, hash, at, action, outcome, actor, subject,
	request_id, detail)`

// chain appends events to a head and returns the inserts and the new head. The
// primary key (node, seq) refuses a second event at the same place.
func chain(head Head, events []Event) ([]*stmt, Head) {
	rows := make([][]any, len(events))
	for i, e := range events {
		e.Node, e.Seq, e.Prev = head.Node, head.Seq+1, head.Hash
		if e.Prev == nil {
			e.Prev = []byte{}
		}
		e.At = micros(e.At)
		e.Hash = e.Digest()
		rows[i] = []any{e.Node, e.Seq, e.Prev, e.Hash, e.At, e.Action, e.Outcome, e.Actor, e.Subject, e.RequestID,
			e.Detail}
		head.Seq, head.Hash = e.Seq, e.Hash
	}
	return multi(insertEvent, rows), head
}

// AppendAudit records events that belong to no other write.
func (s *Store) AppendAudit(ctx context.Context, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.commit(ctx, &write{what: "append audit events", events: events})
}

func (s *Store) auditHead(ctx context.Context, node string) (Head, error) {
	head := Head{Node: node}
	err := s.engine.read(ctx, query{
		`SELECT seq, hash FROM audit_events WHERE node = $1 ORDER BY seq DESC LIMIT 1`, []any{node},
		func(scan scanFunc) error { return scan(&head.Seq, &head.Hash) },
	})
	return head, err
}

// selectHeads walks from chain to chain along the primary key: what it reads grows
// with the number of chains, not of events.
const selectHeads = `WITH RECURSIVE chains (node) AS (SELECT MIN(node) FROM audit_events UNION ALL
	SELECT (SELECT MIN(e.node) FROM audit_events e WHERE e.node > c.node) FROM chains c WHERE c.node IS NOT NULL)
	SELECT c.node, (SELECT e.seq FROM audit_events e WHERE e.node = c.node ORDER BY e.seq DESC LIMIT 1),
	(SELECT e.hash FROM audit_events e WHERE e.node = c.node ORDER BY e.seq DESC LIMIT 1)
	FROM chains c WHERE c.node IS NOT NULL ORDER BY c.node`

// AuditHeads returns the end of every node's chain, by node.
func (s *Store) AuditHeads(ctx context.Context) ([]Head, error) {
	var heads []Head
	err := s.query(ctx, "read audit heads", selectHeads, nil, func(scan scanFunc) error {
		var h Head
		defer func() { heads = append(heads, h) }()
		return scan(&h.Node, &h.Seq, &h.Hash)
	})
	return heads, err
}

const selectEvent = `SELECT node, seq, prev, hash, at, action, outcome, actor, subject, request_id, detail
	FROM audit_events `

func scanEvents(into *[]Event) func(scanFunc) error {
	return func(scan scanFunc) error {
		var e Event
		err := scan(&e.Node, &e.Seq, &e.Prev, &e.Hash, &e.At, &e.Action, &e.Outcome, &e.Actor, &e.Subject,
			&e.RequestID, &e.Detail)
		*into = append(*into, e)
		return err
	}
}

// AuditEvents returns a node's events from a sequence number on, in order.
func (s *Store) AuditEvents(ctx context.Context, node string, fromSeq int64, limit int) ([]Event, error) {
	var events []Event
	err := s.query(ctx, "read audit events", selectEvent+`WHERE node = $1 AND seq >= $2 ORDER BY seq LIMIT $3`,
		[]any{node, fromSeq, limit}, scanEvents(&events))
	return events, err
}

// AuditEventsOf returns the events of an action, oldest first. It reads the whole record.
func (s *Store) AuditEventsOf(ctx context.Context, action string) ([]Event, error) {
	var events []Event
	err := s.query(ctx, "read audit events", selectEvent+`WHERE action = $1 ORDER BY at, node, seq`, []any{action},
		scanEvents(&events))
	return events, err
}

// AuditTail returns the newest events of all nodes, newest first, before the
// cursor that an earlier call returned; the empty cursor is the end. The next
// cursor is empty when there is nothing older.
func (s *Store) AuditTail(ctx context.Context, limit int, before string) (events []Event, next string, err error) {
	sql, args := selectEvent, []any{}
	if before != "" {
		var c auditCursor
		if err := c.parse(before); err != nil {
			return nil, "", fault.New(fault.Malformed, "the cursor is not one of ours")
		}
		sql += `WHERE (at, node, seq) < ($1, $2, $3) `
		args = append(args, c.at, c.node, c.seq)
	}
	limited, args := sql+`ORDER BY at DESC, node DESC, seq DESC LIMIT `, append(args, limit+1)
	if err := s.query(ctx, "read audit tail", limited+placeholder(len(args)), args, scanEvents(&events)); err != nil {
		return nil, "", err
	}
	if len(events) > limit {
		events = events[:limit]
		last := events[limit-1]
		next = auditCursor{last.At, last.Node, last.Seq}.String()
	}
	return events, next, nil
}
