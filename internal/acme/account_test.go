package acme

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

func TestACME_A22_NewAccount(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	r := c.register(map[string]any{"termsOfServiceAgreed": true, "contact": []string{"mailto:a@example.com"}, "unknown": 1})
	a := decodeInto[accountView](t, r)
	if a.Status != statusValid || len(a.Contact) != 1 || a.Orders != c.kid+"/orders" || !a.Agreed {
		t.Errorf("%s", r.body)
	}
	again := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": []string{"mailto:b@example.com"}})
	want(t, again, http.StatusOK)
	if again.header.Get("Location") != c.kid || string(again.body) != string(r.body) {
		t.Errorf("%s %s", again.header.Get("Location"), again.body)
	}
}

func TestACME_A22_OneAccountForAKeyThatComesTwiceAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	var wg sync.WaitGroup
	locations := make([]string, 8)
	codes := make([]int, len(locations))
	for i := range locations {
		wg.Go(func() {
			r := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true})
			locations[i], codes[i] = r.header.Get("Location"), r.code
		})
	}
	wg.Wait()
	created := 0
	for i := range locations {
		if locations[i] != locations[0] || locations[i] == "" {
			t.Errorf("two accounts: %v", locations)
		}
		if codes[i] == http.StatusCreated {
			created++
		} else if codes[i] != http.StatusOK {
			t.Errorf("code %d", codes[i])
		}
	}
	if created != 1 {
		t.Errorf("created %d times", created)
	}
}

func TestACME_A23_OnlyReturnExisting(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, endpoint := range []string{"default", "eab"} {
		c := e.client(t, endpoint)
		wantProblem(t, c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`), 400, "accountDoesNotExist")
	}
	c := e.account(t)
	r := c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`)
	want(t, r, http.StatusOK)
	if r.header.Get("Location") != c.kid {
		t.Error(r.header.Get("Location"))
	}
}

func TestACME_A24_TermsOfService(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	for _, payload := range []string{`{}`, `{"termsOfServiceAgreed":false}`} {
		r := c.postJWK(c.base+"/new-account", payload)
		p := wantProblem(t, r, http.StatusForbidden, "userActionRequired")
		if l := r.links("terms-of-service"); len(l) != 1 || l[0] != "https://ca.test/terms" || p.Instance != l[0] {
			t.Errorf("links %v, instance %q", l, p.Instance)
		}
	}
}

func TestACME_A25_Contacts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for contact, typ := range map[string]string{
		"mailto:a@example.com":               "",
		"mailto:a+b@example.com":             "",
		"mailto:a@example.com,b@example.com": "invalidContact",
		"mailto:a@example.com?subject=x":     "invalidContact",
		"mailto:a@example.com?":              "invalidContact",
		"mailto:":                            "invalidContact",
		"mailto:not an address":              "invalidContact",
		"mailto:A%20B@example.com":           "invalidContact",
		"mailto:Name <a@example.com>":        "invalidContact",
		"mailto:ä@example.com":               "invalidContact",
		"a@example.com":                      "invalidContact",
		"":                                   "invalidContact",
		"tel:+41441234567":                   "unsupportedContact",
		"https://example.com":                "unsupportedContact",
		"mailto:" + strings.Repeat("a", 400): "invalidContact",
	} {
		c := e.client(t, "default")
		r := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": []string{contact}})
		if typ == "" {
			want(t, r, http.StatusCreated)
		} else {
			wantProblem(t, r, http.StatusBadRequest, typ)
		}
	}
	c := e.client(t, "default")
	many := strings.Split(strings.Repeat("mailto:a@example.com ", maxContacts)+"mailto:a@example.com", " ")
	wantProblem(t, c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": many}), 400, "invalidContact")
}

func TestACME_A28_UpdateAndDeactivate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	view := func(r *response) accountView {
		want(t, r, http.StatusOK)
		return decodeInto[accountView](t, r)
	}
	before := view(c.post(c.kid, ""))
	if got := view(c.post(c.kid, "{}")); got.Status != before.Status || got.Orders != before.Orders {
		t.Errorf("%+v", got)
	}
	if got := view(c.post(c.kid, `{"contact":["mailto:new@example.com"],"orders":"x","termsOfServiceAgreed":false,"foo":1}`)); got.Contact[0] != "mailto:new@example.com" || got.Orders != before.Orders || !got.Agreed {
		t.Errorf("%+v", got)
	}
	if got := view(c.post(c.kid, `{"status":"revoked"}`)); got.Status != statusValid || len(got.Contact) != 1 {
		t.Errorf("another status: %+v", got)
	}
	wantProblem(t, c.post(c.kid, `{"contact":["tel:1"]}`), 400, "unsupportedContact")
	wantProblem(t, c.post(c.kid, `{"contact":7}`), 400, "malformed")
	if got := view(c.post(c.kid, `{"contact":[]}`)); len(got.Contact) != 0 {
		t.Errorf("%+v", got)
	}

	o, _ := c.order("a.localhost")
	if got := view(c.post(c.kid, `{"status":"deactivated"}`)); got.Status != statusDeactivated {
		t.Errorf("%+v", got)
	}
	for _, target := range []string{c.kid, c.base + "/new-order", o.Authorizations[0]} {
		wantProblem(t, c.post(target, "{}"), http.StatusForbidden, "unauthorized")
	}
	wantProblem(t, c.postJWK(c.base+"/new-account", `{"termsOfServiceAgreed":true}`), http.StatusForbidden, "unauthorized")
	wantProblem(t, c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`), http.StatusForbidden, "unauthorized")
	id := o.Authorizations[0][strings.LastIndex(o.Authorizations[0], "/")+1:]
	a, err := e.store.Authorization(t.Context(), id)
	if err != nil || a.Status != statusDeactivated {
		t.Errorf("pending authorization of a deactivated account: %+v %v", a, err)
	}
}

func TestACME_A29_OrdersList(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	if got := string(c.read(c.kid + "/orders").body); got != `{"orders":[]}` {
		t.Errorf("an empty list is %s", got)
	}
	placed := map[string]bool{}
	for range ordersPage + 5 {
		_, u := c.order("a.localhost")
		placed[u] = true
	}
	pages, seen := 0, 0
	for next := c.kid + "/orders"; next != ""; pages++ {
		r := c.read(next)
		for _, u := range decodeInto[struct{ Orders []string }](t, r).Orders {
			if !placed[u] {
				t.Errorf("%s twice or not ours", u)
			}
			delete(placed, u)
			seen++
		}
		next = strings.Join(r.links("next"), "")
	}
	if pages != 2 || len(placed) != 0 || seen != ordersPage+5 {
		t.Errorf("%d pages, %d seen, missing %v", pages, seen, placed)
	}
}

func TestNewAccountsPerAddress(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.NewAccounts = limit.Rate{Count: 2, Per: time.Hour} })
	e.account(t)
	c := e.account(t)
	third := e.client(t, "default")
	payload := map[string]any{"termsOfServiceAgreed": true}
	r := third.postJWK(third.base+"/new-account", payload)
	wantProblem(t, r, http.StatusTooManyRequests, "rateLimited") // A50
	if r.header.Get("Retry-After") == "" || len(r.links("help")) != 1 {
		t.Errorf("%v", r.header)
	}
	want(t, c.postJWK(c.base+"/new-account", payload), http.StatusOK) // who is known is not limited
	e.sleep(31 * time.Minute)
	third.register(payload)
}

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
	k.CreatedBy = "test"
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
		if a := decodeInto[accountView](t, r); a.EABKID != kid {
			t.Errorf("A27: the binding is not shown: %s", r.body)
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

	kid, mac = e.newEAB(t, credential.NewKey{Names: []string{"*.in.localhost"}, Profiles: []string{"tls-server"}})
	c = e.client(t, "default")
	r := register(c, kid, mac)
	want(t, r, http.StatusCreated)
	c.kid = r.header.Get("Location")
	c.order("a.in.localhost")
	wantProblem(t, c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.out.localhost")}), 403, "rejectedIdentifier")
	r = c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.in.localhost"), "profile": "tls-server-short"})
	wantProblem(t, r, http.StatusForbidden, "unauthorized")
}

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

func TestACME_A16_CompromisedAccountKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	want(t, c.post(c.base+"/revoke-cert", map[string]any{
		"certificate": base64.RawURLEncoding.EncodeToString(leaf.Raw), "reason": int(pki.KeyCompromise),
	}), http.StatusOK)
	bad := e.client(t, "default")
	bad.key = key
	wantProblem(t, bad.postJWK(bad.base+"/new-account", `{"termsOfServiceAgreed":true}`), 400, "badPublicKey")
}
