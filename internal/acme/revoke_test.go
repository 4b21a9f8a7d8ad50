package acme

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func revokePayloadOf(der []byte, reason pki.Reason) map[string]any {
	return map[string]any{"certificate": base64.RawURLEncoding.EncodeToString(der), "reason": int(reason)}
}

func (e *env) revocation(t *testing.T, der []byte) *store.Revocation {
	t.Helper()
	row, err := e.server.Pipeline.Lookup(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return row.Revocation
}

// bearer is a client without an account that has a certificate's key.
func (e *env) bearer(t *testing.T, key crypto.Signer) *client {
	c := e.client(t, "default")
	c.key = key
	return c
}

func TestACME_A47_ASecondRequestLearnsTheFacts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	leaf := c.issue(nil, "a.localhost")[0]
	target := c.base + "/revoke-cert"
	want(t, c.post(target, revokePayloadOf(leaf.Raw, pki.Superseded)), 200)
	before := e.revocation(t, leaf.Raw)
	for _, reason := range []pki.Reason{pki.Superseded, pki.PrivilegeWithdrawn} {
		p := wantProblem(t, c.post(target, revokePayloadOf(leaf.Raw, reason)), 400, "alreadyRevoked")
		if !strings.Contains(p.Detail, "superseded") || !strings.Contains(p.Detail, before.RevokedAt.Format(time.RFC3339)) {
			t.Errorf("detail %q", p.Detail)
		}
	}
	if after := e.revocation(t, leaf.Raw); *after != *before {
		t.Errorf("it became %+v, was %+v", after, before)
	}
	// A compromise is worth more than what was said before (rule C8).
	want(t, c.post(target, revokePayloadOf(leaf.Raw, pki.KeyCompromise)), 200)
	if after := e.revocation(t, leaf.Raw); after.Reason != pki.KeyCompromise || !after.RevokedAt.Equal(before.RevokedAt) {
		t.Errorf("upgraded to %+v", after)
	}
}

// TestACME_A47_TheKeyOverrulesTheReason: whoever signs with the certificate's key
// is believed that it is in hands that it should not be in.
func TestACME_A47_TheKeyOverrulesTheReason(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	if err := e.server.Pipeline.Revoke(t.Context(), issuance.Revocation{CertificateID: e.row(t, leaf).ID, Reason: pki.CertificateHold}); err != nil {
		t.Fatal(err)
	}
	b := e.bearer(t, key)
	wantProblem(t, b.postJWK(b.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.CertificateHold)), 400, "badRevocationReason")
	want(t, b.postJWK(b.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.Superseded)), 200)
	if r := e.revocation(t, leaf.Raw); r.Reason != pki.KeyCompromise || r.Requester != "key:"+b.thumbprint() {
		t.Errorf("revocation %+v", r)
	}
	wantProblem(t, b.postJWK(b.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.Superseded)), 400, "alreadyRevoked")
}

// TestFS10_WhoseWordBlocksAKey: who merely proves the same names revokes for
// keyCompromise and blocks nothing; the key itself and the account that ordered
// the certificate block it, also when it stands revoked for keyCompromise.
func TestFS10_WhoseWordBlocksAKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newIdleEnv(t, st)
		e.run(t)
		owner, stranger := e.account(t), e.account(t)
		stranger.ready("a.localhost")
		blocked := func(k crypto.Signer) bool {
			t.Helper()
			hash, err := pki.HashKey(k.Public())
			if err != nil {
				t.Fatal(err)
			}
			is, err := st.BlockedKey(t.Context(), hash)
			if err != nil {
				t.Fatal(err)
			}
			return is
		}
		for name, again := range map[string]func(c *client, k crypto.Signer, payload any) *response{
			"key": func(c *client, k crypto.Signer, payload any) *response {
				b := e.bearer(t, k)
				return b.postJWK(b.base+"/revoke-cert", payload)
			},
			"owner": func(c *client, _ crypto.Signer, payload any) *response { return c.post(c.base+"/revoke-cert", payload) },
		} {
			key := newECKey(t, elliptic.P256())
			payload := revokePayloadOf(owner.issue(key, "a.localhost")[0].Raw, pki.KeyCompromise)
			want(t, stranger.post(stranger.base+"/revoke-cert", payload), 200)
			wantProblem(t, stranger.post(stranger.base+"/revoke-cert", payload), 400, "alreadyRevoked")
			if blocked(key) {
				t.Fatalf("%s: an account with a proof of the name blocked another's key", name)
			}
			for range 2 {
				wantProblem(t, again(owner, key, payload), 400, "alreadyRevoked")
				if !blocked(key) {
					t.Errorf("%s: not blocked", name)
				}
			}
		}
		key := newECKey(t, elliptic.P256())
		want(t, owner.post(owner.base+"/revoke-cert",
			revokePayloadOf(owner.issue(key, "a.localhost")[0].Raw, pki.KeyCompromise)), 200)
		if !blocked(key) {
			t.Error("the account that ordered the certificate did not block its key")
		}
	})
}

func (e *env) row(t *testing.T, leaf *x509.Certificate) *store.Certificate {
	t.Helper()
	row, err := e.server.Pipeline.Lookup(t.Context(), leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// TestACME_A48_RevocationAfterTheOrderExpired: the order is even gone.
func TestACME_A48_RevocationAfterTheOrderExpired(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	leaf := c.issue(nil, "a.localhost")[0]
	e.sleep(40 * 24 * time.Hour) // longer than orders and authorizations live
	if p, err := e.store.Purge(t.Context(), e.now(), 100); err != nil || p.Orders == 0 || p.Authorizations == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	want(t, c.post(c.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.CessationOfOperation)), 200)
}

// TestACME_A48_CertificatesOfOtherProtocols are revoked by their keys as well.
func TestACME_A48_CertificatesOfOtherProtocols(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, protocol := range []string{"operator", "est", "scep"} {
		key := newECKey(t, elliptic.P384())
		request, err := pki.ParseCSR(t.Context(), csr(t, key, protocol+".lab.test"))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := e.server.Pipeline.Issue(t.Context(), issuance.Request{
			Protocol: protocol, Profile: "tls-server", Issuer: "web", Origin: "request:" + protocol, CSR: request, Requester: protocol + ":somebody",
		})
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, e.account(t).post(testBase+"/acme/default/revoke-cert", revokePayloadOf(cert.DER, pki.Superseded)), 403, "unauthorized")
		b := e.bearer(t, key)
		want(t, b.postJWK(b.base+"/revoke-cert", revokePayloadOf(cert.DER, pki.Superseded)), 200)
		if r := e.revocation(t, cert.DER); r.Reason != pki.KeyCompromise {
			t.Errorf("%s: %+v", protocol, r)
		}
	}
}

// TestACME_A48_KeysThatNoAccountMayHave revoke their certificates all the same.
// Such certificates were issued elsewhere and imported.
func TestACME_A48_KeysThatNoAccountMayHave(t *testing.T) {
	t.Parallel()
	url := storetest.SQLiteURL(t)
	st := storetest.Open(t, url, "node-1")
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := newIdleEnv(t, st)
	e.run(t)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuing := e.server.Pipeline.Rules().CAs.Get("web").Certificate()
	for name, key := range map[string]crypto.Signer{"rsa-1024": weak, "ed25519": edwards, "ec-p521": newECKey(t, elliptic.P521())} {
		serial := pki.NewSerial()
		leaf := issuancetest.Certify(t, &x509.Certificate{
			SerialNumber: serial.Big(), DNSNames: []string{name + ".lab.test"}, NotBefore: e.now().Add(-time.Hour), NotAfter: e.now().Add(time.Hour),
		}, issuing, key.Public(), e.signer.Private)
		hash, err := pki.HashKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		row := store.Certificate{
			ID: store.NewID(), IssuerID: "web", Serial: serial, Node: "node-1", KeyHash: hash[:], NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Origin: "request:" + name, ReservedAt: e.now(),
		}
		ev := store.Event{At: e.now(), Action: "test"}
		if err := st.Reserve(t.Context(), row, nil, ev); err != nil {
			t.Fatal(err)
		}
		if err := st.Complete(t.Context(), row.ID, leaf.Raw, e.now(), ev); err != nil {
			t.Fatal(err)
		}
		storetest.Exec(t, url, `DELETE FROM origins WHERE origin = 'request:`+name+`'`, `UPDATE certificates SET status = 'imported' WHERE id = '`+row.ID+`'`)

		b := e.bearer(t, key)
		if name == "rsa-1024" {
			wantProblem(t, b.postJWK(b.base+"/new-account", `{"termsOfServiceAgreed":true}`), 400, "badPublicKey")
		}
		if r := b.postJWK(b.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.Unspecified)); r.code != http.StatusOK {
			t.Errorf("%s: %d %s", name, r.code, r.body)
			continue
		}
		if r := e.revocation(t, leaf.Raw); r.Reason != pki.KeyCompromise {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestX14_CompromisedKeysInACME tries a key, once it is known to be compromised,
// wherever ACME takes one.
func TestX14_CompromisedKeysInACME(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	holder := e.bearer(t, key) // an account that took the key of the certificate
	holder.register(map[string]any{"termsOfServiceAgreed": true})
	holder.order("b.localhost")
	want(t, c.post(c.base+"/revoke-cert", revokePayloadOf(leaf.Raw, pki.KeyCompromise)), 200)

	order := map[string]any{"identifiers": dnsNames("c.localhost")}
	wantProblem(t, holder.post(holder.base+"/new-order", order), 400, "badPublicKey")
	other := e.client(t, "eab")
	other.key = key
	wantProblem(t, other.postJWK(other.base+"/new-account", `{"termsOfServiceAgreed":true}`), 400, "badPublicKey")
	wantProblem(t, c.changeKey(key), 400, "badPublicKey")
	o, _ := c.ready("d.localhost")
	if r := c.post(o.Finalize, csrPayload(csr(t, key, "d.localhost"))); r.code != http.StatusBadRequest {
		t.Errorf("finalize: %d %s", r.code, r.body)
	}
}

// TestFS18_BlockedKeySignsNothing: an account's key that strangers may have signs
// nothing any more, in whatever way it is known, but the revocation of certificates of
// this very key.
func TestFS18_BlockedKeySignsNothing(t *testing.T) {
	t.Parallel()
	for _, cached := range []bool{true, false} {
		e := newEnv(t)
		c := e.account(t)
		key := newECKey(t, elliptic.P256())
		first, second := c.issue(key, "a.localhost")[0], c.issue(key, "b.localhost")[0]
		thief := e.bearer(t, key)
		thief.register(map[string]any{"termsOfServiceAgreed": true})
		own := thief.issue(nil, "c.localhost")[0]
		o, u := thief.ready("d.localhost")
		want(t, c.post(c.base+"/revoke-cert", revokePayloadOf(first.Raw, pki.KeyCompromise)), 200)

		for name, send := range map[string]func() *response{
			"newAccount": func() *response {
				return thief.postJWK(thief.base+"/new-account", `{"onlyReturnExisting":true}`)
			},
			"keyChange": func() *response { return thief.changeKey(newECKey(t, elliptic.P256())) },
			"newOrder": func() *response {
				return thief.post(thief.base+"/new-order", map[string]any{"identifiers": dnsNames("e.localhost")})
			},
			"finalize": func() *response { return thief.post(o.Finalize, csrPayload(csr(t, nil, "d.localhost"))) },
			"order":    func() *response { return thief.post(u, "") },
			"account":  func() *response { return thief.post(thief.kid, map[string]string{"status": "deactivated"}) },
			"deactivate": func() *response {
				return thief.post(o.Authorizations[0], map[string]string{"status": "deactivated"})
			},
			"revocation by the account": func() *response {
				return thief.post(thief.base+"/revoke-cert", revokePayloadOf(own.Raw, pki.Superseded))
			},
		} {
			if !cached {
				e.server.keys.drop(idOf(thief.kid))
			}
			p := wantProblem(t, send(), 400, "badPublicKey")
			if p.Reason != "compromised_key" || !strings.Contains(p.Detail, "register a new account with a new key") {
				t.Errorf("%s: %+v", name, p)
			}
		}
		want(t, thief.postJWK(thief.base+"/revoke-cert", revokePayloadOf(second.Raw, pki.KeyCompromise)), 200)
		another := thief.postJWK(thief.base+"/revoke-cert", revokePayloadOf(own.Raw, pki.KeyCompromise))
		wantProblem(t, another, 403, "unauthorized")

		hash, err := pki.HashKey(key.Public()) // what cert list --key and the block list ask for
		if err != nil {
			t.Fatal(err)
		}
		events, _, err := e.store.AuditTail(t.Context(), 100, "")
		if err != nil || !slices.ContainsFunc(events, func(ev store.Event) bool {
			return ev.Action == "account.created" && strings.Contains(string(ev.Detail), `"`+hash.String()+`"`)
		}) {
			t.Errorf("%v, no account on record with the key %s", err, hash)
		}
	}
}

// changeKey asks for a rollover of the account to a key.
func (c *client) changeKey(next crypto.Signer) *response {
	c.t.Helper()
	target := c.base + "/key-change"
	inner := sign(c.t, next, map[string]any{"url": target, "jwk": jwkOf(c.t, next.Public())},
		text(c.t, map[string]any{"account": c.kid, "oldKey": jwkOf(c.t, c.key.Public())}))
	return c.post(target, string(inner))
}
