package access

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// Login is one proved way in: what was proved, nothing that a client only claims.
type Login struct {
	Kind   string    `json:"kind"`             // uid, certificate or oidc
	Issuer string    `json:"issuer,omitempty"` // OIDC issuer URL; the anchor's name of a certificate; empty of a uid
	ID     string    `json:"id"`               // OIDC sub; the configured field's value of a certificate; the uid
	Name   string    `json:"name,omitempty"`   // shown to people, never compared
	Groups []string  `json:"groups,omitempty"` // ids of groups at Issuer
	At     time.Time `json:"at"`               // when it was proved
	Until  time.Time `json:"until,omitzero"`   // when the proof itself ends; zero: it does not
}

// Subject is the login's id: uid:N, oidc:ISSUER#SUB or certificate:ANCHOR#ID.
func (l Login) Subject() string {
	if l.Issuer == "" {
		return l.Kind + ":" + l.ID
	}
	return l.Kind + ":" + l.Issuer + "#" + l.ID
}

// groups are the login's groups as grants name them.
func (l Login) groups() (all []string) {
	for _, g := range l.Groups {
		all = append(all, "group:"+l.Issuer+"#"+g)
	}
	return all
}

func (l Login) check() error {
	kinds := map[string]bool{"uid": false, "certificate": true, "oidc": true} // whether it has an issuer
	issuer, known := kinds[l.Kind]
	if !known || l.ID == "" || issuer != (l.Issuer != "") || len(l.Subject()) > 500 || len(l.Groups) > 200 {
		return fault.New(fault.Malformed,
			"a login of kind %q with an issuer of %d bytes, an id of %d bytes and %d groups "+
				"is none that can be kept", l.Kind, len(l.Issuer), len(l.ID), len(l.Groups)).Because("login")
	}
	return nil
}

// Person is somebody with the logins that belong to them.
type Person struct {
	ID   string    `json:"id"`
	Name string    `json:"name"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// LoginRecord says whose a login is.
type LoginRecord struct {
	Subject string    `json:"subject"`
	Person  string    `json:"person"` // id
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// Caller is who asks, with what the decision needs.
type Caller struct {
	login    Login
	subjects []string // login, person and groups, as grants name them
	barring  []string // further ones, by which blocks and ceilings hold and grants do not
	person   string   // id; empty if the login belongs to nobody
	session  string   // id
	groupsAt time.Time
	token    *Token
	local    bool // an administrator of the socket
}

// String is what audit events and requester fields hold: the login's subject, the
// token or the service.
func (c Caller) String() string {
	switch {
	case c.token != nil && c.token.Service != "":
		return "service:" + c.token.Service
	case c.token != nil:
		return "token:" + c.token.ID
	}
	return c.login.Subject()
}

// Person returns the id of the person that the caller is known as, or nothing.
func (c Caller) Person() string { return c.person }

// Local reports whether the caller is an administrator of the socket.
func (c Caller) Local() bool { return c.local }

// Session returns the id of the session by which the caller asks, or nothing.
func (c Caller) Session() string { return c.session }

// Token returns the token by which the caller asks, or nil.
func (c Caller) Token() *Token { return c.token }

// Subjects returns the subjects that grants may name for the caller.
func (c Caller) Subjects() []string { return slices.Clone(c.subjects) }

type callerKey struct{}

// With puts the caller into a context.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From returns the caller of a context.
func From(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Peer returns the caller behind a uid at the unix socket. An administrator of the
// socket is told without a look at the database.
func (a *Access) Peer(ctx context.Context, uid uint32) (Caller, error) {
	l := Login{Kind: "uid", ID: strconv.FormatUint(uint64(uid), 10), At: a.cfg.Now()}
	if slices.Contains(a.cfg.Local, uid) {
		return Caller{login: l, subjects: []string{l.Subject()}, local: true}, nil
	}
	s, err := a.current(ctx)
	if err == nil {
		err = s.trusted()
	}
	if err != nil {
		return Caller{}, err
	}
	return s.caller(l), nil
}

// caller joins a login with its person and groups.
func (s *snapshot) caller(l Login) Caller {
	c := Caller{login: l, subjects: []string{l.Subject()}, groupsAt: l.At}
	if r, linked := s.logins[l.Subject()]; linked {
		c.person = r.Person
		c.subjects = append(c.subjects, "person:"+r.Person)
	}
	c.subjects = append(c.subjects, l.groups()...)
	return c
}

// held returns the grants that are of use to a caller; a token has those of its owner.
func (s *snapshot) held(c Caller, now time.Time) []Grant {
	var all []Grant
	for _, g := range s.grants {
		if slices.Contains(c.subjects, g.Subject) && !g.ended(now) {
			all = append(all, g)
		}
	}
	return all
}

// Link says that a login belongs to a person; an empty id makes a new person with the
// given name. As the login gets what the person holds, whoever links needs to be able to
// give each of those grants. A login of a blocked person stays theirs.
func (a *Access) Link(ctx context.Context, c Caller, subject, person, name, requestID string) (*Person, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	if kind, _, _ := strings.Cut(subject, ":"); kind == "person" || kind == "group" {
		return nil, fault.New(fault.Malformed, "%s is no login", subject).Because("subject")
	}
	p := Person{ID: person, Name: name, By: c.String(), At: a.cfg.Now().UTC()}
	err := a.change(ctx, func(s *snapshot, e *edit) error {
		if old, linked := s.logins[subject]; linked && old.Person != person && a.blocked(s, "person:"+old.Person) != "" {
			return fault.New(fault.Denied, "%s belongs to a person who is blocked: unblock person:%s first", subject,
				old.Person).Because("blocked")
		}
		if person == "" {
			p.ID = store.NewID()
			if name == "" || len(name) > 200 {
				return fault.New(fault.Malformed, "a person has a name of at most 200 bytes").Because("name")
			}
			if err := e.write(kindPerson, p.ID, nil, p); err != nil {
				return err
			}
		} else if known, ok := s.people[person]; ok {
			p = known
			if err := a.cannotGive(s, c, "person:"+person); err != nil {
				return err
			}
		} else {
			return fault.New(fault.NotFound, "there is no person %s", person).Because("person_unknown")
		}
		e.event = a.event(c, "person.linked", "person:"+p.ID, requestID, map[string]string{"login": subject})
		return e.write(kindLogin, subject, nil, LoginRecord{subject, p.ID, c.String(), a.cfg.Now().UTC()})
	})
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// Held returns the grants of a caller that have not ended.
func (a *Access) Held(ctx context.Context, c Caller) ([]Grant, error) {
	s, err := a.current(ctx)
	if err == nil {
		err = s.trusted()
	}
	if err != nil {
		return nil, err
	}
	return s.held(c, a.cfg.Now()), nil
}

// Can is the decision for a subject that is not asking: a login without its groups, a
// person or a group.
func (a *Access) Can(ctx context.Context, subject string, p Permission, o Object) (Verdict, error) {
	if err := checkSubject(subject); err != nil {
		return Verdict{}, err
	}
	if !slices.Contains(api.Permissions(), p) {
		return Verdict{}, fault.New(fault.Malformed, "there is no permission %q",
			string(p)).Because("permission_unknown")
	}
	s, err := a.current(ctx)
	if err == nil {
		err = s.trusted()
	}
	if err != nil {
		return Verdict{}, err
	}
	c := Caller{subjects: []string{subject}}
	if r, linked := s.logins[subject]; linked {
		c.subjects = append(c.subjects, "person:"+r.Person)
	}
	if id, uid := strings.CutPrefix(subject, "uid:"); uid && a.isLocal(Login{Kind: "uid", ID: id}) {
		return Verdict{Allowed: true, By: "local"}, nil
	}
	return a.judge(s, c, p, o), nil
}

// Same reports whether a name, as String makes them, is the caller: the same login,
// another of the same person, or a token or service of theirs. Of a token that there is
// not any more nobody knows whose it was: it may be theirs.
func (a *Access) Same(ctx context.Context, c Caller, name string) (bool, error) {
	s, err := a.current(ctx)
	if err != nil {
		return false, err
	}
	own := func(l string) bool {
		r, linked := s.logins[l]
		return l == c.login.Subject() || linked && c.person != "" && r.Person == c.person
	}
	if name == c.String() || own(name) {
		return true, nil
	}
	kind, _, _ := strings.Cut(name, ":")
	unknown := kind == "token" || kind == "service"
	for _, t := range s.tokens {
		if name == "token:"+t.ID || t.Service != "" && name == "service:"+t.Service {
			if own(t.Owner.Subject()) {
				return true, nil
			}
			unknown = false
		}
	}
	return unknown, nil
}

// Records returns the people, logins, grants and blocks, for who may look at all of
// them.
func (a *Access) Records(ctx context.Context) (*Records, error) {
	s, err := a.current(ctx)
	if err != nil {
		return nil, err
	}
	r := &Records{Grants: s.grants, Blocks: s.blocks, Tokens: s.tokens, Sessions: s.sessions, Doubt: s.doubt}
	for _, p := range s.people {
		r.People = append(r.People, p)
	}
	for _, l := range s.logins {
		r.Logins = append(r.Logins, l)
	}
	slices.SortFunc(r.People, func(x, y Person) int { return x.At.Compare(y.At) })
	slices.SortFunc(r.Logins, func(x, y LoginRecord) int { return x.At.Compare(y.At) })
	return r, nil
}

// Records are all that is kept.
type Records struct {
	People   []Person
	Logins   []LoginRecord
	Grants   []Grant
	Blocks   []Block
	Tokens   []Token
	Sessions []Session
	Doubt    []string
}

// event is the audit event of a caller's act.
func (a *Access) event(c Caller, action, subject, requestID string, detail any) store.Event {
	ev := store.Event{
		At: a.cfg.Now(), Action: action, Outcome: "success", Actor: c.String(), Subject: subject, RequestID: requestID,
	}
	text, err := json.Marshal(map[string]any{"person": c.person, "login": c.login.Subject(), "record": detail})
	if err != nil {
		panic(fmt.Sprintf("access: encode an event: %v", err)) // texts and times always encode
	}
	ev.Detail = text
	return ev
}
