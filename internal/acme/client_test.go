package acme

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client is a tiny ACME client.
type client struct {
	t    testing.TB
	e    *env
	base string // of the endpoint
	key  crypto.Signer
	kid  string
}

func (e *env) client(t testing.TB, endpoint string) *client {
	t.Helper()
	return &client{t: t, e: e, base: testBase + "/acme/" + endpoint, key: newECKey(t, elliptic.P256())}
}

// account registers a new account at /acme/default.
func (e *env) account(t testing.TB) *client {
	t.Helper()
	c := e.client(t, "default")
	c.register(map[string]any{"termsOfServiceAgreed": true})
	return c
}

func (c *client) register(payload map[string]any) *response {
	c.t.Helper()
	r := c.postJWK(c.base+"/new-account", payload)
	want(c.t, r, http.StatusCreated)
	c.kid = r.header.Get("Location")
	return r
}

func text(t testing.TB, payload any) string {
	t.Helper()
	if s, ok := payload.(string); ok {
		return s
	}
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// postJWK signs with the key itself, post with the account.
func (c *client) postJWK(target string, payload any) *response {
	c.t.Helper()
	return c.e.postRaw(target, sign(c.t, c.key, map[string]any{
		"nonce": c.e.server.nonces.next(), "url": target, "jwk": jwkOf(c.t, c.key.Public()),
	}, text(c.t, payload)))
}

func (c *client) post(target string, payload any) *response {
	c.t.Helper()
	return c.e.postRaw(target, c.signed(target, payload))
}

func (c *client) signed(target string, payload any) []byte {
	c.t.Helper()
	return sign(c.t, c.key, map[string]any{"nonce": c.e.server.nonces.next(), "url": target, "kid": c.kid}, text(c.t, payload))
}

func (c *client) read(target string) *response {
	c.t.Helper()
	r := c.post(target, "")
	want(c.t, r, http.StatusOK)
	return r
}

func dnsNames(names ...string) []map[string]string {
	var ids []map[string]string
	for _, n := range names {
		typ := "dns"
		if net.ParseIP(n) != nil {
			typ = "ip"
		}
		ids = append(ids, map[string]string{"type": typ, "value": n})
	}
	return ids
}

// order places an order and returns it with its URL.
func (c *client) order(names ...string) (orderView, string) {
	c.t.Helper()
	r := c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames(names...)})
	want(c.t, r, http.StatusCreated)
	return decodeInto[orderView](c.t, r), r.header.Get("Location")
}

// thumbprint is that of the client's key now.
func (c *client) thumbprint() string {
	k, err := newPublicKey(c.key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	return k.thumbprint
}

// respond publishes the answer of a challenge and asks for its validation.
func (c *client) respond(authzURL, typ string) (authorizationView, *response) {
	c.t.Helper()
	a := decodeInto[authorizationView](c.t, c.read(authzURL))
	for _, ch := range a.Challenges {
		if ch.Type != typ {
			continue
		}
		keyAuth := ch.Token + "." + c.thumbprint()
		switch typ {
		case "http-01":
			c.e.publish(ch.Token, keyAuth)
		case "dns-01":
			sum := crypto.SHA256.New()
			sum.Write([]byte(keyAuth))
			c.e.dns.SetTXT("_acme-challenge."+a.Identifier.Value, base64.RawURLEncoding.EncodeToString(sum.Sum(nil)))
		}
		return a, c.post(ch.URL, "{}")
	}
	c.t.Fatalf("no %s in %v", typ, a.Challenges)
	return a, nil
}

// await polls until the object's status is none of the given ones.
func (c *client) await(target string, while ...string) (status string, r *response) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		r = c.read(target)
		status = decodeInto[struct{ Status string }](c.t, r).Status
		if !strings.Contains(strings.Join(while, " "), status) {
			return status, r
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is still %s", target, r.body)
		}
		time.Sleep(5 * time.Millisecond) // polling a condition
	}
}

// authorize makes every authorization of an order valid.
func (c *client) authorize(o orderView) {
	c.t.Helper()
	for _, u := range o.Authorizations {
		a := decodeInto[authorizationView](c.t, c.read(u))
		if a.Status == statusValid {
			continue
		}
		typ := "http-01"
		if a.Wildcard {
			typ = "dns-01"
		}
		_, r := c.respond(u, typ)
		want(c.t, r, http.StatusOK)
		if status, r := c.await(u, statusPending); status != statusValid {
			c.t.Fatalf("authorization %s", r.body)
		}
	}
}

// csr returns a request for names, SAN only, with a new key unless one is given.
func csr(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	return csrOf(t, template, key)
}

func csrOf(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	if key == nil {
		key = newECKey(t, elliptic.P256())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func csrPayload(der []byte) map[string]string {
	return map[string]string{"csr": base64.RawURLEncoding.EncodeToString(der)}
}

// ready places an order and proves its names.
func (c *client) ready(names ...string) (orderView, string) {
	c.t.Helper()
	o, u := c.order(names...)
	c.authorize(o)
	o = decodeInto[orderView](c.t, c.read(u))
	if o.Status != statusReady {
		c.t.Fatalf("order is %s", o.Status)
	}
	return o, u
}

// issue goes all the way and returns the chain, leaf first.
func (c *client) issue(key crypto.Signer, names ...string) []*x509.Certificate {
	c.t.Helper()
	o, u := c.ready(names...)
	r := c.post(o.Finalize, csrPayload(csr(c.t, key, names...)))
	want(c.t, r, http.StatusOK)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		c.t.Fatalf("order %s", r.body)
	}
	o = decodeInto[orderView](c.t, c.read(u))
	return chainOf(c.t, c.read(o.Certificate).body)
}

func chainOf(t testing.TB, text []byte) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for len(text) > 0 {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			t.Fatalf("not PEM: %q", text)
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}
