package acme

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// authorizationView is an authorization object (RFC 8555, section 7.1.4).
type authorizationView struct {
	Identifier pki.Identifier  `json:"identifier"`
	Status     string          `json:"status"`
	Expires    string          `json:"expires,omitempty"`
	Challenges []challengeView `json:"challenges"`
	Wildcard   bool            `json:"wildcard,omitempty"`
}

func (e *endpoint) authorizationView(a *store.Authorization, now time.Time) authorizationView {
	v := authorizationView{
		Identifier: a.Identifier, Status: a.StatusAt(now), Expires: stamp(a.Expires), Wildcard: a.Wildcard,
	}
	for _, typ := range shown(a) {
		v.Challenges = append(v.Challenges, e.challengeView(a, typ))
	}
	return v
}

// shown are the challenge types to list: all offers while the authorization is
// pending, afterwards only the one that decided it (RFC 8555, section 7.1.4).
func shown(a *store.Authorization) []string {
	if a.Attempted != "" && a.Status != statusPending {
		return []string{a.Attempted}
	}
	return challenge.Offered(a.Identifier, a.Wildcard)
}

// loadAuthorization reads an authorization of the caller's account.
func (s *Server) loadAuthorization(ctx context.Context, c *call, id string) (*store.Authorization, error) {
	a, err := s.Store.Authorization(ctx, id)
	if err != nil {
		return nil, missing(err, "no such authorization")
	}
	return a, c.owns(a.AccountID)
}

// authorization reads or deactivates an authorization (RFC 8555, sections 7.5
// and 7.5.2).
func (s *Server) authorization(w http.ResponseWriter, r *http.Request, c *call) error {
	a, err := s.loadAuthorization(r.Context(), c, chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	if !c.reading() {
		if err := s.deactivateAuthorization(r.Context(), c, a); err != nil {
			return err
		}
	}
	v := c.ep.authorizationView(a, s.Now())
	if v.Status == statusPending {
		w.Header().Set("Retry-After", seconds(s.untilAttempt(a)))
	}
	return reply(w, http.StatusOK, v)
}

func (s *Server) deactivateAuthorization(ctx context.Context, c *call, a *store.Authorization) error {
	var p struct {
		Status string `json:"status"`
	}
	if err := c.decode(&p); err != nil {
		return err
	}
	if p.Status != statusDeactivated {
		return fault.New(fault.Malformed,
			`an authorization can only be read, or deactivated with {"status":"deactivated"}`)
	}
	switch status := a.StatusAt(s.Now()); status {
	case statusDeactivated:
		return nil
	case statusPending, statusValid:
	default:
		return fault.New(fault.Malformed, "the authorization is %s and cannot be deactivated", status)
	}
	ev := s.event(c, "authorization.deactivated", c.actor(), a.ID, map[string]any{"identifier": a.Name()})
	if err := s.Store.DeactivateAuthorization(ctx, a.ID, ev); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	a.Status = statusDeactivated
	return nil
}

// untilAttempt is when a client should look again: at once after a first POST,
// later while a retry is due (rule A12).
func (s *Server) untilAttempt(a *store.Authorization) time.Duration {
	if a.Attempts == 0 || a.NextAttemptAt == nil {
		return time.Second
	}
	return max(time.Second, a.NextAttemptAt.Sub(s.Now())+time.Second)
}

// offers reports whether a challenge of the type belongs to the authorization.
func offers(a *store.Authorization, typ string) bool {
	return slices.Contains(challenge.Offered(a.Identifier, a.Wildcard), typ)
}

// reuseMargin is how long an authorization must last to serve a new order.
const reuseMargin = time.Hour

// authorize finds the account's valid authorizations for an order's names and
// makes the missing ones (rule A44). A valid authorization was proved by a
// method that its identifier allows, wildcard or not, so it is never weaker than
// a new one. The order ends no later than the authorizations it rests on.
func (s *Server) authorize(ctx context.Context, c *call, o *store.Order) (all, fresh []store.Authorization, err error) {
	wanted := make([]store.Authorization, len(o.Identifiers))
	for i, id := range o.Identifiers {
		name := nameOf(id)
		wanted[i] = store.Authorization{
			ID: store.NewID(), AccountID: c.account.ID, Status: statusPending,
			Identifier: name.Identifier, Wildcard: name.Wildcard,
			Expires: o.Expires, Token: newToken(), CreatedAt: o.CreatedAt,
		}
		if len(challenge.Offered(wanted[i].Identifier, wanted[i].Wildcard)) == 0 {
			return nil, nil, fault.New(fault.RejectedIdentifier, "no challenge can prove %s", id.Value).
				About(string(id.Type), id.Value)
		}
	}
	held, err := s.Store.ReusableAuthorizations(ctx, c.account.ID, namesOf(o.Identifiers), s.Now().Add(reuseMargin))
	if err != nil {
		return nil, nil, err
	}
	for i := range wanted {
		at := slices.IndexFunc(held, func(h store.Authorization) bool {
			return h.Identifier == wanted[i].Identifier && h.Wildcard == wanted[i].Wildcard
		})
		if at >= 0 {
			wanted[i] = held[at]
			if held[at].Expires.Before(o.Expires) {
				o.Expires = held[at].Expires
			}
		} else {
			fresh = append(fresh, wanted[i])
		}
		o.AuthorizationIDs = append(o.AuthorizationIDs, wanted[i].ID)
	}
	return wanted, fresh, nil
}

// nameOf splits an identifier into what an authorization is for.
func nameOf(id pki.Identifier) store.AuthorizationName {
	base, wildcard := strings.CutPrefix(id.Value, "*.")
	return store.AuthorizationName{Identifier: pki.Identifier{Type: id.Type, Value: base}, Wildcard: wildcard}
}

func namesOf(ids []pki.Identifier) []store.AuthorizationName {
	names := make([]store.AuthorizationName, len(ids))
	for i, id := range ids {
		names[i] = nameOf(id)
	}
	return names
}
