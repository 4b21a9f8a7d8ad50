package acme

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// challengeView is a challenge object (RFC 8555, section 7.1.5).
type challengeView struct {
	Type      string          `json:"type"`
	URL       string          `json:"url"`
	Status    string          `json:"status"`
	Validated string          `json:"validated,omitempty"`
	Token     string          `json:"token"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// newToken returns a challenge token of 192 random bits (rule A37).
func newToken() string {
	var b [24]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// challengeView derives a challenge from its authorization: all challenges of
// one share the token, and one of them at most is attempted.
func (e *endpoint) challengeView(a *store.Authorization, typ string) challengeView {
	v := challengeView{Type: typ, URL: e.challenge(a.ID, typ), Status: statusPending, Token: a.Token}
	if a.Attempted != typ {
		return v
	}
	v.Error = a.Error
	switch {
	case a.Status == statusPending:
		v.Status = statusProcessing
	case a.Status == statusInvalid:
		v.Status = statusInvalid
	case a.ValidatedAt != nil:
		v.Status, v.Validated, v.Error = statusValid, stamp(*a.ValidatedAt), nil
	}
	return v
}

// challenge reads a challenge (empty payload) or asks for its validation, which
// runs on its own; that it was asked for is on record before the client is
// answered (RFC 8555, section 7.5.1). A client that asks twice is answered twice (rule A38).
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, c *call) error {
	typ := chi.URLParam(r, "type")
	a, err := s.loadAuthorization(r.Context(), c, chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	if !offers(a, typ) {
		return fault.New(fault.NotFound, "no such challenge")
	}
	if !c.reading() {
		if err := c.decode(&struct{}{}); err != nil {
			return err
		}
		if err := s.start(r, c, a, typ); err != nil {
			return err
		}
	}
	v := c.ep.challengeView(a, typ)
	if v.Status == statusPending || v.Status == statusProcessing {
		w.Header().Set("Retry-After", seconds(s.untilAttempt(a)))
	}
	w.Header().Add("Link", link(c.ep.authorization(a.ID), "up"))
	return reply(w, http.StatusOK, v)
}

// start records that a challenge is to be validated and hands it to a worker.
func (s *Server) start(r *http.Request, c *call, a *store.Authorization, typ string) error {
	if idle(a) && a.StatusAt(s.Now()) == statusPending {
		if err := s.work.validations.Room(keyOf(a.ID, c.account)); err != nil {
			return tooMany("validations under way", err)
		}
		until := s.Now().Add(claimFor)
		started, err := s.Store.StartChallenge(r.Context(), a.ID, typ, c.account.Thumbprint, until)
		if err != nil {
			return err
		}
		if started {
			a.Attempted, a.Thumbprint = typ, c.account.Thumbprint
			return s.awaitValidation(r.Context(), c, a, until)
		}
		if err := s.reload(r.Context(), a); err != nil { // somebody was quicker
			return err
		}
	}
	switch status := a.StatusAt(s.Now()); {
	case status != statusPending && status != statusValid:
		return fault.New(fault.Malformed, "the authorization is %s; its challenges cannot be tried again", status)
	case a.Attempted != typ:
		return fault.New(fault.Malformed, "the authorization is being decided by its %s challenge", a.Attempted)
	}
	return nil
}

// awaitValidation hands a started challenge to a worker and waits a little for the
// first attempt: most names are proved within milliseconds, and the client is
// spared its polls.
func (s *Server) awaitValidation(ctx context.Context, c *call, a *store.Authorization, claimed time.Time) error {
	recorded := make(chan struct{})
	waiting := &attempt{
		Authorization: *a, endpoint: c.ep.Name, eabKID: c.account.EABKID, claimed: claimed, recorded: recorded,
	}
	if s.work.validations.Add(keyOf(a.ID, c.account), waiting) != nil {
		return nil // a sweep finds it
	}
	timer := time.NewTimer(s.work.patience)
	defer timer.Stop()
	select {
	case <-recorded:
		return s.reload(ctx, a)
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// reload reads an authorization as it is by now.
func (s *Server) reload(ctx context.Context, a *store.Authorization) error {
	now, err := s.Store.Authorization(ctx, a.ID)
	if err == nil {
		*a = *now
	}
	return err
}

// idle reports whether no challenge of the authorization was attempted yet.
func idle(a *store.Authorization) bool { return a.Attempted == "" }
