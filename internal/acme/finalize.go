package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/work"
)

// finalizeWait is how long a client is kept waiting for its certificate before
// it is told to poll: most are ready by then.
const finalizeWait = 2 * time.Second

const (
	giveUpAfter = 45 * time.Second // an order leaves processing within a minute
	takeOver    = 50 * time.Second // another node's order is taken then
	lastCall    = 57 * time.Second // such an order, if the other node may still be at it, is given up then
	tryAgain    = 2 * time.Second  // between two tries of one order; doubles
	caaFresh    = 8 * time.Hour    // rule A44
)

// job is an order to finish. When done is closed, the order's status, error and
// certificate say how far it came.
type job struct {
	order     store.Order
	authzs    []store.Authorization
	csr       *pki.CSR // nil: to be parsed from the order
	requestID string
	eabKID    string // of the account
	tries     int    // that failed because something was away
	err       error  // why the order is invalid, if this job made it so
	done      chan struct{}
}

// finalize takes the CSR of an order (RFC 8555, section 7.4). The CSR is stored
// with the move to processing; a worker passes it through the door. The same CSR
// again finds the order as it is (rule A40).
func (s *Server) finalize(w http.ResponseWriter, r *http.Request, c *call) error {
	ctx := r.Context()
	var p struct {
		CSR string `json:"csr"`
	}
	if err := c.decode(&p); err != nil {
		return err
	}
	der, err := decodeBase64(p.CSR)
	if err != nil || len(der) == 0 {
		return fault.Wrap(fault.BadCSR, err, `"csr" is not a DER request in base64url without padding`)
	}
	o, authzs, err := s.loadOrder(ctx, c, chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	if status, _ := orderStatus(o, authzs, s.Now()); status != statusReady {
		return s.finalizeAgain(w, c, o, authzs, der, status)
	}
	csr, err := pki.ParseCSR(ctx, der)
	if err != nil {
		return badCSR(err)
	}
	if err := s.checkCSR(ctx, c, o, csr); err != nil {
		return badCSR(err)
	}
	if err := s.work.orders.Room(keyOf(o.ID, c.account)); err != nil {
		return tooMany("orders being finalized", err)
	}
	at := s.Now()
	if err := s.Store.StartFinalize(ctx, o.ID, der, s.Node, at); err != nil {
		if fault.Is(err, fault.NotReady) { // another request was quicker
			if o, authzs, err = s.loadOrder(ctx, c, o.ID); err != nil {
				return err
			}
			status, _ := orderStatus(o, authzs, s.Now())
			return s.finalizeAgain(w, c, o, authzs, der, status)
		}
		return err
	}
	o.Status, o.CSR, o.Node, o.ProcessingAt = statusProcessing, der, s.Node, &at
	if err := s.await(ctx, c, o, authzs, csr); fault.Is(err, fault.BadCSR) {
		return err // what only the door could see, such as a compromised key
	}
	return s.showOrder(w, http.StatusOK, c, o, authzs)
}

// finalizeAgain answers a finalize of an order that is not ready: a repeated one
// gets the order, any other orderNotReady.
func (s *Server) finalizeAgain(
	w http.ResponseWriter, c *call, o *store.Order, authzs []store.Authorization, der []byte, status string,
) error {
	if (status == statusProcessing || status == statusValid) && bytes.Equal(o.CSR, der) {
		return s.showOrder(w, http.StatusOK, c, o, authzs)
	}
	return fault.New(fault.NotReady, "the order is %s", status).Because("order_" + status)
}

// await hands the order to a worker and waits a little for the outcome. The
// error says why the order became invalid.
func (s *Server) await(ctx context.Context, c *call, o *store.Order, authzs []store.Authorization, csr *pki.CSR) error {
	j := &job{order: *o, authzs: authzs, csr: csr, requestID: c.id, eabKID: c.account.EABKID, done: make(chan struct{})}
	if s.work.orders.Add(keyOf(o.ID, c.account), j) != nil {
		return nil // the sweep finds it
	}
	timer := time.NewTimer(finalizeWait)
	defer timer.Stop()
	select {
	case <-j.done:
		o.Status, o.Error, o.CertificateID, o.Approval = j.order.Status, j.order.Error, j.order.CertificateID,
			j.order.Approval
		return j.err
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// finish passes an order through the door. What the client caused makes the
// order invalid; what is only away is tried again until the order has to leave
// processing. An order that waits for a person is parked until one has decided.
func (s *Server) finish(ctx context.Context, j *job, _ *work.Turn) (next work.Next) {
	next = work.Done // also if it panics
	defer func() {
		if next == work.Done {
			close(j.done)
		}
	}()
	began := s.Now()
	cert, err := s.issue(ctx, j)
	outcome := statusValid
	f := fault.Of(err)
	delay, later := s.later(j, f)
	switch {
	case err == nil:
		j.order.CertificateID = cert.ID
	case issuance.IsWaiting(err):
		outcome = s.park(ctx, j)
	case ctx.Err() != nil:
		outcome = "error" // the server stops; the next start resumes
	case later:
		outcome, next = "retry", work.After(delay)
		j.tries++
		s.Log.WarnContext(ctx, "order will be tried again", "order", j.order.ID, "error", err)
	case f.Kind == fault.Pending: // should that node bring it off after all, the order is valid
		outcome = s.fail(ctx, j, fault.Wrap(fault.Unavailable, err,
			"the certificate could not be made in time: place a new order"))
	default:
		outcome = s.fail(ctx, j, err)
	}
	s.Observe(Event{What: "finalize", Outcome: outcome, Took: s.Now().Sub(began)})
	return next
}

// later reports whether a fault may pass before the order has to leave
// processing, and when to look again.
func (s *Server) later(j *job, f *fault.Error) (time.Duration, bool) {
	if f == nil {
		return 0, false
	}
	delay, end := tryAgain<<j.tries, giveUpAfter
	switch f.Kind {
	case fault.Unavailable, fault.Internal, fault.Conflict, fault.RateLimited:
	case fault.Pending: // it is reserved by somebody who may be at work, such as the node it was taken from
		delay, end = tryAgain, lastCall
	default:
		return 0, false
	}
	return delay, s.Now().Sub(*j.order.ProcessingAt)+delay <= end
}

// issue asks the door for the order's certificate.
func (s *Server) issue(ctx context.Context, j *job) (*issuance.Certificate, error) {
	o := &j.order
	ep := s.current().endpoints[o.Endpoint]
	if ep == nil {
		return nil, gone(o.Endpoint)
	}
	if prof := s.Pipeline.Rules().Profiles[o.Profile]; prof != nil && prof.Approval() { // nobody is asked in vain
		if err := s.stands(ctx, ep, o.ID); err != nil {
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
	bound, err := s.EAB.Bound(ctx, j.eabKID)
	if err != nil {
		return nil, err
	}
	text, err := proof(j.authzs)
	if err != nil {
		return nil, err
	}
	cert, err := s.Pipeline.Issue(ctx, issuance.Request{
		Endpoint: o.Endpoint, Protocol: "acme", Profile: o.Profile, Issuer: ep.Issuer, Origin: "order:" + o.ID,
		CSR: j.csr, Subject: proved(j.csr), Names: o.Identifiers, NotBefore: value(o.NotBefore),
		NotAfter:  value(o.NotAfter),
		Requester: "account:" + o.AccountID, Evidence: text, RequestID: j.requestID, DecideBy: o.Expires, Bound: bound,
		While: &store.OrderStands{ID: o.ID, Bound: ep.RequireEAB},
	})
	if store.HasCeased(err) {
		if why := s.stands(ctx, ep, o.ID); why != nil {
			return nil, why
		}
	}
	return cert, err
}

// stands says what an order does not rest on any more. The reservation decides
// (store.OrderStands); this finds the words.
func (s *Server) stands(ctx context.Context, ep *endpoint, orderID string) error {
	o, authzs, err := s.Store.Order(ctx, orderID)
	if err != nil {
		return err
	}
	account, err := s.Store.Account(ctx, o.AccountID)
	if err != nil {
		return err
	}
	if account.Status != statusValid {
		return fault.New(fault.Denied, "the account is %s", account.Status).Because("account_" + account.Status)
	}
	key, err := parseJWK(account.JWK)
	if err == nil {
		err = blockedSigner(s.Pipeline.CheckKey(ctx, key.key))
	}
	if err != nil {
		return err
	}
	now := s.Now()
	for i := range authzs {
		if err := issuance.AuthorizationEnded(&authzs[i], now); err != nil {
			return err
		}
	}
	if !ep.RequireEAB || account.EABKID == "" {
		return nil
	}
	binding, err := s.Store.EAB(ctx, account.EABKID)
	if err == nil && binding.DisabledAt != nil && !binding.DisabledAt.Before(o.CreatedAt) {
		err = fault.New(fault.Denied, "the key of the account's external account binding was disabled after the order "+
			"was placed: ask the operator of this CA").Because("eab_disabled")
	}
	return missing(err, "the key of the account's external account binding is gone")
}

// recheck judges once more what an order rests on that waits for a person.
func (s *Server) recheck(ctx context.Context, row *store.Request, _ issuance.Request) error {
	ep := s.current().endpoints[row.Endpoint]
	if ep == nil {
		return gone(row.Endpoint)
	}
	id, _ := strings.CutPrefix(row.Origin, "order:")
	return missing(s.stands(ctx, ep, id), "the order is gone")
}

func gone(endpoint string) error {
	return fault.New(fault.Denied, "the endpoint %q does not exist any more", endpoint).Because("endpoint_gone")
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

// proof is the evidence of an order's authorizations.
func proof(authzs []store.Authorization) (json.RawMessage, error) {
	list := make([]evidence, len(authzs))
	for i := range authzs {
		a := &authzs[i]
		list[i] = evidence{
			Authorization: a.ID, Name: a.Name(), Method: a.Attempted, ValidatedAt: stamp(value(a.ValidatedAt)),
		}
	}
	return json.Marshal(list)
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
		if err := s.Validator.CheckCAA(ctx, a.Identifier, a.Wildcard, ep.accountURLs(a.AccountID),
			a.Attempted); err != nil {
			bad = append(bad, fault.Of(err).About(string(a.Identifier.Type), a.Name()))
		}
	}
	return combine(bad)
}
