package acme

import (
	"context"
	"encoding/json"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// binding verifies an external account binding (RFC 8555, section 7.3.4). It
// returns the id of the operator's key and the claim on one of its uses, which
// the store consumes together with the account's creation; nothing is returned
// when no binding was sent and none is needed.
//
// The MAC's algorithm has nothing to do with the account key's: clients send
// HS256 with any key (rule A26).
func (s *Server) binding(
	ctx context.Context, c *call, raw json.RawMessage,
) (kid string, claim *store.Claim, err error) {
	if len(raw) == 0 || string(raw) == "null" {
		if c.ep.RequireEAB {
			return "", nil, fault.New(fault.ExternalAccountRequired,
				"this endpoint needs an external account binding; ask its operator for one")
		}
		return "", nil, nil
	}
	m, err := parseJWS(raw)
	if err != nil {
		return "", nil, inner("externalAccountBinding", err)
	}
	h := &m.header
	switch {
	case h.KID == nil:
		return "", nil, fault.New(fault.Malformed, `the externalAccountBinding has no "kid"`)
	case h.Nonce != nil:
		return "", nil, fault.New(fault.Malformed, "the externalAccountBinding has a nonce")
	case *h.URL != c.url:
		return "", nil, fault.New(fault.Denied, "the externalAccountBinding is for url %q, the request for %q", *h.URL,
			c.url)
	}
	if err := h.checkAlgorithm(acceptedMACs); err != nil {
		return "", nil, fault.New(fault.Malformed,
			"the externalAccountBinding has algorithm %q; HS256, HS384 and HS512 are accepted", h.Alg)
	}
	if err := s.checkMAC(ctx, c, m); err != nil {
		return "", nil, err
	}
	key, err := parseJWK(m.payload)
	if err != nil {
		return "", nil, inner("externalAccountBinding", err)
	}
	if key.thumbprint != c.key.thumbprint {
		return "", nil, fault.New(fault.Denied, "the externalAccountBinding is for another key than the request's")
	}
	use := credential.Claim(*h.KID)
	return *h.KID, &use, nil
}

// checkMAC verifies the binding with the operator's key. A source that guesses
// is locked out for a while; who has the key, and an algorithm that does not fit
// it, does not guess.
func (s *Server) checkMAC(ctx context.Context, c *call, m *message) error {
	guess := limit.Guess{Source: web.Source(c.from), Endpoint: "eab:" + c.ep.Name, Identity: *m.header.KID}
	if err := s.Limits.MayGuess(ctx, guess); err != nil {
		return err
	}
	mac, _, err := s.EAB.Key(ctx, *m.header.KID, c.ep.Name)
	guess.Unknown = err != nil
	if err == nil {
		err = m.verifyMAC(mac)
	}
	if err == nil {
		return nil
	}
	switch f := fault.Of(err); {
	case f.Kind == fault.Unavailable || f.Kind == fault.Internal:
		return err
	case f.Reason == "eab_algorithm":
		return inner("externalAccountBinding", err)
	}
	if limited := s.Limits.WrongSecret(ctx, guess); limited != nil {
		return limited
	}
	return unbound(err)
}

// unbound answers any failure of the binding's key alike, so that nobody learns
// which ids exist.
func unbound(err error) error {
	return fault.Wrap(fault.Denied, err, "the external account binding is not valid: unknown, used up, or wrong key").
		Because("eab_refused")
}

// inner says that a fault lies in a message within the message.
func inner(what string, err error) error {
	f := *fault.Of(err)
	f.Detail = what + ": " + f.Detail
	return &f
}
