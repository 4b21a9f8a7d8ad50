package acme

import (
	"encoding/json"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// The statuses of RFC 8555, section 7.1.6, stored or derived.
const (
	statusPending     = "pending"
	statusReady       = "ready"
	statusProcessing  = "processing"
	statusWaiting     = "waiting" // for a person; stored only
	statusValid       = "valid"
	statusInvalid     = "invalid"
	statusDeactivated = "deactivated"
	statusExpired     = "expired"
)

// maxContacts bounds what an account carries.
const maxContacts = 10

// accountView is an account object (RFC 8555, section 7.1.2). EABKID is ours: the
// id of the binding's key, for people.
type accountView struct {
	Status    string          `json:"status"`
	Contact   []string        `json:"contact,omitempty"`
	Agreed    bool            `json:"termsOfServiceAgreed,omitempty"`
	Binding   json.RawMessage `json:"externalAccountBinding,omitempty"`
	EABKID    string          `json:"externalAccountKid,omitempty"`
	Orders    string          `json:"orders"`
	CreatedAt string          `json:"createdAt,omitempty"`
}

// showAccount answers with an account. The signed binding is read for it alone:
// no other request needs it.
func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, status int, c *call, a *store.Account) error {
	v := accountView{
		Status: a.Status, Contact: a.Contact, Agreed: a.TermsAgreedAt != nil, EABKID: a.EABKID,
		Orders: c.ep.account(a.ID) + "/orders", CreatedAt: stamp(a.CreatedAt),
	}
	if a.EABKID != "" {
		var err error
		if v.Binding, err = s.Store.AccountBinding(r.Context(), a.ID); err != nil {
			return err
		}
	}
	return reply(w, status, v)
}

// stamp renders a time as RFC 3339 in UTC, to the second.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

type newAccountPayload struct {
	Contact              []string        `json:"contact"`
	TermsOfServiceAgreed bool            `json:"termsOfServiceAgreed"`
	OnlyReturnExisting   bool            `json:"onlyReturnExisting"`
	Binding              json.RawMessage `json:"externalAccountBinding"`
}

// newAccount creates an account, or finds the one that has the key (RFC 8555,
// section 7.3). The key is looked up before anything else is judged, so that a
// client that repeats its request, with a binding used up by now, finds its
// account again (rule A27), and one that only asks needs no binding (rule A23).
func (s *Server) newAccount(w http.ResponseWriter, r *http.Request, c *call) error {
	var p newAccountPayload
	if err := c.decode(&p); err != nil {
		return err
	}
	ctx := r.Context()
	existing, err := s.Store.AccountByThumbprint(ctx, c.ep.Name, c.key.thumbprint)
	switch {
	case err == nil:
		return s.showExisting(w, r, c, existing, p.TermsOfServiceAgreed)
	case !isNotFound(err):
		return err
	case p.OnlyReturnExisting:
		return fault.New(fault.AccountDoesNotExist, "no account has this key")
	case !p.TermsOfServiceAgreed:
		return fault.New(fault.UserActionRequired, "the terms of service at %s have to be agreed to",
			c.ep.set.cfg.TermsOfService)
	}
	contact, err := checkContacts(p.Contact)
	if err != nil {
		return err
	}
	kid, claim, err := s.binding(ctx, c, p.Binding)
	if err != nil {
		return err
	}
	if err := s.Limits.NewAccount(ctx, c.from, kid); err != nil {
		return err
	}
	now := s.Now()
	a := store.Account{
		ID: store.NewID(), Endpoint: c.ep.Name, Thumbprint: c.key.thumbprint, JWK: c.key.jwk, Contact: contact,
		Status: statusValid, TermsAgreedAt: &now, Terms: c.ep.set.cfg.TermsOfService, EABKID: kid, CreatedAt: now,
		CreatedFrom: c.from.String(),
	}
	if kid != "" {
		a.Binding = p.Binding
	}
	ev := s.event(c, "account.created", "account:"+a.ID, a.ID, map[string]any{
		"endpoint": a.Endpoint, "terms": a.Terms, "thumbprint": a.Thumbprint,
		"key_sha256": c.key.hash.String(), "eab_kid": kid, "address": c.from.String(),
	})
	existing, err = s.Store.CreateAccount(ctx, a, claim, ev)
	if err != nil {
		return err
	}
	if existing != nil { // the same key came twice at once
		return s.showExisting(w, r, c, existing, p.TermsOfServiceAgreed)
	}
	s.keys.put(a.ID, c.key)
	w.Header().Set("Location", c.ep.account(a.ID))
	return s.showAccount(w, r, http.StatusCreated, c, &a)
}

// showExisting answers 200 with the account as it is; nothing of the payload is
// taken over (RFC 8555, section 7.3.1) but that it agrees to changed terms.
func (s *Server) showExisting(w http.ResponseWriter, r *http.Request, c *call, a *store.Account, agreed bool) error {
	if a.Status != statusValid {
		return fault.New(fault.Denied, "the account with this key is %s", a.Status).Because("account_" + a.Status)
	}
	if agreed {
		if err := s.agree(r, c, a); err != nil {
			return err
		}
	}
	w.Header().Set("Location", c.ep.account(a.ID))
	return s.showAccount(w, r, http.StatusOK, c, a)
}

// agree records that an account agrees to the terms in force (rule A24).
func (s *Server) agree(r *http.Request, c *call, a *store.Account) error {
	terms, now := c.ep.set.cfg.TermsOfService, s.Now()
	if a.Terms == terms {
		return nil
	}
	ev := s.event(c, "account.agreed", "account:"+a.ID, a.ID, map[string]any{"terms": terms, "former_terms": a.Terms})
	if err := s.Store.AgreeToTerms(r.Context(), a.ID, terms, now, ev); err != nil {
		return err
	}
	a.Terms, a.TermsAgreedAt = terms, &now
	return nil
}

// termsInForce refuses an account that has not agreed to the terms in force, where
// the operator wants that (RFC 8555, section 7.3.3; rule A24).
func (c *call) termsInForce() error {
	if cfg := &c.ep.set.cfg; cfg.AgreeAgain && c.account.Terms != cfg.TermsOfService {
		return fault.New(fault.UserActionRequired,
			"the terms of service have changed: read %s, then update the account with termsOfServiceAgreed",
			cfg.TermsOfService).Because("terms_changed")
	}
	return nil
}

type accountPayload struct {
	Contact *[]string `json:"contact"`
	Status  string    `json:"status"`
	Agreed  bool      `json:"termsOfServiceAgreed"`
}

// account reads, updates or deactivates an account (RFC 8555, sections 7.3.2 and
// 7.3.6). Fields that a client cannot change are ignored.
func (s *Server) account(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.owns(chi.URLParam(r, "id")); err != nil {
		return err
	}
	if c.reading() {
		return s.showAccount(w, r, http.StatusOK, c, c.account)
	}
	var p accountPayload
	if err := c.decode(&p); err != nil {
		return err
	}
	if p.Status == statusDeactivated {
		return s.deactivateAccount(w, r, c)
	}
	if p.Contact != nil {
		contact, err := checkContacts(*p.Contact)
		if err != nil {
			return err
		}
		ev := s.event(c, "account.updated", c.actor(), c.account.ID, map[string]any{"contact": contact})
		if err := s.Store.UpdateAccount(r.Context(), c.account.ID, &contact, false, ev); err != nil {
			return err
		}
		c.account.Contact = contact
	}
	if p.Agreed {
		if err := s.agree(r, c, c.account); err != nil {
			return err
		}
	}
	return s.showAccount(w, r, http.StatusOK, c, c.account)
}

// deactivateAccount ends an account; its pending authorizations end with it.
func (s *Server) deactivateAccount(w http.ResponseWriter, r *http.Request, c *call) error {
	ev := s.event(c, "account.deactivated", c.actor(), c.account.ID, nil)
	if err := s.Store.UpdateAccount(r.Context(), c.account.ID, nil, true, ev); err != nil {
		return err
	}
	s.keys.drop(c.account.ID)
	c.account.Status = statusDeactivated
	return s.showAccount(w, r, http.StatusOK, c, c.account)
}

// owns refuses an account's way into another one's resources (rule A20).
func (c *call) owns(accountID string) error {
	if c.account.ID != accountID {
		return fault.New(fault.Denied, "this resource belongs to another account")
	}
	return nil
}

// actor is how audit events and certificates name who asked.
func (c *call) actor() string { return "account:" + c.account.ID }

// event is an audit event of this front-end.
func (s *Server) event(c *call, action, actor, subject string, detail map[string]any) store.Event {
	var text json.RawMessage
	if detail != nil {
		text, _ = json.Marshal(detail) // maps of strings: cannot fail
	}
	return store.Event{
		At: s.Now(), Action: action, Outcome: "success", Actor: actor, Subject: subject, RequestID: c.id, Detail: text,
	}
}

// checkContacts takes mailto URLs with one plain address each (RFC 8555,
// section 7.3; rule A25), and returns them without the spaces around an address that
// getssl and others write.
func checkContacts(contacts []string) ([]string, error) {
	if len(contacts) > maxContacts {
		return nil, fault.New(fault.InvalidContact, "an account may have %d contacts at most", maxContacts)
	}
	trimmed := make([]string, len(contacts))
	for i, c := range contacts {
		trimmed[i] = trimContact(c)
		if err := checkContact(trimmed[i]); err != nil {
			return nil, err
		}
	}
	return trimmed, nil
}

func trimContact(contact string) string {
	scheme, address, ok := strings.Cut(strings.Trim(contact, " \t"), ":")
	if !ok {
		return contact
	}
	return strings.TrimRight(scheme, " \t") + ":" + strings.TrimLeft(address, " \t")
}

func checkContact(contact string) error {
	u, err := url.Parse(contact)
	switch {
	case err != nil || u.Scheme == "" || len(contact) > 320:
		return fault.New(fault.InvalidContact, "contact %q is not a URL such as mailto:admin@example.com", contact)
	case u.Scheme != "mailto":
		return fault.New(fault.UnsupportedContact, "contacts of scheme %q are not supported; mailto is", u.Scheme)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fault.New(fault.InvalidContact, "contact %q has header fields", contact)
	case strings.ContainsAny(u.Opaque, ",%"):
		return fault.New(fault.InvalidContact, "contact %q is not one plain address", contact)
	}
	a, err := mail.ParseAddress(u.Opaque)
	if err != nil || a.Address != u.Opaque || a.Name != "" {
		return fault.New(fault.InvalidContact, "contact %q is not a valid mail address", contact)
	}
	for _, b := range []byte(u.Opaque) {
		if b < 0x21 || b > 0x7e {
			return fault.New(fault.InvalidContact, "contact %q holds a character outside ASCII", contact)
		}
	}
	return nil
}
