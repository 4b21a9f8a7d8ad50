package acme

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/store"
)

func TestACME_A30_KeyChange(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, other := e.account(t), e.account(t)
	target := c.base + "/key-change"
	next := newECKey(t, elliptic.P256())
	type parts struct {
		key     crypto.Signer  // signs the inner message
		header  map[string]any // of the inner message
		account string
		old     crypto.PublicKey
	}
	inner := func(change func(*parts)) string {
		p := parts{key: next, header: map[string]any{"url": target, "jwk": jwkOf(t, next.Public())}, account: c.kid, old: c.key.Public()}
		if change != nil {
			change(&p)
		}
		return string(sign(t, p.key, p.header, text(t, map[string]any{"account": p.account, "oldKey": jwkOf(t, p.old)})))
	}
	for name, tc := range map[string]struct {
		change func(*parts)
		status int
		typ    string
	}{
		"signed with another key": {func(p *parts) { p.key = newECKey(t, elliptic.P256()) }, 400, "malformed"},
		"signed with the old key": {func(p *parts) { p.key, p.header["jwk"] = c.key, jwkOf(t, c.key.Public()) }, 400, "malformed"},
		"a nonce":                 {func(p *parts) { p.header["nonce"] = e.server.nonces.next() }, 400, "malformed"},
		"another url":             {func(p *parts) { p.header["url"] = c.base + "/new-order" }, 400, "malformed"},
		"no url":                  {func(p *parts) { delete(p.header, "url") }, 400, "malformed"},
		"kid instead of jwk":      {func(p *parts) { delete(p.header, "jwk"); p.header["kid"] = c.kid }, 400, "malformed"},
		"another account":         {func(p *parts) { p.account = other.kid }, 400, "malformed"},
		"another old key":         {func(p *parts) { p.old = other.key.Public() }, 400, "malformed"},
		"a bad algorithm":         {func(p *parts) { p.header["alg"] = "none" }, 400, "badSignatureAlgorithm"},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, c.post(target, inner(tc.change)), tc.status, tc.typ) })
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, c.post(target, inner(func(p *parts) { p.key, p.header["jwk"] = weak, jwkOf(t, weak.Public()) })), 400, "badPublicKey")
	r := c.post(target, inner(func(p *parts) { p.key, p.header["jwk"] = other.key, jwkOf(t, other.key.Public()) }))
	wantProblem(t, r, http.StatusConflict, "malformed")
	if l := r.header.Get("Location"); l != other.kid {
		t.Errorf("location %q", l)
	}
	wantProblem(t, c.post(target, "{}"), 400, "malformed")
	byKID := inner(func(p *parts) { delete(p.header, "jwk"); p.header["kid"] = c.kid })
	p := wantProblem(t, c.post(target, byKID), 400, "malformed")
	if !strings.Contains(p.Detail, `the new key as "jwk"`) {
		t.Errorf("%+v", p)
	}

	want(t, c.post(target, inner(nil)), http.StatusOK)
	wantProblem(t, c.post(c.kid, ""), 400, "malformed") // the old key is nobody's
	c.key = next
	c.read(c.kid)
	want(t, c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`), http.StatusOK)
}

func TestACME_A30_AFormerKeyThatIsRememberedIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	id := strings.TrimPrefix(c.kid, c.base+"/acct/")
	next := newECKey(t, elliptic.P256())
	pub, err := newPublicKey(next.Public())
	if err != nil {
		t.Fatal(err)
	}
	// Another node changes the key; this one still remembers the old.
	if err := e.store.ChangeAccountKey(t.Context(), id, c.thumbprint(), pub.thumbprint, pub.jwk, store.Event{At: e.now(), Action: "account.key_changed"}); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, c.post(c.kid, ""), 400, "malformed")
	c.key = next
	c.read(c.kid)
}
