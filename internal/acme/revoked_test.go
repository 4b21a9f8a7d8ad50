package acme

import (
	"crypto"
	"crypto/elliptic"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// revoke ends the client's account as an operator does, and blocks its key if asked.
func (c *client) revoke(block bool) {
	c.t.Helper()
	a, err := c.e.store.Account(c.t.Context(), idOf(c.kid))
	if err != nil {
		c.t.Fatal(err)
	}
	hash, err := HashKey(a.JWK)
	if want, _ := pki.HashKey(c.key.Public()); err != nil || hash != want {
		c.t.Fatalf("key hash %s, %v, want %s", hash, err, want)
	}
	blocked := &hash
	if !block {
		blocked = nil
	}
	ev := store.Event{At: c.e.now(), Action: "account.revoked", Actor: "uid:0", Subject: a.ID}
	if err := c.e.store.RevokeAccount(c.t.Context(), a, blocked, ev); err != nil {
		c.t.Fatal(err)
	}
}

// change is a keyChange to another key.
func (c *client) change(next crypto.Signer) *response {
	c.t.Helper()
	target := c.base + "/key-change"
	inner := sign(c.t, next, map[string]any{"url": target, "jwk": jwkOf(c.t, next.Public())},
		text(c.t, map[string]any{"account": c.kid, "oldKey": jwkOf(c.t, c.key.Public())}))
	return c.post(target, string(inner))
}

// attempts are all that a stolen account may be used for.
func (c *client) attempts(pending, ready orderView, readyURL, challenge string, cert []byte) map[string]*response {
	orders := map[string]any{"identifiers": dnsNames("a.localhost")}
	return map[string]*response{
		"the account":     c.post(c.kid, ""),
		"a contact":       c.post(c.kid, map[string]any{"contact": []string{"mailto:x@a.test"}}),
		"a new order":     c.post(c.base+"/new-order", orders),
		"a pending order": c.post(strings.TrimSuffix(pending.Finalize, "/finalize"), ""),
		"a challenge":     c.post(challenge, "{}"),
		"a ready order":   c.post(readyURL, ""),
		"finalize":        c.post(ready.Finalize, csrPayload(csr(c.t, nil, "c.localhost"))),
		"keyChange":       c.change(newECKey(c.t, elliptic.P256())),
		"revocation":      c.post(c.base+"/revoke-cert", revokePayloadOf(cert, pki.Superseded)),
	}
}

// TestFS18_RevokedAccount: a stolen account that an operator has ended can do nothing
// any more; who has the key of a certificate can still revoke that one.
func TestFS18_RevokedAccount(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]bool{"account": false, "account and key": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, st *store.Store) { testRevokedAccount(t, st, block) })
		})
	}
}

func testRevokedAccount(t *testing.T, st *store.Store, block bool) {
	e := newIdleEnv(t, st)
	e.run(t)
	stolen, other := e.account(t), e.account(t)
	key := newECKey(t, elliptic.P256())
	cert := stolen.issue(key, "a.localhost")[0].Raw
	pending, _ := stolen.order("b.localhost")
	ready, readyURL := stolen.ready("c.localhost")
	challenge := decodeInto[authorizationView](t, stolen.read(pending.Authorizations[0])).Challenges[0].URL
	stolen.revoke(block)
	for what, r := range stolen.attempts(pending, ready, readyURL, challenge, cert) {
		if p := wantProblem(t, r, http.StatusForbidden, "unauthorized"); p.Reason != "account_revoked" {
			t.Errorf("%s: %s", what, r.body)
		}
	}
	again := stolen.postJWK(stolen.base+"/new-account", map[string]any{"termsOfServiceAgreed": true})
	if block {
		wantProblem(t, again, http.StatusBadRequest, "badPublicKey")
		wantProblem(t, other.change(stolen.key), http.StatusBadRequest, "badPublicKey")
	} else if p := wantProblem(t, again, http.StatusForbidden, "unauthorized"); p.Reason != "account_revoked" {
		t.Errorf("newAccount with the old key: %s", again.body)
	}
	names := []pki.Identifier{{Type: pki.DNS, Value: "a.localhost"}, {Type: pki.DNS, Value: "c.localhost"}}
	held, err := st.ReusableAuthorizations(t.Context(), idOf(stolen.kid), namesOf(names), e.now())
	if err != nil || len(held) != 0 {
		t.Errorf("reusable: %+v, %v", held, err)
	}
	bearer := e.bearer(t, key)
	want(t, bearer.postJWK(stolen.base+"/revoke-cert", revokePayloadOf(cert, pki.KeyCompromise)), http.StatusOK)
	if e.revocation(t, cert) == nil {
		t.Error("who has the certificate's key could not revoke it")
	}
	other.issue(nil, "a.localhost")
}

// TestFS18_ApprovalOfARevokedAccount: nobody can approve what it has asked for.
func TestFS18_ApprovalOfARevokedAccount(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	queue := e.asks(t)
	queue.Recheck("acme", e.server.recheck)
	c := e.account(t)
	_, id := e.waiting(t, c, queue, "a.localhost")
	c.revoke(false)
	if _, err := queue.Approve(t.Context(), id, decider); err == nil || fault.Of(err).Reason != "account_revoked" {
		t.Errorf("approve: %v", err)
	}
}

// TestFS18_RevokedAuthorization: an operator takes back a proof, and nothing rests on it
// any more.
func TestFS18_RevokedAuthorization(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	ev := store.Event{At: time.Now(), Action: "authorization.revoked", Actor: "uid:0", Subject: "a"}
	if err := e.store.RevokeAuthorization(t.Context(), idOf(o.Authorizations[0]), ev); err != nil {
		t.Fatal(err)
	}
	if got := decodeInto[authorizationView](t, c.read(o.Authorizations[0])); got.Status != "revoked" {
		t.Errorf("authorization %+v", got)
	}
	got := decodeInto[orderView](t, c.read(u))
	why := decodeInto[problem](t, &response{body: got.Error}).Reason
	if got.Status != statusInvalid || why != "authorization_revoked" {
		t.Errorf("order %+v", got)
	}
	again, _ := c.order("a.localhost")
	if again.Status != statusPending || again.Authorizations[0] == o.Authorizations[0] {
		t.Errorf("a new order rests on it: %+v", again)
	}
}

// TestFR21_RecordOfAFailedAttempt: what was tried is on record from the first attempt
// on, not only once the last has failed.
func TestFR21_RecordOfAFailedAttempt(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	e.server.work.delays = []time.Duration{time.Hour}
	e.run(t)
	c := e.account(t)
	o, _ := c.order("a.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	want(t, c.post(a.Challenges[0].URL, "{}"), http.StatusOK) // nothing answers for it
	var row *store.Authorization
	eventually(t, "the first attempt is on record", func() bool {
		var err error
		if row, err = e.store.Authorization(t.Context(), idOf(o.Authorizations[0])); err != nil {
			t.Fatal(err)
		}
		return row.Attempts == 1
	})
	if !strings.Contains(string(row.Record), `"tried":["127.0.0.1"]`) || row.Status != statusPending {
		t.Errorf("%s: %s", row.Status, row.Record)
	}
}
