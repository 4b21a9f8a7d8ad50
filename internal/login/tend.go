package login

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"time"

	"golang.org/x/oauth2"

	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
)

const (
	groupsDue = 5 * time.Minute // half of what an act takes
	maxKept   = 20_000          // sessions whose groups are read anew
)

// kept is what reads the groups of a session anew. It is in this process's memory alone:
// after a restart a session reads on until it ends, and acts need a new login.
type kept struct {
	provider *Provider
	refresh  string
	shown    []*x509.Certificate // in place of a provider
	login    access.Login        // as it was proved last
	until    time.Time
}

func (s *Server) keep(session string, k kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.kept[session]; known || len(s.kept) < maxKept {
		s.kept[session] = k
	}
}

func (s *Server) forget(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, session)
}

// Tend reads the groups of sessions anew that have not been for a while, and ends the
// sessions of those whom their provider knows no more, or whose certificate was revoked.
// A provider that does not answer changes nothing: access stops acts by itself when the
// proof is old.
func (s *Server) Tend(ctx context.Context) error {
	s.mu.Lock()
	all := maps.Clone(s.kept)
	s.mu.Unlock()
	away := map[*Provider]bool{}
	var errs []error
	for session, k := range all {
		now := s.cfg.Now()
		switch {
		case !now.Before(k.until), k.provider != nil && !s.ways.Load().still(&k):
			s.forget(session)
		case k.provider == nil:
			errs = append(errs, s.certificateAgain(ctx, session, k))
		case now.Sub(k.login.At) >= groupsDue && !away[k.provider]:
			err := s.again(ctx, session, k)
			away[k.provider] = fault.Is(err, fault.Unavailable)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// still reports whether the provider of a session is configured, and takes the one that
// is in force: a reload makes others of the same configuration.
func (w *ways) still(k *kept) bool {
	now := w.providers[k.provider.Name]
	if now == nil || now.Issuer != k.provider.Issuer || now.ClientID != k.provider.ClientID {
		return false
	}
	k.provider = now
	return true
}

// again reads one session's groups.
func (s *Server) again(ctx context.Context, session string, k kept) error {
	l, refresh, err := k.provider.again(ctx, k)
	switch {
	case fault.Is(err, fault.Unauthenticated):
		return s.over(ctx, session, k, err)
	case err != nil:
		return err
	}
	k.refresh = refresh
	return s.proved(ctx, session, k, l)
}

// proved keeps that a session's login was proved anew.
func (s *Server) proved(ctx context.Context, session string, k kept, l access.Login) error {
	err := s.cfg.Access.Refresh(ctx, session, l)
	if fault.Is(err, fault.Unauthenticated) {
		s.forget(session) // it has ended
		return nil
	}
	if err == nil {
		k.login = l
		s.keep(session, k)
	}
	return err
}

// over ends a session whose proof holds no more.
func (s *Server) over(ctx context.Context, session string, k kept, why error) error {
	s.forget(session)
	s.cfg.Log.InfoContext(ctx, "a session ends: its login would be refused now", "login", k.login.Subject(), "error", why)
	if err := s.cfg.Access.End(ctx, session); !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// again proves a login anew with its refresh token (OpenID Connect Core 1.0, section 12).
func (p *Provider) again(ctx context.Context, k kept) (l access.Login, refresh string, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return l, "", err
	}
	tok, err := p.oauth(found, "").TokenSource(p.use(ctx), &oauth2.Token{RefreshToken: k.refresh}).Token()
	if err != nil {
		return l, "", p.answered(err)
	}
	if l, err = p.prove(ctx, found, tok, ""); err != nil {
		return l, "", err
	}
	if l.Subject() != k.login.Subject() {
		return l, "", refuse("id_token_refused", nil, "the provider's token is of somebody else")
	}
	return l, tok.RefreshToken, nil
}
