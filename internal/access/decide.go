package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
)

// Verdict is the answer to whether somebody may do something.
type Verdict struct {
	Allowed bool
	By      string // the grant, or "local" of the administrators of the socket
	Why     string // of a refusal
}

// Decide returns nil if the caller may do it: one grant covers the permission and all of
// the object, none of the caller's subjects is blocked, and a token's own bounds cover it
// too. Denied names the permission where the caller may read the object; NotFound stands
// for an object that they may not read, and its caller says what an unknown one would
// be. Unavailable while the records are in doubt.
func (a *Access) Decide(ctx context.Context, c Caller, p Permission, o Object) error {
	v, err := a.Explain(ctx, c, p, o)
	if err != nil || v.Allowed {
		return err
	}
	if read := readsOf[p]; read != "" {
		o.Reason = "" // of the act, not of what is looked at
		if seen, err := a.Explain(ctx, c, read, o); err != nil || !seen.Allowed {
			return cmpErr(err, fault.New(fault.NotFound, "there is nothing of this name within your scope").
				Because("not_in_scope"))
		}
	} else if o.Scoped && isRead(p) {
		return fault.New(fault.NotFound, "there is nothing of this name within your scope").Because("not_in_scope")
	}
	return fault.New(fault.Denied, "%s needs the permission %s: %s", c, p, v.Why).Because("permission_missing")
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func isRead(p Permission) bool { return slices.Contains(reads, p) }

// Explain is Decide for who wants to know which grant it is.
func (a *Access) Explain(ctx context.Context, c Caller, p Permission, o Object) (Verdict, error) {
	if c.local {
		return Verdict{Allowed: true, By: "local"}, nil
	}
	s, err := a.current(ctx)
	if err == nil {
		err = s.trusted()
	}
	if err != nil {
		return Verdict{}, err
	}
	return a.judge(s, c, p, o), nil
}

// judge is the one decision.
func (a *Access) judge(s *snapshot, c Caller, p Permission, o Object) Verdict {
	if p == api.SelfRead {
		return Verdict{Allowed: true, By: "everybody"}
	}
	if why := a.barred(s, c, p); why != "" {
		return Verdict{Why: why}
	}
	if c.token != nil {
		if !c.token.Scope.covers(o) {
			return Verdict{Why: "it is outside of the token's scope"}
		}
		if a.isLocal(c.token.Owner) {
			return Verdict{Allowed: true, By: "token:" + c.token.ID}
		}
	}
	for _, g := range s.held(c, a.cfg.Now()) {
		if a.holds(g.Role, p) && g.Scope.covers(o) && g.allowsReason(o.Reason) {
			return Verdict{Allowed: true, By: "grant:" + g.ID}
		}
	}
	return Verdict{Why: "no single grant covers all of it"}
}

// isLocal reports whether a login is an administrator of the socket.
func (a *Access) isLocal(l Login) bool {
	return l.Kind == "uid" && slices.ContainsFunc(a.cfg.Local, func(uid uint32) bool { return l.ID == fmt.Sprint(uid) })
}

// barred says what keeps the caller from an act whatever grants there are.
func (a *Access) barred(s *snapshot, c Caller, p Permission) string {
	now := a.cfg.Now()
	if b := a.blocked(s, slices.Concat(c.subjects, c.barring)...); b != "" {
		return b + " is blocked"
	}
	switch {
	case a.never(c, p):
		return "access.never of the configuration says so"
	case c.token != nil && slices.Contains(notByToken, p):
		return "a token never does this"
	case c.token != nil && p != "" && !a.holds(c.token.Role, p):
		return "the token has the role " + c.token.Role
	case c.session == "" || isRead(p):
		return ""
	case now.Sub(c.groupsAt) > groupsAge:
		return "the login, with its groups, was proved last more than " + groupsAge.String() + " ago: log in again"
	case slices.Contains(freshLogin, p) && now.Sub(c.login.At) > loginAge:
		return "it needs a login within " + loginAge.String() + ": log in again"
	}
	return ""
}

// blocked returns the first of some subjects that is blocked, or nothing.
func (a *Access) blocked(s *snapshot, subjects ...string) string {
	for _, b := range s.blocks {
		if slices.Contains(subjects, b.Subject) && (b.Until.IsZero() || a.cfg.Now().Before(b.Until)) {
			return b.Subject
		}
	}
	return ""
}

func (g Grant) allowsReason(reason string) bool {
	return reason == "" || len(g.Reasons) == 0 || slices.Contains(g.Reasons, reason)
}

// mayGive holds a grant against those of the one who gives it.
func (a *Access) mayGive(s *snapshot, c Caller, g Grant) error {
	if c.local {
		return nil
	}
	if why := a.barred(s, c, api.AccessGrant); why != "" {
		return fault.New(fault.Denied, "%s needs the permission %s: %s", c, api.AccessGrant, why).
			Because("permission_missing")
	}
	for _, own := range s.held(c, a.cfg.Now()) {
		if a.holds(own.Role, api.AccessGrant) && g.Scope.within(own.Scope) && len(own.Reasons) == 0 &&
			(own.Until.IsZero() || !g.Until.IsZero() && !g.Until.After(own.Until)) &&
			!slices.ContainsFunc(a.permissions(g.Role), func(p Permission) bool { return !a.holds(own.Role, p) }) {
			return nil
		}
	}
	return fault.New(fault.Denied,
		"%s has no grant that holds %s and all of this one: nobody gives more than they have",
		c, api.AccessGrant).Because("permission_missing")
}

// cannotGive is why the caller could not give all that a subject holds.
func (a *Access) cannotGive(s *snapshot, c Caller, subject string) error {
	for _, g := range s.grants {
		if g.Subject == subject && !g.ended(a.cfg.Now()) {
			if err := a.mayGive(s, c, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayRevoke reports whether one grant holds access.revoke over all of a scope.
func (a *Access) mayRevoke(s *snapshot, c Caller, scope Scope) bool {
	return c.local || a.barred(s, c, api.AccessRevoke) == "" &&
		slices.ContainsFunc(s.held(c, a.cfg.Now()), func(own Grant) bool {
			return a.holds(own.Role, api.AccessRevoke) && scope.within(own.Scope)
		})
}

// mayMake holds a token against the grants of its owner: one has to let them make
// tokens, and cover all of its scope.
func (a *Access) mayMake(s *snapshot, c Caller, t Token) error {
	if c.local {
		return nil
	}
	why := a.barred(s, c, api.TokenCreate)
	if why == "" && slices.ContainsFunc(s.held(c, a.cfg.Now()), func(own Grant) bool {
		return a.holds(own.Role, api.TokenCreate) && t.Scope.within(own.Scope)
	}) {
		return nil
	}
	return fault.New(fault.Denied, "%s needs the permission %s over all of the token's scope: %s", c, api.TokenCreate,
		cmp.Or(why, "no single grant covers it")).Because("permission_missing")
}
