package access

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Scope says what a grant or a token is about. What is left out means any; a scope
// that leaves out everything has to say All.
type Scope struct {
	All       bool     `json:"all,omitempty"`
	Pools     []string `json:"pools,omitempty"`
	CAs       []string `json:"cas,omitempty"` // ids; each means the CA and all below it
	Profiles  []string `json:"profiles,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
	Names     []string `json:"names,omitempty"` // pki.NamePattern
}

// Object is what an act is about. The zero Object is the whole server: only a scope
// that is All covers it.
type Object struct {
	Pool, Profile, Endpoint string
	CAs                     []string // the CA and those above it
	Names                   []pki.Identifier
	Subject                 string // of a request without other names
	// Scoped says that the fields above are all that there is to the object: an empty
	// one is covered only where a scope leaves it out.
	Scoped bool
	Reason string // of a revocation
	// Bounds are of an object that is bounds itself, as a credential: they have to lie
	// within the profiles, endpoints and names of a scope. Profile, Endpoint and Names
	// are then not looked at.
	Bounds *Scope
}

// Grant gives a role within a scope to a subject.
type Grant struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject"` // of a login, or person:ID, group:ISSUER#ID
	Role    string    `json:"role"`
	Scope   Scope     `json:"scope"`
	Reasons []string  `json:"reasons,omitempty"` // of revocation; empty is any
	Reason  string    `json:"reason"`            // why it was given
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"`
}

// Block keeps a subject from everything, whatever grants it has.
type Block struct {
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until,omitzero"`
}

func (s Scope) empty() bool {
	return len(s.Pools)+len(s.CAs)+len(s.Profiles)+len(s.Endpoints)+len(s.Names) == 0
}

// check refuses a scope that says nothing, or more than one thing at once.
func (s Scope) check() error {
	if s.All != s.empty() {
		return fault.New(fault.Malformed, "a scope names pools, CAs, profiles, endpoints or names, or says all, and "+
			"not both").Because("scope")
	}
	for _, n := range s.Names {
		if _, err := pki.ParseNamePattern(n); err != nil {
			return fault.New(fault.Malformed, "%w", err).Because("scope")
		}
	}
	return nil
}

// covers reports whether all of an object lies within the scope.
func (s Scope) covers(o Object) bool {
	if s.All {
		return true
	}
	if !o.Scoped {
		return false
	}
	if !among(s.Pools, o.Pool) ||
		len(s.CAs) > 0 && !slices.ContainsFunc(o.CAs, func(id string) bool { return slices.Contains(s.CAs, id) }) {
		return false
	}
	if b := o.Bounds; b != nil {
		return part(b.Profiles, s.Profiles) && part(b.Endpoints, s.Endpoints) && part(b.Names, s.Names)
	}
	return among(s.Profiles, o.Profile) && among(s.Endpoints, o.Endpoint) && (len(s.Names) == 0 || s.coversNames(o))
}

func among(allowed []string, value string) bool {
	return len(allowed) == 0 || value != "" && slices.Contains(allowed, value)
}

// coversNames reports whether some pattern holds each name; an object without names is
// covered by none.
func (s Scope) coversNames(o Object) bool {
	if len(o.Names) == 0 {
		return false
	}
	return !slices.ContainsFunc(o.Names, func(id pki.Identifier) bool {
		return !slices.ContainsFunc(s.Names, func(text string) bool {
			p, err := pki.ParseNamePattern(text)
			return err == nil && p.Match(id)
		})
	})
}

// within reports whether every object that s covers is covered by outer.
func (s Scope) within(outer Scope) bool {
	if outer.All {
		return true
	}
	return !s.All && part(s.Pools, outer.Pools) && part(s.CAs, outer.CAs) && part(s.Profiles, outer.Profiles) &&
		part(s.Endpoints, outer.Endpoints) && part(s.Names, outer.Names)
}

func part(inner, outer []string) bool {
	return len(outer) == 0 || len(inner) > 0 && !slices.ContainsFunc(inner, func(v string) bool {
		return !slices.Contains(outer, v)
	})
}

// maxReason bounds the reason of a grant or block.
const maxReason = 500

func checkReason(text string) error {
	if text == "" || len(text) > maxReason || !utf8.ValidString(text) {
		return fault.New(fault.Malformed, "say why, in at most %d bytes", maxReason).Because("reason")
	}
	return nil
}

func checkSubject(text string) error {
	kind, rest, _ := strings.Cut(text, ":")
	kinds := []string{"uid", "oidc", "certificate", "person", "group"}
	if rest == "" || len(text) > 500 || !slices.Contains(kinds, kind) {
		return fault.New(fault.Malformed, "a subject is uid:N, oidc:ISSUER#SUB, certificate:ANCHOR#ID, person:ID or "+
			"group:ISSUER#ID").Because("subject")
	}
	return nil
}

func (g Grant) ended(now time.Time) bool { return !g.Until.IsZero() && !now.Before(g.Until) }

// Give makes a grant. The one who gives needs one grant that holds access.grant and
// all of the role, over all of the scope.
func (a *Access) Give(ctx context.Context, c Caller, g Grant, requestID string) (*Grant, error) {
	g.ID, g.By, g.At = store.NewID(), c.String(), a.cfg.Now().UTC()
	for _, err := range []error{a.checkRole(g.Role), checkSubject(g.Subject), g.Scope.check(), checkReason(g.Reason)} {
		if err != nil {
			return nil, err
		}
	}
	for _, r := range g.Reasons {
		if _, err := pki.ParseReason(r); err != nil {
			return nil, fault.New(fault.Malformed, "%w", err).Because("revocation_reason")
		}
	}
	if g.ended(g.At) {
		return nil, fault.New(fault.Malformed, "the grant would end before it begins").Because("until")
	}
	err := a.change(ctx, func(s *snapshot, e *edit) error {
		if err := a.mayGive(s, c, g); err != nil {
			return err
		}
		e.event = a.event(c, "access.granted", "grant:"+g.ID, requestID, g)
		return e.write(kindGrant, g.ID, nil, g)
	})
	if err != nil {
		return nil, err
	}
	return &g, nil
}

// Revoke takes a grant away. Whoever may revoke within the grant's scope may.
func (a *Access) Revoke(ctx context.Context, c Caller, id, requestID string) (*Grant, error) {
	var g Grant
	err := a.change(ctx, func(s *snapshot, e *edit) error {
		at := slices.IndexFunc(s.grants, func(g Grant) bool { return g.ID == id })
		if at < 0 || !a.mayRevoke(s, c, s.grants[at].Scope) {
			return fault.New(fault.NotFound, "there is no grant %s", id).Because("grant_unknown")
		}
		g = s.grants[at]
		e.event = a.event(c, "access.revoked", "grant:"+id, requestID, g)
		e.remove(kindGrant, id)
		return nil
	})
	return &g, err
}

// Block keeps a subject out until the given time, or for good.
func (a *Access) Block(ctx context.Context, c Caller, b Block, requestID string) (*Block, error) {
	b.By, b.At = c.String(), a.cfg.Now().UTC()
	for _, err := range []error{checkSubject(b.Subject), checkReason(b.Reason)} {
		if err != nil {
			return nil, err
		}
	}
	if !b.Until.IsZero() && !b.Until.After(b.At) {
		return nil, fault.New(fault.Malformed, "the block would end before it begins").Because("until")
	}
	return &b, a.change(ctx, func(s *snapshot, e *edit) error {
		if s.blockedBeyond(b.Subject, b.Until, b.At) {
			return fault.New(fault.Conflict, "%s is blocked for longer already: a block is lifted by unblocking", b.Subject).
				Because("block_longer")
		}
		e.event = a.event(c, "access.blocked", b.Subject, requestID, b)
		return e.write(kindBlock, b.Subject, nil, b)
	})
}

// blockedBeyond reports whether a block in force ends after the given time; zero is never.
func (s *snapshot) blockedBeyond(subject string, until, now time.Time) bool {
	return !until.IsZero() && slices.ContainsFunc(s.blocks, func(b Block) bool {
		return b.Subject == subject && (b.Until.IsZero() || now.Before(b.Until) && b.Until.After(until))
	})
}

// Unblock takes a block away.
func (a *Access) Unblock(ctx context.Context, c Caller, subject, requestID string) error {
	return a.change(ctx, func(s *snapshot, e *edit) error {
		if _, known := s.rows[key{kindBlock, subject}]; !known {
			return fault.New(fault.NotFound, "%s is not blocked", subject).Because("block_unknown")
		}
		e.event = a.event(c, "access.unblocked", subject, requestID, nil)
		e.remove(kindBlock, subject)
		return nil
	})
}
