package acme

import (
	"context"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

const (
	giveUpAfter = 45 * time.Second // an order leaves processing within a minute
	takeOver    = 50 * time.Second // another node's order is taken then
	lastCall    = 57 * time.Second // such an order, if the other node may still be at it, is given up then
	tryAgain    = 2 * time.Second  // between two tries of one order; doubles
	caaFresh    = 8 * time.Hour    // rule A44
)

func (w *workers) finalizeAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-w.jobs:
			w.finish(ctx, j)
		}
	}
}

// finish passes an order through the door. What the client caused makes the
// order invalid; what is only away is tried again until the order has to leave
// processing. An order that waits for a person is parked until one has decided.
func (w *workers) finish(ctx context.Context, j *job) {
	s := w.s
	began := s.Now()
	cert, err := s.issue(ctx, j)
	outcome := statusValid
	switch f := fault.Of(err); {
	case err == nil:
		j.order.CertificateID = cert.ID
	case issuance.IsWaiting(err):
		outcome = s.park(ctx, j)
	case f.Kind == fault.Pending && s.Now().Sub(*j.order.ProcessingAt) < giveUpAfter:
		outcome = "retry"
	case w.later(ctx, j, f):
		s.Log.WarnContext(ctx, "order will be tried again", "order", j.order.ID, "error", err)
		s.Observe(Event{What: "finalize", Outcome: "retry", Took: s.Now().Sub(began)})
		return // still held: the timer has it
	case ctx.Err() != nil:
		outcome = "error" // the server stops; the next start resumes
	case f.Kind == fault.Pending: // should that node bring it off after all, the order is valid
		outcome = s.fail(ctx, j, fault.Wrap(fault.Unavailable, err, "the certificate could not be made in time: place a new order"))
	default:
		outcome = s.fail(ctx, j, err)
	}
	w.release(j.order.ID)
	close(j.done)
	s.Observe(Event{What: "finalize", Outcome: outcome, Took: s.Now().Sub(began)})
}

// later puts a job back into the queue if the fault may pass in time.
func (w *workers) later(ctx context.Context, j *job, f *fault.Error) bool {
	delay, end := tryAgain<<j.tries, giveUpAfter
	switch f.Kind {
	case fault.Unavailable, fault.Internal, fault.Conflict, fault.RateLimited:
	case fault.Pending: // reserved by the node that the order was taken from
		delay, end = tryAgain, lastCall
	default:
		return false
	}
	if ctx.Err() != nil || w.s.Now().Sub(*j.order.ProcessingAt)+delay > end {
		return false
	}
	j.tries++
	time.AfterFunc(delay, func() {
		select {
		case w.jobs <- j:
		default:
			w.release(j.order.ID)
			close(j.done)
		}
	})
	return true
}

// fail makes an order invalid and says why.
func (s *Server) fail(ctx context.Context, j *job, cause error) (outcome string) {
	cause = badCSR(cause)
	problem := problemJSON(cause)
	f := fault.Of(cause)
	detail, _ := json.Marshal(map[string]string{"kind": f.Kind.String(), "reason": f.Reason, "cause": f.Error()})
	err := s.Store.FailOrder(ctx, j.order.ID, problem, &store.Event{
		At: s.Now(), Action: "order.failed", Outcome: "failure", Actor: "account:" + j.order.AccountID,
		Subject: "order:" + j.order.ID, RequestID: j.requestID, Detail: detail,
	})
	if err != nil && !fault.Is(err, fault.Conflict) { // the sweep will find it again
		s.Log.ErrorContext(ctx, "failure of an order not recorded", "order", j.order.ID, "cause", cause, "error", err)
		return "error"
	}
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		s.Log.ErrorContext(ctx, "order failed", "order", j.order.ID, "error", cause)
	}
	if err == nil {
		j.order.Status, j.order.Error, j.err = statusInvalid, problem, cause
	}
	return statusInvalid
}

// park takes an order out of processing while a person decides (RFC 8555,
// section 7.4: to the client it is processing). A park that fails is made good
// by the sweep, which asks the door again.
func (s *Server) park(ctx context.Context, j *job) (outcome string) {
	if err := s.Store.ParkOrder(ctx, j.order.ID); err != nil && !fault.Is(err, fault.Conflict) {
		s.Log.WarnContext(ctx, "order that waits for approval not parked", "order", j.order.ID, "error", err)
		return "error"
	}
	j.order.Status, j.order.Approval = statusWaiting, store.RequestPending
	return "waiting"
}

// evidence is how the requester proved a name, for the audit record.
type evidence struct {
	Authorization string `json:"authorization"`
	Name          string `json:"name"`
	Method        string `json:"method"`
	ValidatedAt   string `json:"validated_at,omitempty"`
}

// issue asks the door for the order's certificate.
func (s *Server) issue(ctx context.Context, j *job) (*issuance.Certificate, error) {
	o := &j.order
	ep := s.current().endpoints[o.Endpoint]
	if ep == nil {
		return nil, fault.New(fault.Denied, "endpoint %q does not exist any more", o.Endpoint)
	}
	if prof := s.Pipeline.Rules().Profiles[o.Profile]; prof != nil && prof.Approval() { // a person may have taken days
		if err := s.stillGood(ctx, j); err != nil {
			return nil, err
		}
	}
	if j.csr == nil {
		csr, err := pki.ParseCSR(ctx, o.CSR)
		if err != nil {
			return nil, err
		}
		j.csr = csr
	}
	if err := s.recheckCAA(ctx, ep, j); err != nil {
		return nil, err
	}
	proof := make([]evidence, len(j.authzs))
	for i := range j.authzs {
		a := &j.authzs[i]
		proof[i] = evidence{Authorization: a.ID, Name: display(a), Method: a.Attempted, ValidatedAt: stamp(value(a.ValidatedAt))}
	}
	text, err := json.Marshal(proof)
	if err != nil {
		return nil, err
	}
	return s.Pipeline.Issue(ctx, issuance.Request{
		Endpoint: o.Endpoint, Protocol: "acme", Profile: o.Profile, Issuer: ep.Issuer, Origin: "order:" + o.ID,
		CSR: j.csr, Names: o.Identifiers, NotBefore: value(o.NotBefore), NotAfter: value(o.NotAfter),
		Requester: "account:" + o.AccountID, Evidence: text, RequestID: j.requestID, DecideBy: o.Expires,
	})
}

// recheckCAA asks again for names whose authorization, and with it the CAA
// check, is older than eight hours (rule A44).
func (s *Server) recheckCAA(ctx context.Context, ep *endpoint, j *job) error {
	var bad []*fault.Error
	for i := range j.authzs {
		a := &j.authzs[i]
		if a.Identifier.Type != pki.DNS || a.ValidatedAt == nil || s.Now().Sub(*a.ValidatedAt) < caaFresh {
			continue
		}
		if err := s.Validator.CheckCAA(ctx, a.Identifier, a.Wildcard, ep.accountURLs(a.AccountID), a.Attempted); err != nil {
			bad = append(bad, fault.Of(err).About(string(a.Identifier.Type), display(a)))
		}
	}
	return combine(bad)
}

// sweepOrders takes up orders that nobody finishes: at start all that this node
// left, and those of any node that are overdue.
func (w *workers) sweepOrders(ctx context.Context, start bool) error {
	var found []store.Order
	var err error
	if start {
		if found, err = w.s.Store.ProcessingOrders(ctx, w.s.Node, w.s.Now()); err != nil {
			return err
		}
	}
	overdue, err := w.s.Store.ProcessingOrders(ctx, "", w.s.Now().Add(-takeOver))
	if err != nil {
		return err
	}
	for _, o := range append(found, overdue...) {
		if err := w.take(ctx, o); err != nil {
			return err
		}
	}
	return w.resume(ctx)
}

// resume takes up orders that a person has approved.
func (w *workers) resume(ctx context.Context) error {
	approved, err := w.s.Store.ResumableOrders(ctx, sweepLimit)
	if err != nil {
		return err
	}
	for _, o := range approved {
		err := w.s.Store.ResumeOrder(ctx, o.ID, w.s.Node, w.s.Now())
		if fault.Is(err, fault.Conflict) {
			continue // another node was quicker
		}
		if err != nil {
			return err
		}
		full, authzs, err := w.s.Store.Order(ctx, o.ID)
		if err != nil {
			return err
		}
		w.finalize(&job{order: *full, authzs: authzs, done: make(chan struct{})})
	}
	return nil
}

// stillGood asks of an order that waited for a person what was true when it was
// finalized: its account and its authorizations are still valid.
func (s *Server) stillGood(ctx context.Context, j *job) error {
	account, err := s.Store.Account(ctx, j.order.AccountID)
	if err != nil {
		return err
	}
	if account.Status != statusValid {
		return fault.New(fault.Denied, "the account is %s", account.Status).Because("account_" + account.Status)
	}
	now := s.Now()
	for i := range j.authzs {
		if a := &j.authzs[i]; authzStatus(a, now) != statusValid {
			return fault.New(fault.Denied, "the authorization of %s is %s", display(a), authzStatus(a, now)).Because("authorization_" + authzStatus(a, now))
		}
	}
	return nil
}

// take makes this node the one that finishes an order. The time since which it
// is processed stays in the job, so that an old order is given up sooner.
func (w *workers) take(ctx context.Context, o store.Order) error {
	if w.held(o.ID) {
		return nil
	}
	err := w.s.Store.TakeOrder(ctx, o, w.s.Node, w.s.Now())
	if fault.Is(err, fault.Conflict) {
		return nil // it is in both lists, or another node was quicker
	}
	if err != nil {
		return err
	}
	full, authzs, err := w.s.Store.Order(ctx, o.ID)
	if err != nil {
		return err
	}
	full.ProcessingAt = o.ProcessingAt
	w.finalize(&job{order: *full, authzs: authzs, done: make(chan struct{})})
	return nil
}
