package acme

import (
	"bytes"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// bind returns a binding of the client's key, with changes.
func (c *client) bind(kid string, mac []byte, header map[string]any, payload string) json.RawMessage {
	h := map[string]any{"kid": kid, "url": c.base + "/new-account"}
	for k, v := range header {
		if v == nil {
			delete(h, k)
		} else {
			h[k] = v
		}
	}
	if payload == "" {
		payload = string(jwkOf(c.t, c.key.Public()))
	}
	return sign(c.t, mac, h, payload)
}

func (e *env) newEAB(t *testing.T, k credential.NewKey) (string, []byte) {
	t.Helper()
	if k.CreatedBy = "test"; !k.Binding.Binds() {
		k.Binding = pki.Binding{AnyName: true}
	}
	key, secret, err := e.eab.Create(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return key.KID, mac
}

func TestACME_A26_ExternalAccountBinding(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	kid, mac := e.newEAB(t, credential.NewKey{})
	other := newECKey(t, elliptic.P256())
	try := func(endpoint string, make func(c *client) json.RawMessage) (*client, *response) {
		c := e.client(t, endpoint)
		payload := map[string]any{"termsOfServiceAgreed": true}
		if make != nil {
			payload["externalAccountBinding"] = make(c)
		}
		return c, c.postJWK(c.base+"/new-account", payload)
	}
	_, r := try("eab", nil)
	wantProblem(t, r, http.StatusForbidden, "externalAccountRequired")
	_, r = try("eab", func(*client) json.RawMessage { return json.RawMessage("null") })
	wantProblem(t, r, http.StatusForbidden, "externalAccountRequired")

	for name, tc := range map[string]struct {
		make   func(c *client) json.RawMessage
		status int
		typ    string
	}{
		"unknown kid": {func(c *client) json.RawMessage { return c.bind("nobody", mac, nil, "") }, 403, "unauthorized"},
		"wrong MAC key": {func(c *client) json.RawMessage {
			return c.bind(kid, []byte("0123456789abcdef0123456789abcdef"), nil, "")
		}, 403, "unauthorized"},
		"another url": {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"url": c.base}, "") }, 403, "unauthorized"},
		"another key": {func(c *client) json.RawMessage { return c.bind(kid, mac, nil, string(jwkOf(t, other.Public()))) }, 403, "unauthorized"},
		"a nonce":     {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"nonce": "x"}, "") }, 400, "malformed"},
		"no kid":      {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"kid": nil}, "") }, 400, "malformed"},
		"no url":      {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"url": nil}, "") }, 400, "malformed"},
		"jwk": {func(c *client) json.RawMessage {
			return c.bind(kid, mac, map[string]any{"kid": nil, "jwk": jwkOf(t, other.Public())}, "")
		}, 400, "malformed"},
		"alg none":       {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"alg": "none"}, "") }, 400, "malformed"},
		"alg ES256":      {func(c *client) json.RawMessage { return c.bind(kid, mac, map[string]any{"alg": "ES256"}, "") }, 400, "malformed"},
		"not a JWS":      {func(*client) json.RawMessage { return json.RawMessage(`"x"`) }, 400, "malformed"},
		"payload no JWK": {func(c *client) json.RawMessage { return c.bind(kid, mac, nil, `"x"`) }, 400, "malformed"},
	} {
		for _, endpoint := range []string{"eab", "default"} { // a binding that is sent is checked, needed or not
			t.Run(name+" "+endpoint, func(t *testing.T) {
				_, r := try(endpoint, tc.make)
				wantProblem(t, r, tc.status, tc.typ)
			})
		}
	}
	for _, endpoint := range []string{"eab", "default"} {
		c, r := try(endpoint, func(c *client) json.RawMessage { return c.bind(kid, mac, nil, "") })
		want(t, r, http.StatusCreated)
		c.kid = r.header.Get("Location")
		for _, r := range []*response{r, c.read(c.kid), c.postJWK(c.base+"/new-account", `{}`)} {
			a := decodeInto[accountView](t, r)
			inner, err := parseJWS(a.Binding)
			if a.EABKID != kid || err != nil || *inner.header.KID != kid || string(inner.payload) != string(jwkOf(t, c.key.Public())) {
				t.Errorf("A27: the binding is not shown: %s", r.body)
			}
		}
		c.kid = r.header.Get("Location")
		c.order("a.localhost")
	}
	// The MAC's algorithm is independent of the account key's, and JWKs are compared by thumbprint.
	c := e.client(t, "eab")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.key = key
	spaced := strings.Replace(string(jwkOf(t, key.Public())), "{", `{ "use" : "sig", `, 1)
	want(t, c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, spaced)}), 201)
}

func TestACME_A26_GuessingIsLimited(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.WrongSecrets = limit.Rate{Count: 3, Per: time.Hour} })
	kid, mac := e.newEAB(t, credential.NewKey{})
	guess := func(mac []byte) *response {
		c := e.client(t, "eab")
		return c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, "")})
	}
	for range 3 {
		wantProblem(t, guess([]byte("0123456789abcdef0123456789abcdef")), 403, "unauthorized")
	}
	wantProblem(t, guess([]byte("0123456789abcdef0123456789abcdef")), 429, "rateLimited")
	wantProblem(t, guess(mac), 429, "rateLimited")
	e.sleep(time.Hour)
	want(t, guess(mac), http.StatusCreated)
}

// bindWith returns a binding of the client's key by any MAC, which the library
// does not make with a short key.
func (c *client) bindWith(kid string, mac []byte, alg string) json.RawMessage {
	protected, err := json.Marshal(map[string]string{"alg": alg, "kid": kid, "url": c.base + "/new-account"})
	if err != nil {
		c.t.Fatal(err)
	}
	covered := b64(string(protected)) + "." + b64(string(jwkOf(c.t, c.key.Public())))
	of := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}[alg]
	sum := hmac.New(of, mac)
	sum.Write([]byte(covered))
	part := strings.Split(covered, ".")
	body, err := json.Marshal(map[string]string{
		"protected": part[0], "payload": part[1], "signature": base64.RawURLEncoding.EncodeToString(sum.Sum(nil)),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return body
}

// TestFR14_EveryMACFitsAKey: new keys are good for all three algorithms. A short
// one of old is refused with those that are too long for it, which is no guess.
func TestFR14_EveryMACFitsAKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.WrongSecrets = limit.Rate{Count: 1, Per: time.Hour} })
	register := func(kid string, mac []byte, alg string) *response {
		c := e.client(t, "eab")
		binding := c.bindWith(kid, mac, alg)
		return c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true,
			"externalAccountBinding": binding})
	}
	kid, mac := e.newEAB(t, credential.NewKey{})
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		want(t, register(kid, mac, alg), http.StatusCreated)
	}
	old := bytes.Repeat([]byte("k"), 32)
	key := store.EABKey{KID: "old", HMAC: e.sealer.Seal("eab:old", old), CreatedBy: "test", CreatedAt: e.now()}
	if err := e.store.CreateEAB(t.Context(), key, store.Event{At: e.now(), Action: "eab.created"}); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"HS384", "HS512", "HS384"} {
		p := wantProblem(t, register("old", old, alg), http.StatusBadRequest, "malformed")
		if p.Reason != "eab_algorithm" || !strings.Contains(p.Detail, "HS256") {
			t.Errorf("%s: %+v", alg, p)
		}
	}
	want(t, register("old", old, "HS256"), http.StatusCreated)
	// What is not signed with the key tells nothing of it, and is a guess.
	p := wantProblem(t, register("old", bytes.Repeat([]byte("x"), 64), "HS512"), http.StatusForbidden, "unauthorized")
	if p.Reason != "eab_refused" {
		t.Errorf("a guess: %+v", p)
	}
}

func TestACME_A27_BindingPolicy(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	register := func(c *client, kid string, mac []byte) *response {
		return c.postJWK(c.base+"/new-account", map[string]any{
			"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, ""),
		})
	}
	kid, mac := e.newEAB(t, credential.NewKey{MaxUses: 1})
	c := e.client(t, "eab")
	want(t, register(c, kid, mac), http.StatusCreated)
	want(t, register(c, kid, mac), http.StatusOK) // the client's retry, with a key used up by now
	wantProblem(t, register(e.client(t, "eab"), kid, mac), http.StatusForbidden, "unauthorized")

	soon := e.now().Add(time.Minute)
	kid, mac = e.newEAB(t, credential.NewKey{ExpiresAt: soon})
	e.sleep(2 * time.Minute)
	wantProblem(t, register(e.client(t, "eab"), kid, mac), http.StatusForbidden, "unauthorized")

	kid, mac = e.newEAB(t, credential.NewKey{})
	if _, err := e.eab.Disable(t.Context(), kid, "test", ""); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, register(e.client(t, "eab"), kid, mac), http.StatusForbidden, "unauthorized")

	kid, mac = e.newEAB(t, credential.NewKey{Endpoint: "eab"})
	wantProblem(t, register(e.client(t, "default"), kid, mac), http.StatusForbidden, "unauthorized")

	kid, mac = e.newEAB(t, credential.NewKey{
		Binding: pki.Binding{Names: []string{"*.in.localhost"}}, Profiles: []string{"tls-server"},
	})
	c = e.client(t, "default")
	r := register(c, kid, mac)
	want(t, r, http.StatusCreated)
	c.kid = r.header.Get("Location")
	c.order("a.in.localhost")
	wantProblem(t, c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.out.localhost")}), 403, "rejectedIdentifier")
	r = c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.in.localhost"), "profile": "tls-server-short"})
	wantProblem(t, r, http.StatusForbidden, "unauthorized")
}
