package acme

import (
	"context"
	"net/http"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

type keyChangePayload struct {
	Account string          `json:"account"`
	OldKey  json.RawMessage `json:"oldKey"`
}

// keyChange replaces an account's key (RFC 8555, section 7.3.5): the outer
// message is signed with the old key, the inner one with the new. The store
// compares and swaps, so of two rollovers at once one fails.
func (s *Server) keyChange(w http.ResponseWriter, r *http.Request, c *call) error {
	ctx := r.Context()
	next, err := c.newKey(ctx)
	if err != nil {
		return err
	}
	if err := s.Pipeline.CheckKey(ctx, next.key); err != nil {
		return err
	}
	if other, err := s.Store.AccountByThumbprint(ctx, c.ep.Name, next.thumbprint); err == nil {
		return c.keyTaken(other.ID)
	} else if !isNotFound(err) {
		return err
	}
	ev := s.event(c, "account.key_changed", c.actor(), c.account.ID, map[string]any{
		"old_thumbprint": c.account.Thumbprint, "new_thumbprint": next.thumbprint,
		"old_key_sha256": c.key.hash.String(), "new_key_sha256": next.hash.String(),
	})
	err = s.Store.ChangeAccountKey(ctx, c.account.ID, c.account.Thumbprint, next.thumbprint, next.jwk, ev)
	if fault.Is(err, fault.Conflict) { // somebody took the key, or changed this account's, a moment ago
		if other, lookErr := s.Store.AccountByThumbprint(ctx, c.ep.Name, next.thumbprint); lookErr == nil {
			return c.keyTaken(other.ID)
		}
		return fault.Wrap(fault.Unverified, err, "the account's key has just been changed by another request")
	}
	if err != nil {
		return err
	}
	s.keys.put(c.account.ID, next)
	c.account.Thumbprint, c.account.JWK = next.thumbprint, next.jwk
	return s.showAccount(w, r, http.StatusOK, c, c.account)
}

// keyTaken is the one 409 of RFC 8555; it says where the key is in use.
func (c *call) keyTaken(accountID string) error {
	return headed{fault.New(fault.Conflict, "the new key belongs to an account already"), "Location",
		c.ep.account(accountID)}
}

// newKey checks the inner message and returns the key that signed it.
func (c *call) newKey(ctx context.Context) (*publicKey, error) {
	m, err := parseJWS(c.payload)
	if err != nil {
		return nil, inner("inner JWS", err)
	}
	h := &m.header
	switch {
	case h.JWK == nil:
		return nil, fault.New(fault.Malformed, `inner JWS: it must carry the new key as "jwk"`)
	case h.Nonce != nil:
		return nil, fault.New(fault.Malformed, "inner JWS: it has a nonce")
	case *h.URL != c.url:
		return nil, fault.New(fault.Malformed, "inner JWS: its url %q is not the outer one", *h.URL)
	}
	if err := h.checkAlgorithm(accepted); err != nil {
		return nil, inner("inner JWS", err)
	}
	next, err := parseJWK(h.JWK)
	if err != nil {
		return nil, inner("inner JWS", err)
	}
	if err := pki.CheckKey(next.key, pki.AccountKeys()); err != nil {
		return nil, inner("inner JWS", err)
	}
	if err := m.verify(ctx, next.key); err != nil {
		return nil, inner("inner JWS", err)
	}
	var p keyChangePayload
	if err := json.Unmarshal(m.payload, &p); err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "inner JWS: the payload is not a keyChange object")
	}
	if c.ep.accountID(p.Account) != c.account.ID {
		return nil, fault.New(fault.Malformed, "inner JWS: account %q is not the one that signed the request",
			p.Account)
	}
	old, err := parseJWK(p.OldKey)
	if err != nil {
		return nil, inner("oldKey", err)
	}
	switch c.account.Thumbprint {
	case next.thumbprint:
		return nil, fault.New(fault.Malformed, "the new key is the old key")
	case old.thumbprint:
		return next, nil
	}
	return nil, fault.New(fault.Malformed, "inner JWS: oldKey is not the account's key")
}
