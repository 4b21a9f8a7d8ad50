package acme

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// boundClient has an account by an EAB key with a binding.
func (e *env) boundClient(t *testing.T, b pki.Binding) *client {
	t.Helper()
	kid, mac := e.newEAB(t, credential.NewKey{Binding: b})
	c := e.client(t, "eab")
	c.register(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, "")})
	return c
}

// TestFS6_Order: an EAB key binds what its accounts order, name by name.
func TestFS6_Order(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.boundClient(t, pki.Binding{Names: []string{"seven.localhost", "*.seven.localhost", "127.7.0.0/16"}})
	identifier := func(kind, value string) map[string]any {
		return map[string]any{"identifiers": []map[string]string{{"type": kind, "value": value}}}
	}
	order := func(payload map[string]any) *response { return c.post(c.base+"/new-order", payload) }
	c.order("SEVEN.localhost", "a.b.seven.localhost")
	want(t, order(identifier("ip", "127.7.0.1")), http.StatusCreated)
	for _, id := range [][2]string{
		{"dns", "dc1.localhost"}, {"dns", "*.localhost"}, {"dns", "xseven.localhost"},
		{"dns", "seven.localhost.evil.localhost"}, {"ip", "127.8.0.1"},
	} {
		p := wantProblem(t, order(identifier(id[0], id[1])), http.StatusForbidden, "rejectedIdentifier")
		if p.Reason != "eab_name" || !strings.Contains(p.Detail, id[1]) {
			t.Errorf("%v: %+v", id, p)
		}
	}
	wantProblem(t, order(identifier("ip", "::ffff:127.7.0.1")), http.StatusBadRequest, "malformed")
	names := map[string]any{"identifiers": dnsNames("a.localhost", "seven.localhost", "b.localhost")}
	if p := wantProblem(t, order(names), http.StatusForbidden, "rejectedIdentifier"); len(p.Subproblems) != 2 {
		t.Errorf("%+v", p)
	}
	// A second registration with a wider key finds the account, and binds nothing anew.
	kid, mac := e.newEAB(t, credential.NewKey{})
	again := map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, "")}
	want(t, c.postJWK(c.base+"/new-account", again), http.StatusOK)
	wantProblem(t, order(identifier("dns", "dc1.localhost")), http.StatusForbidden, "rejectedIdentifier")
}

// TestFS6_Finalize: the binding holds at finalize too, and when a worker of another
// process finishes what was under way.
func TestFS6_Finalize(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	e.run(t)
	c := e.boundClient(t, pki.Binding{Names: []string{"seven.localhost"}})
	account := idOf(c.kid)
	place := func() store.Order {
		now := e.now()
		z := store.Authorization{
			ID: store.NewID(), AccountID: account, Identifier: pki.Identifier{Type: pki.DNS, Value: "dc1.localhost"},
			Status: statusValid, Expires: now.Add(time.Hour), Token: store.NewID(), ValidatedAt: &now, CreatedAt: now,
		}
		o := store.Order{
			ID: store.NewID(), AccountID: account, Endpoint: "eab", Profile: "tls-server", Status: statusPending,
			Identifiers: []pki.Identifier{z.Identifier}, AuthorizationIDs: []string{z.ID},
			Expires: now.Add(time.Hour), CreatedAt: now,
		}
		if err := e.store.CreateOrder(t.Context(), o, []store.Authorization{z}, nil); err != nil {
			t.Fatal(err)
		}
		return o
	}
	r := c.post(c.base+"/order/"+place().ID+"/finalize", csrPayload(csr(t, nil, "dc1.localhost")))
	if p := wantProblem(t, r, http.StatusForbidden, "rejectedIdentifier"); p.Reason != "eab_name" {
		t.Errorf("%+v", p)
	}
	o := place()
	if err := e.store.StartFinalize(t.Context(), o.ID, csr(t, nil, "dc1.localhost"), "gone", e.now()); err != nil {
		t.Fatal(err)
	}
	e.sleep(takeOver + time.Second)
	e.sweep(t, false)
	if status, r := c.await(c.base+"/order/"+o.ID, statusProcessing); status != statusInvalid ||
		!strings.Contains(string(r.body), "does not cover dc1.localhost") {
		t.Errorf("%s: %s", status, r.body)
	}
}

// TestFS6_Subject: an EAB key that is bound to a subject is for that common name, or
// for none.
func TestFS6_Subject(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.boundClient(t, pki.Binding{Subject: "CN=seven.localhost", Names: []string{"a.localhost"}})
	for cn, code := range map[string]int{"": 200, "seven.localhost": 200, "a.localhost": 403} {
		o, _ := c.ready("seven.localhost", "a.localhost")
		asked := &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"seven.localhost", "a.localhost"},
		}
		r := c.post(o.Finalize, csrPayload(csrOf(t, asked, nil)))
		if r.code != code {
			t.Errorf("%q: %d %s", cn, r.code, r.body)
		}
	}
}
