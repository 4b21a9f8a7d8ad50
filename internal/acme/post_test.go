package acme

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestACME_A4_A7_EveryPostAnswerHasNonceAndIndex(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	for name, r := range map[string]*response{
		"success":   c.read(u),
		"not found": c.post(c.base+"/order/x", ""),
		"malformed": e.postRaw(c.base+"/new-order", []byte("{")),
	} {
		if _, err := decodeBase64(r.header.Get("Replay-Nonce")); err != nil || r.header.Get("Replay-Nonce") == "" {
			t.Errorf("%s: nonce %q", name, r.header.Get("Replay-Nonce"))
		}
		if l := r.links("index"); len(l) != 1 || l[0] != c.base+"/directory" {
			t.Errorf("%s: index %v", name, l)
		}
	}
}

func TestACME_A5_A6_Nonces(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	with := func(nonce any) *response {
		h := map[string]any{"url": u, "kid": c.kid}
		if nonce != nil {
			h["nonce"] = nonce
		}
		return e.postRaw(u, sign(t, c.key, h, ""))
	}
	fresh := e.server.nonces.next
	used := fresh()
	want(t, with(used), http.StatusOK)
	foreign := NewNonces(NonceConfig{Key: []byte("another key"), Now: e.now}).next()
	former := NewNonces(NonceConfig{Key: bytes.Repeat([]byte{9}, 32), Now: e.now}).next()
	old := fresh()
	for name, nonce := range map[string]any{
		"reused": used, "missing": nil, "empty": "", "not base64url": "ab+/", "too short": "AAAA", "made up": strings.Repeat("A", 43),
		"of another key": foreign, "of a former process": former,
	} {
		r := with(nonce)
		wantProblem(t, r, http.StatusBadRequest, "badNonce")
		again := r.header.Get("Replay-Nonce")
		if again == "" {
			t.Fatalf("%s: no fresh nonce", name)
		}
		want(t, with(again), http.StatusOK)
	}
	e.sleep(nonceLife - time.Minute)
	want(t, with(old), http.StatusOK) // A6: an hour long
	old = fresh()
	e.sleep(nonceLife + time.Second)
	wantProblem(t, with(old), http.StatusBadRequest, "badNonce")
}

func TestACME_A5_SignatureBeforeNonce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	for _, cached := range []bool{true, false} {
		if !cached {
			e.server.keys.drop(strings.TrimPrefix(c.kid, c.base+"/acct/"))
		}
		nonce := e.server.nonces.next()
		h := map[string]any{"nonce": nonce, "url": u, "kid": c.kid}
		junk := sign(t, newECKey(t, elliptic.P256()), h, "")
		wantProblem(t, e.postRaw(u, junk), http.StatusBadRequest, "malformed")
		want(t, e.postRaw(u, sign(t, c.key, h, "")), http.StatusOK) // the junk did not burn it
		wantProblem(t, e.postRaw(u, sign(t, c.key, h, "")), http.StatusBadRequest, "badNonce")
	}
}

func TestACME_A9_A11_A13_MediaTypeAndSize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	for _, ct := range []string{"", "application/json", "application/jose", "application/jose+json; charset=utf-8", "text/plain"} {
		r := httptest.NewRequest(http.MethodPost, strings.TrimPrefix(u, testBase), bytes.NewReader(c.signed(u, "")))
		r.Header.Set("Content-Type", ct)
		wantProblem(t, e.send(r), http.StatusUnsupportedMediaType, "malformed")
	}
	big := append(c.signed(u, ""), bytes.Repeat([]byte{' '}, maxBody)...)
	wantProblem(t, e.postRaw(u, big), http.StatusRequestEntityTooLarge, "malformed")
	if ct := c.read(u).header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("A9: content type %q", ct)
	}
}

func TestACME_A15_KidOrJWK(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	header := func(target string, kid, jwk bool) map[string]any {
		h := map[string]any{"nonce": e.server.nonces.next(), "url": target}
		if kid {
			h["kid"] = c.kid
		}
		if jwk {
			h["jwk"] = jwkOf(t, c.key.Public())
		}
		return h
	}
	for _, path := range []string{"/new-order", "/key-change"} {
		target := c.base + path
		wantProblem(t, e.postRaw(target, sign(t, c.key, header(target, false, true), "{}")), 400, "malformed")
	}
	wantProblem(t, e.postRaw(u, sign(t, c.key, header(u, false, true), "")), 400, "malformed")
	target := c.base + "/new-account"
	wantProblem(t, e.postRaw(target, sign(t, c.key, header(target, true, false), "{}")), 400, "malformed")
	for _, target := range []string{u, target, c.base + "/revoke-cert"} {
		wantProblem(t, e.postRaw(target, sign(t, c.key, header(target, true, true), "{}")), 400, "malformed")
		wantProblem(t, e.postRaw(target, sign(t, c.key, header(target, false, false), "{}")), 400, "malformed")
	}
}

func TestACME_A16_OverHTTP(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	target := c.base + "/new-account"
	for _, alg := range []string{"none", "HS256", "RS512", "PS256", "ES384"} {
		body := sign(t, c.key, map[string]any{
			"alg": alg, "nonce": e.server.nonces.next(), "url": target, "jwk": jwkOf(t, c.key.Public()),
		}, "{}")
		p := wantProblem(t, e.postRaw(target, body), 400, "badSignatureAlgorithm")
		if strings.Join(p.Algorithms, " ") != "ES256 EdDSA ES384 ES512 RS256" {
			t.Errorf("%s: algorithms %v", alg, p.Algorithms)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	body := sign(t, weak, map[string]any{"nonce": e.server.nonces.next(), "url": target, "jwk": jwkOf(t, weak.Public())}, "{}")
	wantProblem(t, e.postRaw(target, body), 400, "badPublicKey")
}

func TestACME_A14_OverHTTP(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	good := string(c.signed(u, ""))
	wantProblem(t, e.postRaw(u, []byte(strings.Replace(good, "{", `{"header":{},`, 1))), 400, "malformed")
	wantProblem(t, e.postRaw(u, []byte(strings.Replace(good, "{", `{"signatures":[],`, 1))), 400, "malformed")
	protected := `{"alg":"ES256","url":"` + u + `","kid":"` + c.kid + `","nonce":"` + e.server.nonces.next() + `","crit":["exp"],"exp":1}`
	wantProblem(t, e.postRaw(u, signRaw(t, c.key, jose.ES256, protected, "")), 400, "malformed")
	want(t, e.postRaw(u, []byte(good)), 200)
}

func TestACME_A17_URL(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	signedFor := func(signed, target string) *response {
		return e.postRaw(target, sign(t, c.key, map[string]any{"nonce": e.server.nonces.next(), "url": signed, "kid": c.kid}, ""))
	}
	for _, signed := range []string{
		"", u + "/", u + "?", u + "?a=b", strings.Replace(u, "https://ca.test", "https://ca.test:443", 1),
		strings.Replace(u, "https", "http", 1), strings.Replace(u, "ca.test", "CA.test", 1),
		strings.Replace(u, "ca.test", "evil.test", 1), strings.Replace(u, "/order/", "/%6frder/", 1), c.base + "/new-order",
	} {
		wantProblem(t, signedFor(signed, u), http.StatusForbidden, "unauthorized")
	}
	want(t, signedFor(strings.Replace(u, "https://ca.test", "https://old.ca.test", 1), u), 200) // A18: a former base URL
	orders := c.base + "/acct/" + strings.TrimPrefix(c.kid, c.base+"/acct/") + "/orders?cursor=x"
	want(t, signedFor(orders, orders), 200)
	wantProblem(t, signedFor(strings.TrimSuffix(orders, "?cursor=x"), orders), http.StatusForbidden, "unauthorized")
}

func TestACME_A18_Kid(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	_, u := c.order("a.localhost")
	as := func(kid string) *response {
		return e.postRaw(u, sign(t, c.key, map[string]any{"nonce": e.server.nonces.next(), "url": u, "kid": kid}, ""))
	}
	for _, kid := range []string{
		"", "1", c.kid + "x", c.kid + "/orders", c.base + "/acct/", "https://other.test/acme/default/acct/1",
		strings.Replace(c.kid, "/default/", "/eab/", 1),
	} {
		wantProblem(t, as(kid), http.StatusBadRequest, "accountDoesNotExist")
	}
	want(t, as(strings.Replace(c.kid, "https://ca.test", "https://old.ca.test", 1)), 200)

	elsewhere := testBase + "/acme/eab/order/x" // an account of one endpoint is nobody at another
	body := sign(t, c.key, map[string]any{
		"nonce": e.server.nonces.next(), "url": elsewhere, "kid": strings.Replace(c.kid, "/default/", "/eab/", 1),
	}, "")
	wantProblem(t, e.postRaw(elsewhere, body), http.StatusBadRequest, "accountDoesNotExist")

	want(t, c.post(c.kid, map[string]string{"status": "deactivated"}), 200)
	wantProblem(t, as(c.kid), http.StatusForbidden, "unauthorized")
}

func TestACME_A19_PostAsGet(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.order("a.localhost")
	for _, target := range []string{u, c.kid + "/orders"} {
		wantProblem(t, c.post(target, "{}"), 400, "malformed")
		want(t, c.post(target, ""), 200)
	}
	wantProblem(t, c.post(o.Authorizations[0], "{}"), 400, "malformed")
	for _, target := range []string{c.base + "/new-order", o.Finalize, c.base + "/revoke-cert", c.base + "/key-change"} {
		for _, payload := range []string{"", "[]", "null", `"x"`, "{", "{}{}"} {
			wantProblem(t, c.post(target, payload), 400, "malformed")
		}
	}
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	if ch := decodeInto[challengeView](t, c.read(a.Challenges[0].URL)); ch.Status != statusPending {
		t.Errorf("reading a challenge made it %s", ch.Status)
	}
	wantProblem(t, c.post(a.Challenges[0].URL, "[]"), 400, "malformed")
}

func TestACME_A20_OtherAccounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, other := e.account(t), e.account(t)
	o, u := c.order("a.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	for _, target := range []string{u, o.Authorizations[0], a.Challenges[0].URL, c.kid, c.kid + "/orders"} {
		r := other.post(target, "")
		wantProblem(t, r, http.StatusForbidden, "unauthorized")
		if strings.Contains(string(r.body), "localhost") {
			t.Errorf("data of another account: %s", r.body)
		}
	}
	wantProblem(t, other.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusForbidden, "unauthorized")
	wantProblem(t, other.post(a.Challenges[0].URL, "{}"), http.StatusForbidden, "unauthorized")
	wantProblem(t, other.post(o.Authorizations[0], `{"status":"deactivated"}`), http.StatusForbidden, "unauthorized")
	wantProblem(t, other.post(c.kid, `{"status":"deactivated"}`), http.StatusForbidden, "unauthorized")
	for _, path := range []string{"/order/x", "/authz/x", "/chall/x/http-01", "/cert/x"} {
		wantProblem(t, c.post(c.base+path, ""), http.StatusNotFound, "malformed")
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	var k keyCache
	key := &publicKey{}
	k.put("kept", key)
	for i := range 3 * keyCacheSize {
		k.put(strings.Repeat("x", 1+i%7)+time.Duration(i).String(), key)
		if i%1000 == 0 && k.get("kept") == nil {
			t.Fatal("a key in use was dropped")
		}
		if n := len(k.young) + len(k.old); n > 2*keyCacheSize {
			t.Fatalf("%d keys", n)
		}
	}
}
