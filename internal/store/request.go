package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// RequestStatus is how far a request has come.
type RequestStatus string

// The statuses of a request. That it has its certificate is not stored:
// CertificateID is joined through the origin and wins over every status.
const (
	RequestOpen     RequestStatus = "open"     // needs nobody
	RequestPending  RequestStatus = "pending"  // waits for a person
	RequestApproved RequestStatus = "approved" // may have its certificate, once
	RequestRejected RequestStatus = "rejected"
	RequestExpired  RequestStatus = "expired" // nobody decided in time, or nobody used the approval
	RequestIssued   RequestStatus = "issued"  // never stored
)

// Undecided reports whether a decision can still be made, or taken back.
func (s RequestStatus) Undecided() bool { return s == RequestPending || s == RequestApproved }

// Request is what somebody asked for: the memory of retransmissions and the
// queue of approvals. Endpoint, Identity, CSRDigest and TransactionID are
// together unique among requests that have not expired.
type Request struct {
	ID             string
	Origin         string // "request:<ID>", or "order:<id>" for an ACME order that waits
	Endpoint       string
	Identity       string // who was authenticated, such as "est_user:device-7"
	CSRDigest      []byte
	TransactionID  string
	Protocol       string
	Profile        string
	Issuer         string
	Requester      string
	RequestID      string // of the protocol request
	KeyHash        []byte
	Subject        string // for people; empty in open requests, as the next four
	Names          []pki.Identifier
	CSR            []byte          // DER
	Asked          json.RawMessage // what else it takes to ask again
	TemplateDigest []byte          // of what a person approves
	Status         RequestStatus
	DecidedBy      string
	DecidedAt      *time.Time
	Reason         string     // of the decision
	ConsumedAt     *time.Time // when the approval was used
	CreatedAt      time.Time
	ExpiresAt      time.Time
	Hook           string // webhook that is to hear of the outcome; empty once it did
	HookTries      int    // calls of it that failed
	CertificateID  string // issued under Origin
}

// State is how far a request is at a time: its status, unless it has its
// certificate, or nobody decided or used it in time.
func (r *Request) State(now time.Time) RequestStatus {
	switch {
	case r.CertificateID != "":
		return RequestIssued
	case r.ConsumedAt == nil && r.Status.Undecided() && !r.ExpiresAt.After(now):
		return RequestExpired
	}
	return r.Status
}

var requests = table[Request]{
	name: "requests", alias: "q",
	columns: []column[Request]{
		col("id", func(r *Request) *string { return &r.ID }),
		col("origin", func(r *Request) *string { return &r.Origin }),
		col("endpoint", func(r *Request) *string { return &r.Endpoint }),
		col("identity", func(r *Request) *string { return &r.Identity }),
		col("csr_digest", func(r *Request) *[]byte { return &r.CSRDigest }),
		col("transaction_id", func(r *Request) *string { return &r.TransactionID }),
		col("protocol", func(r *Request) *string { return &r.Protocol }),
		col("profile", func(r *Request) *string { return &r.Profile }),
		col("issuer", func(r *Request) *string { return &r.Issuer }),
		col("requester", func(r *Request) *string { return &r.Requester }),
		col("request_id", func(r *Request) *string { return &r.RequestID }),
		{name: "key_hash", of: func(r *Request) any { return notNull(r.KeyHash) },
			to: func(r *Request) any { return &r.KeyHash }},
		col("subject", func(r *Request) *string { return &r.Subject }),
		listCol("names", func(r *Request) *[]pki.Identifier { return &r.Names }),
		col("csr", func(r *Request) *[]byte { return &r.CSR }),
		col("asked", func(r *Request) *json.RawMessage { return &r.Asked }),
		col("template_digest", func(r *Request) *[]byte { return &r.TemplateDigest }),
		col("status", func(r *Request) *RequestStatus { return &r.Status }),
		col("decided_by", func(r *Request) *string { return &r.DecidedBy }),
		col("decided_at", func(r *Request) **time.Time { return &r.DecidedAt }),
		col("reason", func(r *Request) *string { return &r.Reason }),
		col("consumed_at", func(r *Request) **time.Time { return &r.ConsumedAt }),
		col("created_at", func(r *Request) *time.Time { return &r.CreatedAt }),
		col("expires_at", func(r *Request) *time.Time { return &r.ExpiresAt }),
		col("hook", func(r *Request) *string { return &r.Hook }),
		col("hook_tries", func(r *Request) *int { return &r.HookTries }),
		written("hook_at", (*Request).hookAt),
		computed("COALESCE(c.id, '')", func(r *Request) *string { return &r.CertificateID }),
	},
	joins: `LEFT JOIN origins g ON g.origin = q.origin
		LEFT JOIN certificates c ON c.id = g.certificate_id AND c.status = 'issued' `,
}.ready()

// hookAt is when the webhook is due; nil if there is none.
func (r *Request) hookAt() any {
	if r.Hook == "" {
		return nil
	}
	return r.CreatedAt
}

// insert returns the statement that stores the request. It touches no row if one
// with the same key has not expired; one that has gives way, so that the same
// CSR months later is a new request.
func (r *Request) insert() *stmt {
	asNew := *r
	asNew.HookTries = 0
	sql, args := requests.add(&asNew, `ON CONFLICT (csr_digest, transaction_id, identity, endpoint) DO UPDATE SET `+
		requests.replaceAll()+` WHERE requests.expires_at <= excluded.created_at`)
	return must(sql, args...)
}

// reasonKnown is why a reservation with a request is lost when another one with
// the same key was quicker.
const reasonKnown = "request_known"

// IsKnown reports whether err says that a request with the same key is on record.
func IsKnown(err error) bool {
	return fault.Is(err, fault.Conflict) && fault.Of(err).Reason == reasonKnown
}

func known() error {
	return fault.New(fault.Conflict, "the same request is on record").Because(reasonKnown).After(time.Second)
}

// PutRequest stores a request that waits for a person. If one with the same key
// is on record and has not expired, IsKnown holds for the error.
func (s *Store) PutRequest(ctx context.Context, r Request, ev Event) error {
	return s.commit(ctx, &write{
		what: "store request", guards: []*stmt{r.insert()}, events: []Event{ev},
		lost: func(int) error { return known() },
	})
}

// RequestKey is what makes two requests the same.
type RequestKey struct {
	Endpoint, Identity string
	CSRDigest          []byte
	TransactionID      string
}

// RequestByKey returns the request with the given key, unless it has expired.
func (s *Store) RequestByKey(ctx context.Context, k RequestKey, now time.Time) (*Request, error) {
	return s.request(ctx, `WHERE q.csr_digest = $1 AND q.transaction_id = $2 AND q.identity = $3 AND q.endpoint = $4
		AND q.expires_at > $5`,
		k.CSRDigest, k.TransactionID, k.Identity, k.Endpoint, now)
}

// Request returns a request by its id.
func (s *Store) Request(ctx context.Context, id string) (*Request, error) {
	return s.request(ctx, `WHERE q.id = $1`, id)
}

// RequestByOrigin returns the request of an origin.
func (s *Store) RequestByOrigin(ctx context.Context, origin string) (*Request, error) {
	return s.request(ctx, `WHERE q.origin = $1`, origin)
}

// Transaction returns the SCEP requests of a transaction that have not expired,
// oldest first.
func (s *Store) Transaction(ctx context.Context, endpoint, transactionID string, now time.Time) ([]Request, error) {
	return s.requests(ctx, `WHERE q.protocol = 'scep' AND q.transaction_id = $1 AND q.endpoint = $2
		AND q.expires_at > $3 ORDER BY q.id`,
		transactionID, endpoint, now)
}

// CountPendingRequests counts the requests that wait at an endpoint and have not
// expired: all whose identity begins with prefix, and those of one identity.
func (s *Store) CountPendingRequests(
	ctx context.Context, endpoint, prefix, identity string, now time.Time,
) (all, own int, err error) {
	err = s.queryRow(ctx, "count waiting requests", `SELECT COUNT(*),
		COALESCE(SUM(CASE WHEN identity = $1 THEN 1 ELSE 0 END), 0)
		FROM requests WHERE status = 'pending' AND endpoint = $2 AND expires_at > $3 AND identity LIKE $4`,
		[]any{identity, endpoint, now, prefix + "%"}, &all, &own)
	return all, own, err
}

// RequestSearch selects requests that wait or waited for a person.
type RequestSearch struct {
	Status  RequestStatus // empty is all
	Profile string
	After   string // id of the last one of the page before
	Limit   int
}

// SearchRequests returns requests, newest first.
func (s *Store) SearchRequests(ctx context.Context, f RequestSearch) ([]Request, error) {
	where, args := `WHERE q.status <> 'open'`, []any(nil)
	term := func(sql string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(sql, placeholder(len(args)))
	}
	switch f.Status {
	case "":
	case RequestIssued:
		where += ` AND c.id IS NOT NULL`
	default:
		term(` AND c.id IS NULL AND q.status = %s`, f.Status)
	}
	if f.Profile != "" {
		term(` AND q.profile = %s`, f.Profile)
	}
	if f.After != "" {
		term(` AND q.id < %s`, f.After)
	}
	term(` ORDER BY q.id DESC LIMIT %s`, f.Limit)
	return s.requests(ctx, where, args...)
}

// ApprovedRequests returns requests of all protocols but ACME that were approved
// before the given time and have no certificate yet. ACME finishes its orders
// itself.
func (s *Store) ApprovedRequests(ctx context.Context, before time.Time, limit int) ([]Request, error) {
	return s.requests(ctx, `WHERE q.status = 'approved' AND q.consumed_at IS NULL AND q.protocol <> 'acme'
		AND q.decided_at < $1
		ORDER BY q.id LIMIT $2`, before, limit)
}

// OverdueRequests returns requests that nobody decided, or used, in time.
func (s *Store) OverdueRequests(ctx context.Context, now time.Time, limit int) ([]Request, error) {
	return s.requests(ctx, `WHERE q.status IN ('pending', 'approved') AND q.consumed_at IS NULL
		AND q.expires_at <= $1 ORDER BY q.id LIMIT $2`, now, limit)
}

func (s *Store) requests(ctx context.Context, where string, args ...any) ([]Request, error) {
	var found []Request
	err := s.query(ctx, "read requests", requests.query+where, args, requests.scan(&found))
	return found, err
}

func (s *Store) request(ctx context.Context, where string, args ...any) (*Request, error) {
	found, err := s.requests(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	return one(found, "read request")
}

// Decision is what becomes of a request that waits.
type Decision struct {
	Status  RequestStatus // RequestApproved, RequestRejected or RequestExpired
	By      string
	At      time.Time
	Reason  string
	Digest  []byte    // of the template that is approved; the request must still ask for it
	Expires time.Time // of the request then
}

// DecideRequest records a decision. A pending request can be approved, rejected
// or expire; an approval that was not used can still be taken back. Anything
// else, and an approval of another template, is fault.Conflict.
func (s *Store) DecideRequest(ctx context.Context, id string, d Decision, ev Event) error {
	st := must(`UPDATE requests SET status = $1, decided_by = $2, decided_at = $3, reason = $4, expires_at = $5
		WHERE id = $6 AND consumed_at IS NULL AND status IN ('pending', 'approved')`, d.Status, d.By, d.At, d.Reason,
		d.Expires, id)
	if d.Status == RequestApproved {
		st = must(`UPDATE requests SET status = $1, decided_by = $2, decided_at = $3, reason = $4, expires_at = $5
			WHERE id = $6 AND status = 'pending' AND expires_at > $3 AND template_digest = $7`, d.Status, d.By, d.At,
			d.Reason, d.Expires, id, d.Digest)
	}
	return s.commit(ctx, &write{
		what: "decide request", guards: []*stmt{st}, events: []Event{ev},
		lost: func(int) error {
			return fault.New(fault.Conflict, "the request is not waiting for a decision any more")
		},
	})
}

// RenewTemplate makes another template the one that a pending request waits for
// approval of. It is fault.Conflict if the request is not pending.
func (s *Store) RenewTemplate(
	ctx context.Context, id string, digest []byte, subject string, names []pki.Identifier,
) error {
	return s.commit(ctx, &write{
		what: "renew template of request",
		guards: []*stmt{must(`UPDATE requests SET template_digest = $1, subject = $2, names = $3 WHERE id = $4
			AND status = 'pending'`,
			digest, subject, asJSON(names), id)},
	})
}

// DueHooks returns requests whose webhook is to be told the outcome by now:
// those with a certificate and those that never get one.
func (s *Store) DueHooks(ctx context.Context, now time.Time, limit int) ([]Request, error) {
	return s.requests(ctx, `WHERE q.hook <> '' AND q.hook_at <= $1 AND (c.id IS NOT NULL OR q.status IN ('rejected',
		'expired'))
		ORDER BY q.hook_at, q.id LIMIT $2`, now, limit)
}

// HookTold records that a webhook heard the outcome.
func (s *Store) HookTold(ctx context.Context, id string) error {
	return s.commit(ctx, &write{what: "record webhook call",
		guards: []*stmt{may(`UPDATE requests SET hook = '' WHERE id = $1`, id)}})
}

// HookFailed puts the next call of a webhook off.
func (s *Store) HookFailed(ctx context.Context, id string, next time.Time) error {
	return s.commit(ctx, &write{what: "put webhook call off", guards: []*stmt{
		may(`UPDATE requests SET hook_tries = hook_tries + 1, hook_at = $1 WHERE id = $2`, next, id),
	}})
}
