// Package approval holds the requests of devices and people between asking and
// having: it recognises one that is sent again, and keeps those that a person
// has to decide.
//
// Enrol is how EST, SCEP and batches pass the door: the same request again, as
// Key tells, gets the certificate that it has. Where the profile asks for a
// person, Enrol is fault.Pending until Approve or Reject; that holds for every
// protocol, because issuance itself keeps the request. ACME orders stand for
// themselves: they are recognised by their own id, and ACME finishes those that
// were approved.
//
// What a person approves is the digest of the template: if the profile changed
// in the meantime, the approval is good for nothing.
package approval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// How long a retransmission is answered with the certificate that it has.
const (
	KeepEST   = 10 * time.Minute
	KeepSCEP  = 24 * time.Hour
	KeepBatch = 30 * 24 * time.Hour
)

// Queue is where requests are kept. It is safe for concurrent use.
type Queue struct {
	store    *store.Store
	pipeline *issuance.Pipeline
	now      func() time.Time
	log      *slog.Logger
	rechecks map[string]Recheck // by protocol
}

// Recheck judges once more what a request that waits rests on beside its claims,
// as if it were asked now. What does not hold any more is Denied.
type Recheck func(context.Context, *store.Request, issuance.Request) error

// New returns the queue of a store and its door.
func New(s *store.Store, p *issuance.Pipeline, now func() time.Time, log *slog.Logger) *Queue {
	return &Queue{store: s, pipeline: p, now: now, log: log, rechecks: map[string]Recheck{}}
}

// Recheck makes f the one that judges the requests of a protocol. It is called
// before the queue is used.
func (q *Queue) Recheck(protocol string, f Recheck) { q.rechecks[protocol] = f }

// Key is what makes two requests the same, within Keep.
type Key struct {
	Endpoint      string // the label, the SCEP endpoint; unique among all protocols
	Identity      string // who was authenticated: "est_user:device-7", "certificate:<id>", "scep_challenge:<id>" …
	CSR           []byte // DER; the whole message where there is no CSR
	TransactionID string // SCEP's, or what else keeps two equal CSRs apart, such as EST's operation
	Keep          time.Duration
	Hook          string // webhook that is told the outcome; empty is none

	// OneCSR refuses another CSR of the same identity in the same transaction
	// (rule S19).
	OneCSR bool
	// Admit, if set, is asked before a new request is taken, and never about one that
	// comes again.
	Admit func(context.Context) error
	// Spent, if set, is why nothing new may be had: the one-time credential was
	// right, but is used up. What it was used for is still answered (rule E12).
	Spent error
}

func (k *Key) digest() []byte {
	sum := sha256.Sum256(k.CSR)
	return sum[:]
}

// Open looks for the request that k stands for. Without one it returns the id
// of a new request, which Enrol would make.
func (q *Queue) Open(ctx context.Context, k Key) (id string, existing *store.Request, err error) {
	row, err := q.store.RequestByKey(ctx, store.RequestKey{
		Endpoint: k.Endpoint, Identity: k.Identity, CSRDigest: k.digest(), TransactionID: k.TransactionID,
	}, q.now())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.NewID(), nil, nil
	case err != nil:
		return "", nil, err
	}
	return row.ID, row, nil
}

// races bounds how often Enrol looks again after the same request, sent twice at
// once, was quicker.
const races = 3

// Enrol passes a request through the door, or returns the certificate that the
// same request got. It sets r's endpoint, origin and record.
//
// Faults: those of issuance.Pipeline.Issue, among them Pending with a time to
// come back, and Denied with reason approval_rejected or approval_expired; k's
// Spent; BadCSR for another CSR in the same transaction.
func (q *Queue) Enrol(ctx context.Context, k Key, r issuance.Request) (*issuance.Certificate, error) {
	r.Endpoint = k.Endpoint
	for n := 1; ; n++ {
		id, row, err := q.Open(ctx, k)
		if err != nil {
			return nil, err
		}
		switch {
		case row == nil:
			if err := q.fresh(ctx, &k); err != nil {
				return nil, err
			}
			r.Origin = "request:" + id
			r.Record = &issuance.Record{
				ID: id, Identity: k.Identity, CSRDigest: k.digest(), TransactionID: k.TransactionID, Keep: k.Keep,
				Hook: k.Hook,
			}
		case row.CertificateID != "":
			return q.pipeline.Certificate(ctx, row.CertificateID)
		default:
			r.Origin, r.Record = row.Origin, nil
		}
		cert, err := q.pipeline.Issue(ctx, r)
		if !store.IsKnown(err) || n == races {
			return cert, err
		}
	}
}

// fresh refuses a request that would be a new one but may not.
func (q *Queue) fresh(ctx context.Context, k *Key) error {
	if k.OneCSR {
		others, err := q.store.Transaction(ctx, k.Endpoint, k.TransactionID, q.now())
		if err != nil {
			return err
		}
		for i := range others {
			// Clients derive the transaction from the key: who renews with the key that
			// he has comes with the transaction of his enrolment, as somebody else.
			if others[i].Identity == k.Identity && !bytes.Equal(others[i].CSRDigest, k.digest()) {
				return fault.New(fault.BadCSR, "the transaction has another certificate request").
					Because("transaction_reused")
			}
		}
	}
	if k.Spent == nil && k.Admit != nil {
		return k.Admit(ctx)
	}
	return k.Spent
}

// Poll answers a client that asks for the outcome of a transaction (SCEP's
// CertPoll, rule S19): the certificate, Pending, Denied once that is final, or
// NotFound. The key is the one that the poll proved possession of.
func (q *Queue) Poll(
	ctx context.Context, endpoint, transactionID string, key pki.KeyHash,
) (*issuance.Certificate, *store.Request, error) {
	rows, err := q.store.Transaction(ctx, endpoint, transactionID, q.now())
	if err != nil {
		return nil, nil, err
	}
	for i := len(rows) - 1; i >= 0; i-- {
		row := &rows[i]
		if string(row.KeyHash) != string(key[:]) {
			continue
		}
		if row.CertificateID != "" {
			cert, err := q.pipeline.Certificate(ctx, row.CertificateID)
			return cert, row, err
		}
		return nil, row, q.outcome(ctx, row)
	}
	return nil, nil, fault.New(fault.NotFound, "there is no request of this transaction and key").
		Because("transaction_unknown")
}

// Answer tells who asked for something, and knows its request's id, what became of
// it: the certificate, Pending, Denied once that is final, or NotFound, also for
// a request of somebody else.
func (q *Queue) Answer(ctx context.Context, endpoint, identity, id string) (*issuance.Certificate, error) {
	row, err := q.store.Request(ctx, id)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	case err != nil || row.Endpoint != endpoint || row.Identity != identity:
		return nil, fault.New(fault.NotFound, "there is no request %s", id).Because("request_unknown")
	case row.CertificateID != "":
		return q.pipeline.Certificate(ctx, row.CertificateID)
	}
	return nil, q.outcome(ctx, row)
}

// outcome is the fault of a request without a certificate.
func (q *Queue) outcome(ctx context.Context, row *store.Request) error {
	v := issuance.VerdictOn(row, q.now())
	if v.State.Undecided() {
		asked, err := issuance.Again(row)
		if err == nil {
			err = q.stands(ctx, row, asked)
		}
		if err != nil {
			return err
		}
	}
	return v.Fault()
}

// stands reports what a request rests on that does not hold any more. Once its
// approval is used, the reservation has decided that.
func (q *Queue) stands(ctx context.Context, row *store.Request, asked issuance.Request) error {
	if row.ConsumedAt != nil {
		return nil
	}
	for _, c := range asked.Claims {
		if err := q.store.CheckClaim(ctx, c, q.now()); err != nil {
			return err
		}
	}
	if recheck := q.rechecks[row.Protocol]; recheck != nil {
		return recheck(ctx, row, asked)
	}
	return nil
}
