package admin_test

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// TestEscalations: each attempt is refused, and its twin, which differs in one fact, is
// not.
func TestEscalations(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	names := func(all ...string) access.Scope { return access.Scope{CAs: []string{"ou-a"}, Names: all} }
	two := r.caller("two", of("requester", names("*.one.test")),
		of("requester", access.Scope{CAs: []string{"ou-b"}, Names: []string{"*.two.test"}}))
	for name, c := range map[string]struct {
		issuer, name string
		status       int
	}{
		"the first grant": {"ou-a", "x.one.test", 201}, "the second grant": {"ou-b", "x.two.test", 201},
		"both combined": {"ou-a", "x.two.test", 403}, "the other way": {"ou-b", "x.one.test", 403},
		"a wildcard above": {"ou-a", "one.test", 403},
	} {
		if status, reason, _ := r.issue(two, c.issuer, c.name); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, reason, c.status)
		}
	}
	boss := r.caller("boss", of("admin", access.Scope{CAs: []string{"ou-a"}}))
	grant := func(role string, s api.Scope) int {
		status, _, _ := r.ask(boss, "POST", "/v1/access/grants",
			api.NewGrant{Subject: "uid:4000000000", Role: role, Scope: s, Reason: "test"})
		return status
	}
	for name, c := range map[string]struct {
		scope  api.Scope
		status int
	}{
		"own":    {api.Scope{CAs: []string{"ou-a"}}, 201},
		"part":   {api.Scope{CAs: []string{"ou-a"}, Names: []string{"a.test"}}, 201},
		"other":  {api.Scope{CAs: []string{"ou-b"}}, 403},
		"more":   {api.Scope{CAs: []string{"ou-a", "ou-b"}}, 403},
		"any CA": {api.Scope{Names: []string{"a.test"}}, 403},
		"all":    {api.Scope{All: true}, 403},
	} {
		if got := grant("operator", c.scope); got != c.status {
			t.Errorf("grant of %s: %d, want %d", name, got, c.status)
		}
	}
	token := api.NewToken{
		Role: "admin", Scope: api.Scope{CAs: []string{"ou-a"}}, ExpiresAt: time.Now().Add(time.Hour),
	}
	status, _, answer := r.ask(boss, "POST", "/v1/access/tokens", token)
	var made api.TokenSecret
	if err := json.Unmarshal(answer, &made); err != nil || status != 201 {
		t.Fatalf("token: %d %s", status, answer)
	}
	if status, _, _ := r.issue(made.Secret, "ou-a", "y.one.test"); status != 201 {
		t.Errorf("issue by the token: %d", status)
	}
	if status, _, _ := r.issue(made.Secret, "ou-b", "y.one.test"); status != 403 {
		t.Errorf("issue by the token elsewhere: %d", status)
	}
	if status, _, _ := r.ask(made.Secret, "POST", "/v1/access/tokens", token); status != 403 {
		t.Errorf("a token by a token: %d", status)
	}
	if status, _, _ := r.ask(made.Secret, "POST", "/v1/access/grants", api.NewGrant{
		Subject: "uid:4000000000", Role: "operator", Scope: api.Scope{CAs: []string{"ou-a"}}, Reason: "test",
	}); status != 403 {
		t.Errorf("a grant by a token: %d", status)
	}
}

// TestOwnCredential: who made the EAB key that an order came by does not approve it, by
// another login of theirs neither; somebody else does.
func TestOwnCredential(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	all := access.Scope{All: true}
	maker := r.caller("maker", of("operator", all), of("approver", all))
	again := r.caller("maker-2", of("approver", all))
	other := r.caller("other", of("approver", all))
	root, err := r.Config.Access.Peer(t.Context(), uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Config.Access.Link(t.Context(), root, "oidc:https://id.test#maker", "", "Ada", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Config.Access.Link(t.Context(), root, "oidc:https://id.test#maker-2", p.ID, "", ""); err != nil {
		t.Fatal(err)
	}
	_, _, answer := r.ask(maker, "POST", "/v1/eab/keys", api.NewEABKey{AnyName: true, Endpoint: "eab"})
	var key api.EABKeySecret
	if err := json.Unmarshal(answer, &key); err != nil || key.KID == "" {
		t.Fatalf("EAB key: %s", answer)
	}
	block, _ := pem.Decode([]byte(admintest.CSR(t, "x.example.test")))
	csr, err := pki.ParseCSR(t.Context(), block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Config.Approvals.Enrol(t.Context(),
		approval.Key{Identity: "test", CSR: csr.Raw, TransactionID: "one", Keep: approval.KeepBatch},
		issuance.Request{
			Protocol: "operator", Profile: "asked", Issuer: "ou-a", CSR: csr,
			Requester: "account:" + r.ACME(t, key.KID).Account, Evidence: []byte(`{"method":"test"}`),
		})
	if !issuance.IsWaiting(err) {
		t.Fatalf("the request does not wait: %v", err)
	}
	waiting, err := r.Config.Approvals.List(t.Context(), store.RequestSearch{Limit: 10})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%d requests wait: %v", len(waiting), err)
	}
	approve := "/v1/requests/" + waiting[0].ID + "/approve"
	for name, secret := range map[string]string{"its maker": maker, "another login of its maker": again} {
		if status, reason, _ := r.ask(secret, "POST", approve, struct{}{}); status != 403 || reason != "own_request" {
			t.Errorf("approval by %s: %d %s", name, status, reason)
		}
	}
	if status, reason, text := r.ask(other, "POST", approve, struct{}{}); status != 200 {
		t.Errorf("approval by another: %d %s %s", status, reason, text)
	}
}

// TestCredentialsOfADelegatedCA: endpoint "eab" is of ou-a, "default" of ou-b.
func TestCredentialsOfADelegatedCA(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	a := r.caller("a", of("operator", access.Scope{CAs: []string{"ou-a"}, Names: []string{"*.a.test"}}))
	b := r.caller("b", of("operator", access.Scope{CAs: []string{"ou-b"}}))
	for name, c := range map[string]struct {
		key    api.NewEABKey
		status int
	}{
		"own endpoint and name": {api.NewEABKey{Endpoint: "eab", Names: []string{"*.a.test"}}, 201},
		"another name":          {api.NewEABKey{Endpoint: "eab", Names: []string{"*.a.test", "b.test"}}, 403},
		"any name":              {api.NewEABKey{Endpoint: "eab", AnyName: true}, 403},
		"another endpoint":      {api.NewEABKey{Endpoint: "default", Names: []string{"*.a.test"}}, 403},
		"any endpoint":          {api.NewEABKey{Names: []string{"*.a.test"}}, 403},
	} {
		if status, reason, text := r.ask(a, "POST", "/v1/eab/keys", c.key); status != c.status {
			t.Errorf("%s: %d %s %s, want %d", name, status, reason, text, c.status)
		}
	}
	make := func(path string, body any) string {
		_, _, text := r.ask(a, "POST", path, body)
		var made struct{ KID, Name, ID string }
		if err := json.Unmarshal(text, &made); err != nil || made.KID+made.Name+made.ID == "" {
			t.Fatalf("%s: %s", path, text)
		}
		return made.KID + made.Name + made.ID
	}
	names := []string{"*.a.test"}
	kid := make("/v1/eab/keys", api.NewEABKey{Endpoint: "eab", Names: names})
	acme := r.ACME(t, kid)
	for path, id := range map[string]string{
		"/v1/eab/keys/ID/disable": kid,
		"/v1/est/users/ID/disable": make("/v1/est/users", api.NewESTUser{Name: "box", Endpoint: "eab",
			Names: names}),
		"/v1/scep/challenges/ID/disable": make("/v1/scep/challenges", api.NewSCEPChallenge{Endpoint: "eab",
			Names: names}),
		"/v1/acme/orders/ID":              acme.Failed,
		"/v1/acme/authorizations/ID":      acme.FailedAuthz,
		"/v1/acme/accounts/ID":            acme.Account,
		"/v1/acme/accounts/ID/deactivate": acme.Account,
	} {
		method := map[bool]string{true: "GET", false: "POST"}[strings.HasSuffix(path, "ID")]
		hidden, _, one := r.ask(b, method, strings.Replace(path, "ID", id, 1), struct{}{})
		missing, _, two := r.ask(b, method, strings.Replace(path, "ID", "none", 1), struct{}{})
		if hidden != 404 || missing != 404 || plain(one, id) != plain(two, "none") {
			t.Errorf("%s: %d %s is not as of an unknown one: %d %s", path, hidden, one, missing, two)
		}
		if strings.Contains(path, "accounts") {
			continue // an account has no names, and the scope has
		}
		if status, _, text := r.ask(a, method, strings.Replace(path, "ID", id, 1), struct{}{}); status != 200 {
			t.Errorf("%s by who has it: %d %s", path, status, text)
		}
	}
}

// TestBatchWithinScope: a page with one name outside is refused as a whole, before anything
// of it is signed.
func TestBatchWithinScope(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	a := r.caller("a", of("requester", access.Scope{CAs: []string{"ou-a"}, Names: []string{"*.a.test"}}))
	page := func(names ...string) int {
		b := api.BatchPage{Profile: "tls-server", Issuer: "ou-a"}
		for _, n := range names {
			b.Requests = append(b.Requests, api.BatchRequest{Name: n, CSR: admintest.CSR(t, n)})
		}
		status, _, _ := r.ask(a, "POST", "/v1/batches/one", b)
		return status
	}
	if in, out := page("x.a.test", "y.a.test"), page("z.a.test", "x.b.test"); in != 200 || out != 403 {
		t.Errorf("within the scope: %d, one outside: %d", in, out)
	}
	found, _, err := r.Store.SearchCertificates(t.Context(), store.Search{Limit: 10})
	if err != nil || len(found) != 2 {
		t.Errorf("%d certificates, want the two of the first page: %v", len(found), err)
	}
}

// TestHoldOnly: who may only put on hold does that, and takes off hold, and nothing else.
func TestHoldOnly(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	everything := of("operator", access.Scope{All: true})
	_, _, id := r.issue(r.caller("issuer", everything), "ou-a", "x.example.test")
	g := of("helpdesk", access.Scope{CAs: []string{"ou-a"}})
	g.Reasons = []string{"certificateHold"}
	who := r.caller("desk", g)
	path := "/v1/certificates/" + id
	for _, c := range []struct {
		act    string
		body   any
		status int
		reason string
	}{
		{"/revoke", api.RevokeRequest{Reason: "keyCompromise"}, 403, "permission_missing"},
		{"/revoke", api.RevokeRequest{}, 403, "permission_missing"},
		{"/revoke", api.RevokeRequest{Reason: "boredom"}, 400, "revocation_reason"},
		{"/revoke", api.RevokeRequest{Reason: "certificateHold"}, 200, ""},
		{"/release", struct{}{}, 200, ""},
	} {
		if status, reason, text := r.ask(who, "POST", path+c.act, c.body); status != c.status || reason != c.reason {
			t.Errorf("%s %+v: %d %s, want %d", c.act, c.body, status, text, c.status)
		}
	}
	g.Reasons = []string{"keyCompromise"}
	if status, reason, _ := r.ask(r.caller("other", g), "POST", path+"/release", struct{}{}); status != 403 {
		t.Errorf("release by who may not put on hold: %d %s", status, reason)
	}
}
