package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// How long things last.
const (
	sessionIdle = 30 * time.Minute
	sessionLife = 10 * time.Hour
	groupsAge   = 10 * time.Minute // acts need groups that are not older
	loginAge    = 5 * time.Minute  // grants and tokens need a login that is not older
	touchEvery  = time.Minute      // how exactly the last use is kept
	maxTokenAge = 366 * 24 * time.Hour
)

// Prefixes of secrets, by which scanners of leaked text find them.
const (
	sessionPrefix = "pvs_s_"
	tokenPrefix   = "pvs_t_"
)

// Session is a login that lasts for a while.
type Session struct {
	ID        string    `json:"id"`
	Login     Login     `json:"login"`
	From      string    `json:"from"` // address
	ExpiresAt time.Time `json:"expires_at"`
	GroupsAt  time.Time `json:"groups_at"` // when the groups were read from the provider
	StartedAt time.Time `json:"started_at"`
}

// Token is a secret that lasts longer: a person's own, or a service's.
type Token struct {
	ID      string `json:"id"`
	Service string `json:"service,omitempty"`
	// Owner's groups are those when the token was made: they bar it, by blocks and
	// ceilings, and give it nothing, as groups are known only while a session lasts.
	Owner     Login     `json:"owner"`
	Role      string    `json:"role"`
	Scope     Scope     `json:"scope"`
	Networks  []string  `json:"networks,omitempty"` // CIDR; empty is any
	ExpiresAt time.Time `json:"expires_at"`
	At        time.Time `json:"at"`
}

var secretText = base32.StdEncoding.WithPadding(base32.NoPadding)

// newSecret returns a secret of 160 random bits with check digits, and its digest.
func newSecret(prefix string) (secret string, digest []byte) {
	var raw [20]byte
	_, _ = rand.Read(raw[:]) // never fails
	body := strings.ToLower(secretText.EncodeToString(raw[:]))
	secret = prefix + body + checkDigits(prefix+body)
	sum := sha256.Sum256([]byte(secret))
	return secret, sum[:]
}

func checkDigits(text string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) }

// digestOf returns the digest of what looks like a secret of ours.
func digestOf(secret string) ([]byte, bool) {
	at := len(secret) - 8
	if at < len(sessionPrefix) || len(secret) > 100 || secret[at:] != checkDigits(secret[:at]) ||
		!strings.HasPrefix(secret, sessionPrefix) && !strings.HasPrefix(secret, tokenPrefix) {
		return nil, false
	}
	sum := sha256.Sum256([]byte(secret))
	return sum[:], true
}

func unauthenticated() error {
	return fault.New(fault.Unauthenticated, "the session or token is unknown, over or revoked: log in again").
		Because("no_session")
}

// Open begins a session for a proved login. The secret is in this answer and never
// again. A blocked login gets none.
func (a *Access) Open(ctx context.Context, l Login, from netip.Addr) (secret string, one Session, err error) {
	if err := l.check(); err != nil {
		return "", one, err
	}
	secret, digest := newSecret(sessionPrefix)
	now := a.cfg.Now().UTC()
	one = Session{
		ID: store.NewID(), Login: l, From: from.Unmap().String(), StartedAt: now, GroupsAt: now,
		ExpiresAt: now.Add(sessionLife),
	}
	if !l.Until.IsZero() && l.Until.Before(one.ExpiresAt) {
		one.ExpiresAt = l.Until.UTC()
	}
	err = a.change(ctx, func(s *snapshot, e *edit) error {
		c := s.caller(l)
		if why := a.barred(s, c, ""); why != "" {
			return fault.New(fault.Denied, "%s", why).Because("blocked")
		}
		e.event = a.event(c, "session.opened", "session:"+one.ID, "", map[string]any{"from": one.From})
		return e.write(kindSession, one.ID, digest, one)
	})
	if err != nil {
		return "", Session{}, err
	}
	return secret, one, nil
}

// Bearer returns the caller whose session or token has this secret.
func (a *Access) Bearer(ctx context.Context, secret string, from netip.Addr) (Caller, error) {
	digest, ours := digestOf(secret)
	if !ours {
		return Caller{}, unauthenticated()
	}
	s, err := a.current(ctx)
	if err == nil {
		err = s.trusted()
	}
	if err != nil {
		return Caller{}, err
	}
	at, known := s.secrets[string(digest)]
	if !known {
		return Caller{}, unauthenticated()
	}
	used, before, err := a.cfg.Store.AccessUse(ctx, at.kind, at.id)
	if err != nil {
		return Caller{}, err
	}
	c, err := a.bearer(s, at, used, from)
	if err != nil {
		return Caller{}, err
	}
	return c, a.touch(ctx, c, at, used, before, from)
}

func (a *Access) bearer(s *snapshot, at key, used *time.Time, from netip.Addr) (Caller, error) {
	now := a.cfg.Now()
	for _, one := range s.sessions {
		if at != (key{kindSession, one.ID}) {
			continue
		}
		last := one.StartedAt
		if used != nil {
			last = *used
		}
		if !now.Before(one.ExpiresAt) || now.Sub(last) > sessionIdle {
			return Caller{}, unauthenticated()
		}
		c := s.caller(one.Login)
		c.session, c.groupsAt = one.ID, one.GroupsAt
		return c, nil
	}
	for _, t := range s.tokens {
		if at == (key{kindToken, t.ID}) && now.Before(t.ExpiresAt) && t.goodFrom(from) {
			owner := t.Owner
			owner.Groups = nil
			c := s.caller(owner)
			c.token, c.barring = &t, t.Owner.groups()
			return c, nil
		}
	}
	return Caller{}, unauthenticated()
}

// goodFrom reports whether a token may be used from an address.
func (t Token) goodFrom(from netip.Addr) bool {
	return len(t.Networks) == 0 || slices.ContainsFunc(t.Networks, func(text string) bool {
		n, err := netip.ParsePrefix(text)
		return err == nil && n.Contains(from.Unmap())
	})
}

// touch notes a use, at most once in touchEvery; the first of a token from a network is
// an event.
func (a *Access) touch(ctx context.Context, c Caller, at key, used *time.Time, before string, from netip.Addr) error {
	now, network := a.cfg.Now(), networkOf(from)
	if used != nil && now.Sub(*used) < touchEvery && network == before {
		return nil
	}
	var events []store.Event
	if at.kind == kindToken && before != network {
		events = append(events, a.event(c, "token.new_network", "token:"+at.id, "", map[string]any{"network": network}))
	}
	return a.cfg.Store.TouchAccess(ctx, at.kind, at.id, now, network, events...)
}

// networkOf is the network by which uses are told apart: /24 of IPv4, /48 of IPv6.
func networkOf(from netip.Addr) string {
	bits := 48
	if from = from.Unmap(); from.Is4() {
		bits = 24
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// Refresh replaces what a session knows of its login's groups, which were just read
// from the provider.
func (a *Access) Refresh(ctx context.Context, sessionID string, l Login) error {
	return a.change(ctx, func(s *snapshot, e *edit) error {
		at := slices.IndexFunc(s.sessions, func(one Session) bool { return one.ID == sessionID })
		if at < 0 || s.sessions[at].Login.Subject() != l.Subject() {
			return unauthenticated()
		}
		one := s.sessions[at]
		one.Login.Groups, one.GroupsAt = l.Groups, a.cfg.Now().UTC()
		e.event = a.event(s.caller(one.Login), "session.refreshed", "session:"+one.ID, "", nil)
		return e.write(kindSession, one.ID, s.rows[key{kindSession, one.ID}].Digest, one)
	})
}

// End ends a session.
func (a *Access) End(ctx context.Context, sessionID string) error {
	c, known := From(ctx)
	return a.change(ctx, func(s *snapshot, e *edit) error {
		at := slices.IndexFunc(s.sessions, func(one Session) bool { return one.ID == sessionID })
		if at < 0 {
			return fault.New(fault.NotFound, "there is no session %s", sessionID).Because("session_unknown")
		}
		if !known {
			c = s.caller(s.sessions[at].Login)
		}
		e.event = a.event(c, "session.ended", "session:"+sessionID, "", nil)
		e.remove(kindSession, sessionID)
		return nil
	})
}

// NewToken makes a token owned by the caller. It never holds more than its owner does
// at the moment of use. The secret is in this answer and never again.
func (a *Access) NewToken(
	ctx context.Context, c Caller, t Token, requestID string,
) (secret string, made *Token, err error) {
	t.ID, t.At, t.Owner = store.NewID(), a.cfg.Now().UTC(), c.login
	for _, err := range []error{a.checkRole(t.Role), t.check(t.At)} {
		if err != nil {
			return "", nil, err
		}
	}
	secret, digest := newSecret(tokenPrefix)
	err = a.change(ctx, func(s *snapshot, e *edit) error {
		if err := a.mayMake(s, c, t); err != nil {
			return err
		}
		e.event = a.event(c, "token.created", "token:"+t.ID, requestID, t)
		return e.write(kindToken, t.ID, digest, t)
	})
	if err != nil {
		return "", nil, err
	}
	return secret, &t, nil
}

func (t Token) check(now time.Time) error {
	if !t.ExpiresAt.After(now) || t.ExpiresAt.Sub(now) > maxTokenAge {
		return fault.New(fault.Malformed, "a token ends, within 366 days").Because("expires_at")
	}
	for _, n := range t.Networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fault.New(fault.Malformed, "network %q: want an address and a prefix length", n).Because("network")
		}
	}
	if len(t.Service) > 100 || strings.ContainsAny(t.Service, " \t\r\n:#") {
		return fault.New(fault.Malformed, "the name of a service has at most 100 bytes, no spaces, ':' or '#'").
			Because("service")
	}
	return t.Scope.check()
}

// RevokeToken ends a token.
func (a *Access) RevokeToken(ctx context.Context, c Caller, id, requestID string) error {
	return a.change(ctx, func(s *snapshot, e *edit) error {
		if _, known := s.rows[key{kindToken, id}]; !known {
			return fault.New(fault.NotFound, "there is no token %s", id).Because("token_unknown")
		}
		e.event = a.event(c, "token.revoked", "token:"+id, requestID, nil)
		e.remove(kindToken, id)
		return nil
	})
}
