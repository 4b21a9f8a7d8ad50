package acme

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
	"github.com/privyseal/privyseal/internal/work"
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

// attempt is a challenge to validate.
type attempt struct {
	store.Authorization
	endpoint string        // of the account
	eabKID   string        // of the EAB key that made the account, if any
	claimed  time.Time     // until when no other node takes it
	recorded chan struct{} // closed once its outcome is on record; nil if nobody waits
}

// answer tells who waits that there is something to read.
func (a *attempt) answer() {
	if a.recorded != nil {
		close(a.recorded)
		a.recorded = nil
	}
}

// validate makes one attempt and records what came out of it. If that cannot be
// recorded it is made again; the row says that an attempt is due, so that a
// sweep repeats it if this process ends.
func (s *Server) validate(ctx context.Context, a *attempt, turn *work.Turn) (next work.Next) {
	next = work.Done // also if it panics
	defer func() {
		if next != work.Wait {
			a.answer()
		}
	}()
	began := s.Now()
	switch ours, err := s.stillOurs(ctx, a); {
	case err != nil:
		return work.After(recordDelay)
	case !ours:
		return work.Done
	}
	task := s.task(a)
	task.Admit = func(ip netip.Addr) bool { return turn.Enter(web.Source(ip)) }
	rec, err := s.Validator.Validate(ctx, task)
	switch {
	case ctx.Err() != nil: // the server stops; it proved nothing
		return work.Done
	case challenge.IsBusy(err):
		return work.Wait
	}
	outcome, next := s.record(ctx, a, rec, err)
	s.Observe(Event{What: a.Attempted, Outcome: outcome, Took: s.Now().Sub(began)})
	return next
}

// stillOurs claims an attempt again that had to wait for longer than its claim
// lasts, or for its next try.
func (s *Server) stillOurs(ctx context.Context, a *attempt) (bool, error) {
	now := s.Now()
	if s.Alone || now.Before(a.claimed) {
		return true, nil
	}
	until := now.Add(claimFor)
	ours, err := s.Store.ClaimChallenge(ctx, a.ID, now, until)
	if ours {
		a.claimed = until
	}
	return ours, err
}

// record puts the outcome of an attempt on record.
func (s *Server) record(
	ctx context.Context, a *attempt, rec challenge.Record, cause error,
) (outcome string, next work.Next) {
	var err error
	outcome, next = statusValid, work.Done
	switch {
	case cause == nil:
		err = s.succeed(ctx, &a.Authorization, rec)
	case again(cause) && a.Attempts < len(s.work.delays):
		outcome, next = "retry", work.After(s.work.delays[a.Attempts])
		err = s.retry(ctx, a, rec, cause)
	default:
		outcome = statusInvalid
		err = s.decline(ctx, &a.Authorization, rec, cause)
	}
	switch {
	case err == nil:
		if outcome == statusInvalid {
			s.logFailure(ctx, a, rec, cause)
		}
		return outcome, next
	case fault.Is(err, fault.Conflict): // it was deactivated meanwhile
		return outcome, work.Done
	case fault.Is(err, fault.Unavailable), fault.Is(err, fault.Internal):
		next = work.After(recordDelay)
	default:
		next = work.Done
	}
	s.Log.ErrorContext(ctx, "validation not recorded", "authorization", a.ID, "error", err)
	return "error", next
}

// logFailure tells an operator whose validation failed, where and why.
func (s *Server) logFailure(ctx context.Context, a *attempt, rec challenge.Record, cause error) {
	var tried []string
	for _, h := range rec.Hops {
		for _, ip := range h.Tried {
			if !slices.Contains(tried, ip.String()) {
				tried = append(tried, ip.String())
			}
		}
	}
	s.Log.InfoContext(ctx, "validation failed", "name", a.Name(), "address", strings.Join(tried, ","),
		"method", a.Attempted, "cause", fault.Of(cause).Error(), "account", a.AccountID, "eab_key", a.eabKID,
		"authorization", a.ID)
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
		KeyAuthorization: a.Token + "." + a.Thumbprint, Attempt: a.Attempts,
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
	return s.Store.FinishChallenge(ctx, a.ID, a.Attempted, false, challengeJSON(cause), recordJSON(rec), at,
		a.Expires, &ev)
}

// validated is the audit event of a decided authorization.
func (s *Server) validated(a *store.Authorization, outcome string, at time.Time, cause string) store.Event {
	detail, _ := json.Marshal(map[string]string{"identifier": a.Name(), "method": a.Attempted, "cause": cause})
	return store.Event{
		At: at, Action: "authorization.validated", Outcome: outcome, Actor: "account:" + a.AccountID, Subject: a.ID,
		Detail: detail,
	}
}

func recordJSON(rec challenge.Record) json.RawMessage {
	text, _ := json.Marshal(rec) // a struct of strings and times: cannot fail
	return text
}

// retry records a failed attempt and when the next one is due. Who waits for the
// answer is told that the first attempt failed.
func (s *Server) retry(ctx context.Context, a *attempt, rec challenge.Record, cause error) error {
	due := s.Now().Add(s.work.delays[a.Attempts])
	problem := challengeJSON(cause)
	if err := s.Store.RetryChallenge(ctx, a.ID, a.Attempts+1, due, problem, recordJSON(rec)); err != nil {
		return err
	}
	a.Attempts++
	a.NextAttemptAt, a.Error, a.claimed = &due, problem, due
	return nil
}
