package admin_test

import (
	"bytes"
	"encoding/json"
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

// TestAServiceIssuesOverTheNetwork: what a token made at the socket may do and what not,
// and that it can ask which it is.
func TestAServiceIssuesOverTheNetwork(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	root, err := r.Config.Access.Peer(t.Context(), uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	scope := access.Scope{CAs: []string{"ou-a"}, Profiles: []string{"tls-server"}, Names: []string{"*.web.example.test"}}
	secret, made, err := r.Config.Access.NewToken(t.Context(), root, access.Token{
		Service: "ci-web", Role: "requester", Scope: scope, ExpiresAt: r.Config.Now().Add(time.Hour),
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"a.web.example.test": 201, "a.other.example.test": 403} {
		if status, reason, _ := r.issue(secret, "ou-a", name); status != want {
			t.Errorf("%s: %d %s", name, status, reason)
		}
	}
	status, _, text := r.ask(secret, "GET", "/v1/whoami", nil)
	var me api.Identity
	if err := json.Unmarshal(text, &me); err != nil || status != 200 || me.Token == nil || me.Token.ID != made.ID ||
		me.Token.Role != "requester" || !slices.Equal(me.Token.Scope.Names, scope.Names) {
		t.Errorf("whoami: %d %s, %v", status, text, err)
	}
}

var requestID = regexp.MustCompile(`"request_id":"[^"]*"`)

func plain(problem []byte, id string) string {
	return requestID.ReplaceAllString(strings.ReplaceAll(string(problem), id, "ID"), "")
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
	"AcceptAccess", "AcceptAudit", "AdoptIssuer", "CreateIssuerCSR", "ImportRecords", "InstallIssuer",
	"RecoverRevocations",
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
		"CreateGrant": api.NewGrant{Subject: "uid:1", Role: "requester", Scope: api.Scope{CAs: []string{"ou-d"}},
			Reason: "x"},
		"CreateToken": api.NewToken{
			Role: "requester", Scope: api.Scope{CAs: []string{"ou-d"}}, ExpiresAt: time.Now().Add(time.Hour),
		},
	}
	var local []string
	for _, op := range r.Admin.Operations() {
		path := strings.NewReplacer("{issuer}", "ou-x", "{certificate}", "4711").Replace(op.Path)
		path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "none")
		path += map[string]string{"CanAccess": "?subject=uid:1&permission=cert.read",
			"ExportCertificates": "?format=csv"}[op.Name]
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
			if refused := status == 403 && reason == "permission_missing"; refused && may || !refused &&
				status != 404 && !may {
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
	const begin, end = "<!-- tables: written by go test ./internal/admin -run AccessPage -update -->\n",
		"<!-- end -->\n"
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
			fmt.Fprintf(&out, " %s |", map[bool]string{true: "x"}[p == api.SelfRead ||
				slices.Contains(access.Roles()[role], p)])
		}
		fmt.Fprintf(&out, " %s |\n", strings.Join(operations[p], ", "))
	}
	return out.String()
}
