package admin_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// remote is the API as it is on the network, with callers who have sessions.
type remote struct {
	*admintest.Server
	t   *testing.T
	url string
}

func startRemote(t *testing.T) *remote {
	t.Helper()
	s := admintest.Start(t, nil, "ou-a", "ou-b")
	web := httptest.NewServer(s.Admin.Remote())
	t.Cleanup(web.Close)
	return &remote{s, t, web.URL}
}

// caller opens a session for a login that has the given grants, and returns its secret.
func (r *remote) caller(id string, grants ...access.Grant) string {
	r.t.Helper()
	ctx := r.t.Context()
	root, err := r.Config.Access.Peer(ctx, uint32(os.Getuid()))
	if err != nil {
		r.t.Fatal(err)
	}
	l := access.Login{Kind: "oidc", Issuer: "https://id.test", ID: id, At: time.Now()}
	for _, g := range grants {
		g.Subject, g.Reason = l.Subject(), "test"
		if _, err := r.Config.Access.Give(ctx, root, g, ""); err != nil {
			r.t.Fatal(err)
		}
	}
	secret, _, err := r.Config.Access.Open(ctx, l, netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		r.t.Fatal(err)
	}
	return secret
}

// ask calls an operation and returns the status, the reason of a problem, and the answer.
func (r *remote) ask(secret, method, path string, body any) (status int, reason string, answer []byte) {
	r.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	if method == http.MethodGet {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var p api.Problem
	_ = json.Unmarshal(answer, &p) // other answers have no reason
	return resp.StatusCode, p.Reason, answer
}

func of(role string, scope access.Scope) access.Grant { return access.Grant{Role: role, Scope: scope} }

func (r *remote) issue(secret, issuer, name string) (int, string, string) {
	r.t.Helper()
	status, reason, answer := r.ask(secret, "POST", "/v1/certificates",
		api.IssueRequest{Profile: "tls-server", Issuer: issuer, CSR: admintest.CSR(r.t, name)})
	var c api.IssuedCertificate
	_ = json.Unmarshal(answer, &c) // a refusal has no id
	return status, reason, c.ID
}

// TestG2_20_DelegatedCA: who has one CA gets 403 on another, and does not see what is there.
func TestG2_20_DelegatedCA(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	a := r.caller("a", of("operator", access.Scope{CAs: []string{"ou-a"}}))
	b := r.caller("b", of("operator", access.Scope{CAs: []string{"ou-b"}}))
	status, _, id := r.issue(a, "ou-a", "x.example.test")
	if status != 201 || id == "" {
		t.Fatalf("in the own CA: %d", status)
	}
	if status, reason, _ := r.issue(b, "ou-a", "x.example.test"); status != 403 || reason != "permission_missing" {
		t.Errorf("in another CA: %d %s", status, reason)
	}
	unknown := "019a2f90-ea5d-750c-bef3-3b091a465582"
	for _, c := range []struct{ method, path string }{
		{"GET", ""}, {"GET", "/pem"}, {"POST", "/revoke"}, {"POST", "/release"},
	} {
		hidden, _, one := r.ask(b, c.method, "/v1/certificates/"+id+c.path, struct{}{})
		missing, _, two := r.ask(b, c.method, "/v1/certificates/"+unknown+c.path, struct{}{})
		if hidden != 404 || missing != 404 || plain(one, id) != plain(two, unknown) {
			t.Errorf("%s%s: %d %s is not as of an unknown one: %d %s", c.method, c.path, hidden, one, missing, two)
		}
	}
	if status, _, text := r.ask(a, "POST", "/v1/certificates/"+id+"/revoke", struct{}{}); status != 200 {
		t.Errorf("revoke in the own CA: %d %s", status, text)
	}
	for _, list := range []string{"/v1/certificates", "/v1/certificates/export?format=csv", "/v1/audit/events"} {
		if status, reason, _ := r.ask(a, "GET", list, nil); status != 403 || reason != "permission_missing" {
			t.Errorf("%s by who has a scope: %d %s", list, status, reason)
		}
	}
	events, _, err := r.Store.AuditTail(t.Context(), 100, "")
	if err != nil || !strings.Contains(fmt.Sprint(events), "access.refused") {
		t.Errorf("no refusal is on record: %v", err)
	}
}

var requestID = regexp.MustCompile(`"request_id":"[^"]*"`)

func plain(problem []byte, id string) string {
	return requestID.ReplaceAllString(strings.ReplaceAll(string(problem), id, "ID"), "")
}

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
		"/v1/eab/keys/ID/disable":         kid,
		"/v1/est/users/ID/disable":        make("/v1/est/users", api.NewESTUser{Name: "box", Endpoint: "eab", Names: names}),
		"/v1/scep/challenges/ID/disable":  make("/v1/scep/challenges", api.NewSCEPChallenge{Endpoint: "eab", Names: names}),
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

// TestCommonNameIsAName: a common name outside of the scope is no way round it.
func TestCommonNameIsAName(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	who := r.caller("cn", of("requester", access.Scope{Names: []string{"*.one.test"}}))
	ask := func(subject string) int {
		status, _, _ := r.ask(who, "POST", "/v1/certificates", api.IssueRequest{
			Profile: "tls-server", Issuer: "ou-a", CSR: admintest.CSR(t, "x.one.test"), Subject: subject, DryRun: true,
		})
		return status
	}
	if in, out := ask("CN=x.one.test"), ask("CN=bank.test"); in != 200 || out != 403 {
		t.Errorf("a common name within the scope: %d, outside: %d", in, out)
	}
}

// TestBearerWantsASecret: nobody gets in without one.
func TestBearerWantsASecret(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	for _, secret := range []string{"", "pvs_s_x", "x y"} {
		if status, reason, _ := r.ask(secret, "GET", "/v1/whoami", nil); status != 401 || reason != "no_session" {
			t.Errorf("secret %q: %d %s", secret, status, reason)
		}
	}
}

// localOnly are the operations that are not on the network.
var localOnly = []string{
	"AcceptAccess", "AcceptAudit", "AdoptIssuer", "CreateIssuerCSR", "ImportRecords", "InstallIssuer", "RecoverRevocations",
	"ReloadConfig", "RemoveIssuer", "ResealSecrets",
}

// TestMatrix: every operation by every role, over everything and over a CA where nothing
// is, does what docs/access.md says.
func TestMatrix(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	everywhere, nowhere := map[string]string{}, map[string]string{}
	roles := slices.Sorted(maps.Keys(access.Roles()))
	for _, role := range roles {
		everywhere[role] = r.caller("all-"+role, of(role, access.Scope{All: true}))
		nowhere[role] = r.caller("none-"+role, of(role, access.Scope{CAs: []string{"ou-c"}}))
	}
	bodies := map[string]any{
		"CreateGrant": api.NewGrant{Subject: "uid:1", Role: "requester", Scope: api.Scope{CAs: []string{"ou-d"}}, Reason: "x"},
		"CreateToken": api.NewToken{
			Role: "requester", Scope: api.Scope{CAs: []string{"ou-d"}}, ExpiresAt: time.Now().Add(time.Hour),
		},
	}
	var local []string
	for _, op := range r.Admin.Operations() {
		path := strings.NewReplacer("{issuer}", "ou-x", "{certificate}", "4711").Replace(op.Path)
		path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "none")
		path += map[string]string{"CanAccess": "?subject=uid:1&permission=cert.read", "ExportCertificates": "?format=csv"}[op.Name]
		body := bodies[op.Name]
		if body == nil {
			body = struct{}{}
		}
		if op.Local {
			local = append(local, op.Name)
			if status, _, _ := r.ask(everywhere["admin"], op.Method, path, struct{}{}); status != 404 && status != 405 {
				t.Errorf("%s is local, and the network answers %d", op.Name, status)
			}
			continue
		}
		for _, role := range roles {
			may := op.Permission == api.SelfRead || slices.Contains(access.Roles()[role], op.Permission)
			status, reason, _ := r.ask(everywhere[role], op.Method, path, body)
			if refused := status == 403 && reason == "permission_missing"; refused && may || !refused && status != 404 && !may {
				t.Errorf("%s by %s: %d %s, and the table says %t", op.Name, role, status, reason, may)
			}
			status, reason, _ = r.ask(nowhere[role], op.Method, path, body)
			if status != 403 && status != 404 && op.Permission != api.SelfRead {
				t.Errorf("%s by %s of another CA: %d %s", op.Name, role, status, reason)
			}
		}
	}
	slices.Sort(local)
	if !slices.Equal(local, localOnly) {
		t.Errorf("local are %q, want %q", local, localOnly)
	}
}

const accessPage = "../../docs/access.md"

// TestAccessPage: the tables of docs/access.md are those of the code.
func TestAccessPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(accessPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- tables: written by go test ./internal/admin -run AccessPage -update -->\n", "<!-- end -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("docs/access.md has no place for its tables")
	}
	want := before + begin + "\n" + tables() + "\n" + end + after
	if *update {
		if err := os.WriteFile(accessPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		text = []byte(want)
	}
	if string(text) != want {
		t.Error("docs/access.md is not what the code says: run go test ./internal/admin -run AccessPage -update")
	}
}

func tables() string {
	var out strings.Builder
	roles := slices.Sorted(maps.Keys(access.Roles()))
	operations := map[api.Permission][]string{}
	for _, op := range (*admin.Server)(nil).Operations() {
		name := op.Name
		if op.Local {
			name += " (socket)"
		}
		operations[op.Permission] = append(operations[op.Permission], name)
	}
	fmt.Fprintf(&out, "| permission | %s | operations |\n|---|%s---|\n", strings.Join(roles, " | "),
		strings.Repeat("---|", len(roles)))
	for _, p := range api.Permissions() {
		fmt.Fprintf(&out, "| `%s` |", p)
		for _, role := range roles {
			fmt.Fprintf(&out, " %s |", map[bool]string{true: "x"}[p == api.SelfRead || slices.Contains(access.Roles()[role], p)])
		}
		fmt.Fprintf(&out, " %s |\n", strings.Join(operations[p], ", "))
	}
	return out.String()
}
