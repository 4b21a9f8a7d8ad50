package acme

import (
	"context"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// claimFor is how long an attempt belongs to the worker that began it: a little
// longer than challenge.Validator takes.
const claimFor = 20 * time.Second

// retryDelays follow the first, second … failed attempt (RFC 8555, section 8.2);
// after the last attempt the challenge is invalid.
var retryDelays = []time.Duration{2 * time.Second, 8 * time.Second}

// recordDelay is how long an attempt waits to be made again whose outcome could
// not be recorded.
const recordDelay = time.Second

func (w *workers) validateAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-w.validations:
			w.attempt(ctx, a)
		}
	}
}

// attempt makes one attempt and records what came out of it. If that cannot be
// recorded it is made again; the row says that an attempt is due, so that the
// sweep repeats it if this process ends.
func (w *workers) attempt(ctx context.Context, a attempt) {
	s := w.s
	began := s.Now()
	defer a.answer()
	rec, err := s.Validator.Validate(ctx, s.task(&a))
	outcome := statusValid
	switch {
	case ctx.Err() != nil: // the server stops; it proved nothing
		w.release(a.ID)
		return
	case err == nil:
		err = s.succeed(ctx, &a.Authorization, rec)
	case again(err) && a.Attempts < len(w.delays):
		outcome = "retry"
		err = w.retry(ctx, a, err)
		if err == nil {
			s.Observe(Event{What: a.Attempted, Outcome: outcome, Took: s.Now().Sub(began)})
			return // still held: the timer has it
		}
	default:
		outcome = statusInvalid
		err = s.decline(ctx, &a.Authorization, rec, err)
	}
	if err != nil && !fault.Is(err, fault.Conflict) { // a conflict: it was deactivated meanwhile
		outcome = "error"
		s.Log.ErrorContext(ctx, "validation not recorded", "authorization", a.ID, "error", err)
	}
	if fault.Is(err, fault.Unavailable) { // the same attempt again, soon; it stays held
		repeated := a
		repeated.recorded = nil
		time.AfterFunc(recordDelay, func() { w.requeue(repeated) })
	} else {
		w.release(a.ID)
	}
	s.Observe(Event{What: a.Attempted, Outcome: outcome, Took: s.Now().Sub(began)})
}

// again reports whether another attempt may end better. What CAA or policy says
// does not change within seconds.
func again(err error) bool {
	switch f := fault.Of(err); f.Kind {
	case fault.CAA, fault.RejectedIdentifier, fault.Malformed:
		return false
	default:
		return f.Reason != "address_refused"
	}
}

// task is what the validator needs. The key authorization is that of the key
// with which the client asked (rule A39).
func (s *Server) task(a *attempt) challenge.Task {
	t := challenge.Task{
		Type: a.Attempted, Identifier: a.Identifier, Wildcard: a.Wildcard, Token: a.Token,
		KeyAuthorization: a.Token + "." + a.Thumbprint,
	}
	if ep := s.current().endpoints[a.endpoint]; ep != nil {
		urls := ep.accountURLs(a.AccountID)
		t.AccountURI, t.AccountURIs = urls[0], urls[1:]
	}
	return t
}

func (s *Server) succeed(ctx context.Context, a *store.Authorization, rec challenge.Record) error {
	at := s.Now()
	ev := s.validated(a, "success", at, "")
	return s.Store.FinishChallenge(ctx, a.ID, a.Attempted, true, nil, recordJSON(rec), at,
		at.Add(s.current().cfg.Lifetimes.Authorization), &ev)
}

func (s *Server) decline(ctx context.Context, a *store.Authorization, rec challenge.Record, cause error) error {
	at := s.Now()
	ev := s.validated(a, "failure", at, fault.Of(cause).Error())
	return s.Store.FinishChallenge(ctx, a.ID, a.Attempted, false, problemJSON(cause), recordJSON(rec), at, a.Expires, &ev)
}

// validated is the audit event of a decided authorization.
func (s *Server) validated(a *store.Authorization, outcome string, at time.Time, cause string) store.Event {
	detail, _ := json.Marshal(map[string]string{"identifier": display(a), "method": a.Attempted, "cause": cause})
	return store.Event{
		At: at, Action: "authorization.validated", Outcome: outcome, Actor: "account:" + a.AccountID, Subject: a.ID, Detail: detail,
	}
}

func recordJSON(rec challenge.Record) json.RawMessage {
	text, _ := json.Marshal(rec) // a struct of strings and times: cannot fail
	return text
}

// retry records a failed attempt and puts the next one into the queue when it is
// due. The claim covers the delay and the attempt.
func (w *workers) retry(ctx context.Context, a attempt, cause error) error {
	a.recorded = nil // who waits is told that the first attempt failed
	delay := w.delays[a.Attempts]
	next := w.s.Now().Add(delay)
	a.Attempts++
	a.NextAttemptAt, a.Error = &next, problemJSON(cause)
	if err := w.s.Store.RetryChallenge(ctx, a.ID, a.Attempts, next, a.Error); err != nil {
		return err
	}
	time.AfterFunc(delay, func() { w.requeue(a) })
	return nil
}

// sweepChallenges takes attempts that are due and that nobody makes: those of a
// process that ended, or that found the queue full. Where no other process can
// be at work, none has to be waited for at start.
func (w *workers) sweepChallenges(ctx context.Context, start bool) error {
	due := w.s.Now()
	if start && w.s.Alone {
		due = due.Add(claimFor)
	}
	found, err := w.s.Store.PendingChallenges(ctx, due, sweepLimit)
	if err != nil {
		return err
	}
	for _, a := range found {
		if !w.hold(a.ID) {
			continue
		}
		endpoint, err := w.claim(ctx, &a, due)
		if err != nil {
			w.release(a.ID)
			if fault.Is(err, fault.Conflict) {
				continue // another node was quicker
			}
			return err
		}
		w.requeue(attempt{Authorization: a, endpoint: endpoint})
	}
	return nil
}

// claim makes a due attempt this node's and returns the account's endpoint.
func (w *workers) claim(ctx context.Context, a *store.Authorization, due time.Time) (endpoint string, err error) {
	claimed, err := w.s.Store.ClaimChallenge(ctx, a.ID, due, w.s.Now().Add(claimFor))
	if err != nil {
		return "", err
	}
	if !claimed {
		return "", fault.New(fault.Conflict, "claimed by another node")
	}
	account, err := w.s.Store.Account(ctx, a.AccountID)
	if err != nil {
		return "", err
	}
	return account.Endpoint, nil
}
