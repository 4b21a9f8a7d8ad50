package acme

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// orderView is an order object (RFC 8555, section 7.1.3).
type orderView struct {
	Status         string           `json:"status"`
	Expires        string           `json:"expires,omitempty"`
	Identifiers    []pki.Identifier `json:"identifiers"`
	Profile        string           `json:"profile,omitempty"`
	NotBefore      string           `json:"notBefore,omitempty"`
	NotAfter       string           `json:"notAfter,omitempty"`
	Replaces       string           `json:"replaces,omitempty"`
	Error          json.RawMessage  `json:"error,omitempty"`
	Authorizations []string         `json:"authorizations"`
	Finalize       string           `json:"finalize"`
	Certificate    string           `json:"certificate,omitempty"`
}

// orderStatus is what an order is by now, and the problem that says why it is
// invalid.
func orderStatus(o *store.Order, authzs []store.Authorization, now time.Time) (status string, problem json.RawMessage) {
	s := issuance.StandingOf(o, authzs, now)
	if s.Err != nil {
		s.Problem = problemJSON(s.Err)
	}
	return s.Status, s.Problem
}

func (e *endpoint) orderView(o *store.Order, authzs []store.Authorization, now time.Time) orderView {
	v := orderView{
		Expires: stamp(o.Expires), Identifiers: o.Identifiers, Profile: o.Profile, Replaces: o.Replaces,
		Authorizations: make([]string, len(o.AuthorizationIDs)), Finalize: e.order(o.ID) + "/finalize",
	}
	v.Status, v.Error = orderStatus(o, authzs, now)
	for i, id := range o.AuthorizationIDs {
		v.Authorizations[i] = e.authorization(id)
	}
	if o.NotBefore != nil {
		v.NotBefore = stamp(*o.NotBefore)
	}
	if o.NotAfter != nil {
		v.NotAfter = stamp(*o.NotAfter)
	}
	if o.CertificateID != "" {
		v.Certificate = e.certificate(o.CertificateID)
	}
	return v
}

// showOrder answers with an order. One that is being processed says when to ask
// again (rule A12).
func (s *Server) showOrder(
	w http.ResponseWriter, status int, c *call, o *store.Order, authzs []store.Authorization,
) error {
	v := c.ep.orderView(o, authzs, s.Now())
	w.Header().Set("Location", c.ep.order(o.ID))
	if v.Status == statusProcessing {
		w.Header().Set("Retry-After", orderRetry(o))
	}
	return reply(w, status, v)
}

// orderRetry is when to ask for an order again: soon, unless a person decides.
func orderRetry(o *store.Order) string {
	if o.Status == statusWaiting {
		return "30"
	}
	return "1"
}

// loadOrder reads an order of the caller's account with its authorizations.
func (s *Server) loadOrder(ctx context.Context, c *call, id string) (*store.Order, []store.Authorization, error) {
	o, authzs, err := s.Store.Order(ctx, id)
	if err != nil {
		return nil, nil, missing(err, "no such order")
	}
	return o, authzs, c.owns(o.AccountID)
}

// missing turns a row that is not there into a 404.
func missing(err error, detail string) error {
	if isNotFound(err) {
		return fault.New(fault.NotFound, "%s", detail)
	}
	return err
}

// order reads an order.
func (s *Server) order(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.asGET(); err != nil {
		return err
	}
	o, authzs, err := s.loadOrder(r.Context(), c, chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	return s.showOrder(w, http.StatusOK, c, o, authzs)
}

type newOrderPayload struct {
	Identifiers []pki.Identifier `json:"identifiers"`
	NotBefore   string           `json:"notBefore"`
	NotAfter    string           `json:"notAfter"`
	Profile     string           `json:"profile"`
	Replaces    string           `json:"replaces"`
}

// newOrder creates an order and the authorizations that the account does not
// hold yet, in one write (RFC 8555, section 7.4).
func (s *Server) newOrder(w http.ResponseWriter, r *http.Request, c *call) error {
	var p newOrderPayload
	if err := c.decode(&p); err != nil {
		return err
	}
	if err := c.termsInForce(); err != nil {
		return err
	}
	ctx, now := r.Context(), s.Now()
	o := store.Order{
		ID: store.NewID(), AccountID: c.account.ID, Endpoint: c.ep.Name, Status: statusPending,
		Expires: now.Add(c.ep.set.cfg.Lifetimes.Order), CreatedAt: now,
	}
	var err error
	if o.Identifiers, err = checkIdentifiers(p.Identifiers, c.ep.set.cfg.NamesPerOrder); err != nil {
		return err
	}
	prof, err := s.profile(c.ep, p.Profile)
	if err != nil {
		return err
	}
	o.Profile = prof.Name()
	if err := s.checkNames(c.ep, prof, o.Identifiers); err != nil {
		return err
	}
	if c.account.EABKID != "" { // the binding may be good for some profiles and names only (rule A27)
		if err := s.EAB.Permit(ctx, c.account.EABKID, o.Profile, o.Identifiers); err != nil {
			return err
		}
	}
	if o.NotBefore, o.NotAfter, err = checkPeriod(prof, p.NotBefore, p.NotAfter, now); err != nil {
		return err
	}
	if o.Replaces = p.Replaces; o.Replaces != "" {
		if err := s.checkReplaces(ctx, c, &o); err != nil {
			return err
		}
	}
	authzs, fresh, err := s.authorize(ctx, c, &o)
	if err != nil {
		return err
	}
	if o.Replaces == "" { // a renewal at its time is not held up (RFC 9773, section 5)
		if err := s.Limits.NewOrder(ctx, c.account.ID, len(fresh)); err != nil {
			return err
		}
	}
	if err := s.Store.CreateOrder(ctx, o, fresh, nil); err != nil {
		return err
	}
	return s.showOrder(w, http.StatusCreated, c, &o, authzs)
}

// profile returns the profile of an order: the one it names, which the endpoint
// must offer, or the endpoint's default (rule A65).
func (s *Server) profile(ep *endpoint, name string) (*profile.Profile, error) {
	if name == "" {
		name = ep.DefaultProfile
	} else if !slices.Contains(ep.Profiles, name) {
		return nil, fault.New(fault.InvalidProfile, "profile %q is not offered here; %s are", name,
			strings.Join(ep.Profiles, ", "))
	}
	p := s.Pipeline.Rules().Profiles[name]
	if p == nil {
		return nil, fault.New(fault.InvalidProfile, "profile %q does not exist", name)
	}
	return p, nil
}

// checkIdentifiers returns the identifiers in canonical form, each once. It
// looks at all of them, so that the client hears of every bad one (rule A32).
func checkIdentifiers(ids []pki.Identifier, limit int) ([]pki.Identifier, error) {
	if len(ids) == 0 {
		return nil, fault.New(fault.Malformed, "an order needs identifiers")
	}
	if len(ids) > limit {
		return nil, fault.New(fault.Malformed, "an order may have %d identifiers at most", limit)
	}
	out := make([]pki.Identifier, 0, len(ids))
	seen := make(map[pki.Identifier]bool, len(ids))
	var bad []*fault.Error
	for _, id := range ids {
		canonical, err := checkIdentifier(id)
		if err != nil {
			bad = append(bad, fault.Of(err).About(string(id.Type), id.Value))
			continue
		}
		if !seen[canonical] {
			seen[canonical] = true
			out = append(out, canonical)
		}
	}
	return out, combine(bad)
}

func checkIdentifier(id pki.Identifier) (pki.Identifier, error) {
	if id.Type != pki.DNS && id.Type != pki.IP {
		return id, fault.New(fault.UnsupportedIdentifier, "identifier type %q is not supported; dns and ip are",
			id.Type)
	}
	if id.Value == "" {
		return id, fault.New(fault.Malformed, "an identifier has no value")
	}
	return id.Canonical()
}

// combine makes one fault of those of several names (RFC 8555, section 6.7.1).
func combine(bad []*fault.Error) error {
	switch bad = fault.Distinct(bad); len(bad) {
	case 0:
		return nil
	case 1:
		return bad[0]
	}
	all := fault.New(bad[0].Kind, "%d identifiers are refused; the first because: %s", len(bad), bad[0].Detail)
	all.Sub = bad
	return all
}

// checkPeriod reads the validity that a client asks for. The profile must be
// able to grant exactly that (rule A33).
func checkPeriod(p *profile.Profile, notBefore, notAfter string, now time.Time) (from, to *time.Time, err error) {
	if from, err = parseTime("notBefore", notBefore); err != nil {
		return nil, nil, err
	}
	if to, err = parseTime("notAfter", notAfter); err != nil {
		return nil, nil, err
	}
	return from, to, p.CheckPeriod(value(from), value(to), now)
}

func value(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// parseTime reads an RFC 3339 time, in which "t" and "z" may be small, and rounds
// it down to the second, which is all that a certificate can hold and what the
// order shows; the zero time that some clients send counts as none (rule A33).
func parseTime(what, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no time was given
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	if err != nil || strings.Contains(text, ",") { // which Parse takes for the point before a fraction
		return nil, fault.Wrap(fault.Malformed, err, what+" is not a time as RFC 3339 writes it")
	}
	if t = t.UTC().Truncate(time.Second); t.IsZero() {
		return nil, nil //nolint:nilnil // no time was given
	}
	return &t, nil
}

// ordersPage is how many orders one page of the list has.
const ordersPage = 100

// orders lists an account's orders that are not invalid, oldest first, a page at
// a time (RFC 8555, section 7.1.2.1).
func (s *Server) orders(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.asGET(); err != nil {
		return err
	}
	if err := c.owns(chi.URLParam(r, "id")); err != nil {
		return err
	}
	ids, err := s.Store.OrdersByAccount(r.Context(), c.account.ID, r.URL.Query().Get("cursor"), s.Now(), ordersPage+1)
	if err != nil {
		return err
	}
	if len(ids) > ordersPage {
		ids = ids[:ordersPage]
		next := c.ep.account(c.account.ID) + "/orders?cursor=" + ids[ordersPage-1]
		w.Header().Add("Link", link(next, "next"))
	}
	list := struct {
		Orders []string `json:"orders"`
	}{make([]string, len(ids))}
	for i, id := range ids {
		list.Orders[i] = c.ep.order(id)
	}
	return reply(w, http.StatusOK, list)
}
