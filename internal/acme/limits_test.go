package acme

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFS2_HugeKeys: a JWS is not verified with a key of any size, wherever it
// brings one.
func TestFS2_HugeKeys(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	huge := pkitest.Huge(20_000)
	jws := func(target string, header map[string]any) []byte {
		header["url"], header["jwk"], header["alg"] = target, jwkOf(t, huge.Public()), "RS256"
		protected, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		b := base64.RawURLEncoding
		signed := b.EncodeToString(protected) + "." + b64("{}")
		sum := hashOf("RS256").New()
		sum.Write([]byte(signed))
		signature, err := huge.Sign(nil, sum.Sum(nil), hashOf("RS256"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(signed, ".")
		body, err := json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1],
			"signature": b.EncodeToString(signature)})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	for _, path := range []string{"/new-account", "/revoke-cert"} {
		r := e.postRaw(c.base+path, jws(c.base+path, map[string]any{"nonce": e.server.nonces.next()}))
		wantProblem(t, r, http.StatusBadRequest, "badPublicKey")
	}
	inner := jws(c.base+"/key-change", map[string]any{})
	wantProblem(t, c.post(c.base+"/key-change", string(inner)), http.StatusBadRequest, "badPublicKey")
}

// TestFS2_SecretsInAJWK: primes that a stranger sends are not tried.
func TestFS2_SecretsInAJWK(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	for name, jwk := range map[string]map[string]string{
		"a key":     {"kty": "RSA", "n": number(key.N), "e": "AQAB", "d": number(key.D), "p": number(key.Primes[0]), "q": number(key.Primes[1])},
		"no key":    {"kty": "RSA", "n": number(key.N), "e": "AQAB", "d": "AQAB", "p": number(key.N), "q": "AQ"},
		"symmetric": {"kty": "oct", "k": "AQAB"},
		"EC":        {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "d": "AQ"},
	} {
		text, err := json.Marshal(jwk)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseJWK(text); !fault.Is(err, fault.BadPublicKey) || fault.Of(err).Reason != "key_private" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFS2_Busy does not run beside others: nobody's signature is verified meanwhile.
func TestFS2_Busy(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	e := newEnv(t)
	c := e.account(t)
	body := c.signed(c.base+"/new-order", map[string]any{"identifiers": dnsNames("busy.lab.test")})
	pkitest.Busy(t)
	for name, r := range map[string]*response{
		"kid": e.postRaw(c.base+"/new-order", body),
		"jwk": e.client(t, "default").postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true}),
	} {
		if wantProblem(t, r, http.StatusServiceUnavailable, "serverInternal"); r.header.Get("Retry-After") != "5" {
			t.Errorf("%s: %v", name, r.header)
		}
	}
}
