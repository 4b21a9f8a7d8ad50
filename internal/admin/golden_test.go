package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
)

var update = flag.Bool("update", false, "write the golden answers anew")

// golden calls the operator API and collects what it answers, by operation.
type golden struct {
	t      *testing.T
	socket string
	client *http.Client
	vars   map[string]string // by the name that stands for the value in paths and bodies, as $name
	dirs   []string          // folders whose names change
	files  map[string]*bytes.Buffer
}

func newGolden(t *testing.T, socket string) *golden {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &golden{
		t: t, socket: socket, client: &http.Client{Transport: transport},
		vars: map[string]string{}, files: map[string]*bytes.Buffer{},
	}
}

var variable = regexp.MustCompile(`\$[a-z_]+`)

// call makes one request of an operation and keeps its answer. Members of the
// answer that keep names, as "member=variable", can be used in later calls.
func (g *golden) call(operation, name, method, path, body string, keep ...string) {
	g.t.Helper()
	expand := func(text string) string {
		return variable.ReplaceAllStringFunc(text, func(v string) string {
			value, ok := g.vars[v[1:]]
			if !ok {
				g.t.Fatalf("%s, %s: nothing was kept as %s", operation, name, v)
			}
			return value
		})
	}
	resp, text := g.send(method, expand(path), expand(body))
	g.keep(text, keep)
	if g.files[operation] == nil {
		g.files[operation] = &bytes.Buffer{}
	}
	fmt.Fprintf(g.files[operation], "== %s\n%s %s %s\n-> %d\n", name, method, path, body, resp.StatusCode)
	for _, header := range []string{"Allow", "Cache-Control", "Content-Type", "Retry-After"} {
		if v := resp.Header.Get(header); v != "" {
			fmt.Fprintf(g.files[operation], "%s: %s\n", header, v)
		}
	}
	fmt.Fprintf(g.files[operation], "\n%s\n", g.normal(text))
}

func (g *golden) keep(answer []byte, keep []string) {
	g.t.Helper()
	var members map[string]any
	for _, k := range keep {
		member, name, _ := strings.Cut(k, "=")
		if err := json.Unmarshal(answer, &members); err != nil || members[member] == nil {
			g.t.Fatalf("the answer has no %q: %s", member, answer)
		}
		g.vars[name] = fmt.Sprint(members[member])
	}
}

// changing are the parts of an answer that differ from run to run, with what
// stands for them.
var changing = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`"(id|serial|fingerprint|key_hash|request_id|hash|hmac|password|secret|kid|chain|csr|sha256|` +
		`template_digest|profile_version|next)":"[^"]+"`), `"$1":"<$1>"`},
	{regexp.MustCompile(`"(verify_microseconds|chain_bytes|size)":\d+`), `"$1":<$1>`},
	{regexp.MustCompile(`"(certificate|crl)":"[A-Za-z0-9+/=]{44,}"`), `"$1":"<$1>"`},
	{regexp.MustCompile(`-----BEGIN ([A-Z0-9 ]+)-----[^-]+-----END [A-Z0-9 ]+-----`), `<PEM $1>`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), `<time>`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`), `<time with fraction>`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( \+0000 UTC|Z)?`), `<time in words>`},
	{regexp.MustCompile(`uid:\d+`), `uid:<uid>`},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b`), `<uuid>`},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), `<sha256>`},
	{regexp.MustCompile(`\b[0-9a-f]{31,40}\b`), `<hex>`},
	{regexp.MustCompile(`"(number|last_crl_number|days_left)":\d{4,}`), `"$1":<$1>`},
}

func (g *golden) normal(answer []byte) string {
	text := string(answer)
	for _, dir := range g.dirs {
		text = strings.ReplaceAll(text, dir, "<dir>")
	}
	for _, c := range changing {
		text = c.what.ReplaceAllString(text, c.by)
	}
	return text
}

// compare holds the answers against the files, or writes those.
func (g *golden) compare() {
	g.t.Helper()
	for operation, got := range g.files {
		file := filepath.Join("testdata", "golden", operation+".txt")
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
				g.t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			g.t.Error(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			g.t.Errorf("%s answers otherwise (-before +now):\n%s", operation, diff)
		}
	}
}

// TestGolden calls every operation, to be answered and to be refused, and
// compares what is answered octet by octet, but for what changes from run to run.
func TestGolden(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	g := newGolden(t, s.Socket)
	goldenCertificates(t, g, s)
	goldenRevocations(t, g)
	goldenApprovals(t, g)
	goldenCredentials(g)
	goldenACME(t, g, s)
	goldenLists(t, g, s)
	goldenIssuers(t, g, s)
	goldenSystem(g, s)
	goldenAccess(g)
	g.compare()
	for _, route := range s.Admin.Operations() {
		if g.files[route.Name] == nil {
			t.Errorf("%s has no golden answer", route.Name)
		}
	}
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if g.files[strings.TrimSuffix(filepath.Base(file), ".txt")] == nil {
			t.Errorf("%s is nobody's", file)
		}
	}
}

// quoted is text as a JSON string.
func quoted(t *testing.T, text string) string {
	t.Helper()
	out, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func goldenCertificates(t *testing.T, g *golden, s *admintest.Server) {
	t.Helper()
	const certificates = "/v1/certificates"
	for i, name := range []string{"www.a.test", "held.a.test", "old.b.test", "kept.b.test", "batch.a.test"} {
		g.vars["csr_"+string(rune('a'+i))] = quoted(t, admintest.CSR(t, name))
	}
	g.vars["csr_nameless"] = quoted(t, admintest.CSR(t))
	issue := func(name, body string, keep ...string) {
		g.call("IssueCertificate", name, "POST", certificates, body, keep...)
	}
	issue("verdict", `{"profile":"tls-server","csr":$csr_a,"dry_run":true}`)
	issue("verdict of a refusal", `{"profile":"tls-server","csr":$csr_nameless,"dry_run":true}`)
	issue("verdict that waits", `{"profile":"asked","csr":$csr_a,"dry_run":true}`)
	issue("issued", `{"profile":"tls-server","csr":$csr_a}`, "id=cert", "serial=serial")
	issue("names and times", `{"profile":"tls-server","csr":$csr_b,"issuer":"web-a-1","subject":"CN=held.a.test",
		"names":[{"type":"dns","value":"held.a.test"},{"type":"ip","value":"192.0.2.7"}]}`, "id=held")
	issue("one more", `{"profile":"tls-server","csr":$csr_c}`, "id=old")
	issue("profile missing", `{"csr":$csr_a}`)
	issue("profile unknown", `{"profile":"boredom","csr":$csr_a}`)
	issue("issuer unknown", `{"profile":"tls-server","csr":$csr_a,"issuer":"nobody"}`)
	issue("not PEM", `{"profile":"tls-server","csr":"hello"}`)
	issue("bad subject", `{"profile":"tls-server","csr":$csr_a,"subject":"=,="}`)
	issue("bad names",
		`{"profile":"tls-server","csr":$csr_a,"names":[{"type":"dns","value":"a..test"},{"type":"fax","value":"1"}]}`)
	s.KeyFails.Store(true)
	issue("key fails", `{"profile":"tls-server","csr":$csr_a}`)
	s.KeyFails.Store(false)

	list := func(name, query string, keep ...string) {
		g.call("ListCertificates", name, "GET", certificates+query, "", keep...)
	}
	list("all", "")
	const filters = "?name=*.a.test&profile=tls-server&issuer=web-a-1&status=issued&expires_after=2020-01-02T03:04:05Z"
	list("filters", filters+"&limit=1", "next=cursor")
	list("next page", filters+"&cursor=$cursor")
	list("nothing", "?expires_before=2020-01-02&serial=77")
	list("bad status", "?status=lost")
	list("bad limit", "?limit=1001")
	list("bad serial", "?serial=xyz")
	list("bad key", "?key=77")
	list("bad cursor", "?cursor=*")

	get := func(operation, name, path string) { g.call(operation, name, "GET", certificates+path, "") }
	for _, of := range []struct{ operation, end string }{{"GetCertificate", ""}, {"GetCertificatePEM", "/pem"}} {
		get(of.operation, "by id", "/$cert"+of.end)
		get(of.operation, "by serial and issuer", "/$serial"+of.end+"?issuer=web-a-1")
		get(of.operation, "unknown", "/77"+of.end)
		get(of.operation, "bad reference", "/..%2Fx"+of.end)
		get(of.operation, "another issuer", "/$serial"+of.end+"?issuer=nobody")
	}
	for _, format := range []string{"csv", "jsonl", "pem"} {
		get("ExportCertificates", format, "/export?name=a.test&format="+format)
	}
	get("ExportCertificates", "bad format", "/export?format=xml")
	get("ExportCertificates", "bad status", "/export?format=csv&status=lost")
}

func goldenRevocations(t *testing.T, g *golden) {
	t.Helper()
	revoke := func(name, path, body string) {
		id, query, _ := strings.Cut(path, "?")
		g.call("RevokeCertificate", name, "POST", "/v1/certificates/"+id+"/revoke?"+query, body)
	}
	revoke("unknown", "77", `{}`)
	revoke("bad reason", "$held", `{"reason":"boredom"}`)
	revoke("too early", "$held", `{"reason":"keyCompromise","invalidity_at":"2020-01-02T03:04:05Z"}`)
	revoke("held", "$held", `{"reason":"certificateHold"}`)
	revoke("no reason", "$old?issuer=web-a-1", `{}`)
	revoke("again", "$old", `{}`)
	release := func(name, path string) {
		id, query, _ := strings.Cut(path, "?")
		g.call("ReleaseCertificate", name, "POST", "/v1/certificates/"+id+"/release?"+query, "")
	}
	release("released", "$held?issuer=web-a-1")
	release("not on hold", "$held")
	release("unknown", "77")

	for _, of := range []struct{ operation, path string }{
		{"PreviewRevocations", "/v1/revocations/preview"}, {"RevokeCertificates", "/v1/revocations"},
	} {
		g.call(of.operation, "selected", "POST", of.path, `{"where":"name~held.*","reason":"superseded"}`)
		g.call(of.operation, "none", "POST", of.path, `{"where":"name=nobody.test","reason":"superseded"}`)
		g.call(of.operation, "bad expression", "POST", of.path, `{"where":"name","reason":"superseded"}`)
		g.call(of.operation, "no reason", "POST", of.path, `{"where":"name=a"}`)
		g.call(of.operation, "no expression", "POST", of.path, `{"reason":"superseded"}`)
	}
	g.call("RevokeCertificates", "bad limit", "POST", "/v1/revocations",
		`{"where":"name=a","reason":"superseded","limit":5000}`)
}

func goldenApprovals(t *testing.T, g *golden) {
	t.Helper()
	batch := func(name, batch, body string) { g.call("IssueBatch", name, "POST", "/v1/batches/"+batch, body) }
	page := `{"profile":"tls-server","requests":[{"name":"a","csr":$csr_e},{"name":"b","csr":"hello"}]}`
	batch("issued and refused", "first", page)
	batch("again", "first", page)
	batch("waits", "asks", `{"profile":"asked","requests":[{"name":"a","csr":$csr_e}]}`)
	batch("waits too", "asks", `{"profile":"asked","issuer":"web-a-1","requests":[{"name":"a","csr":$csr_d}]}`)
	batch("bad name", "a%20b", page)
	batch("empty", "first", `{"profile":"tls-server","requests":[]}`)
	batch("no profile", "first", `{"requests":[{"name":"a","csr":"hello"}]}`)
	batch("unknown profile", "first", `{"profile":"boredom","requests":[{"name":"a","csr":"hello"}]}`)

	g.call("ListRequests", "all", "GET", "/v1/requests", "")
	g.call("ListRequests", "filters", "GET", "/v1/requests?status=pending&profile=asked&limit=1", "", "next=after")
	g.call("ListRequests", "next page", "GET", "/v1/requests?cursor=$after", "")
	g.call("ListRequests", "bad limit", "GET", "/v1/requests?limit=-1", "")
	g.call("ListRequests", "bad status", "GET", "/v1/requests?status=lost", "")
	var ids []string
	c := api.Dial(g.socket)
	defer c.Close()
	found, err := api.ListRequests.Call(t.Context(), c, api.ListRequestsParams{}, api.None{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found.Requests {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids) // the older first
	if len(ids) != 2 {
		t.Fatalf("%d requests wait", len(ids))
	}
	g.vars["first"], g.vars["second"] = ids[0], ids[1]
	g.call("GetRequest", "pending", "GET", "/v1/requests/$first", "")
	g.call("GetRequest", "unknown", "GET", "/v1/requests/nobody", "")
	g.call("ApproveRequest", "approved", "POST", "/v1/requests/$first/approve", "")
	g.call("ApproveRequest", "again", "POST", "/v1/requests/$first/approve", "")
	g.call("ApproveRequest", "unknown", "POST", "/v1/requests/nobody/approve", "")
	g.call("RejectRequest", "no reason", "POST", "/v1/requests/$second/reject", `{}`)
	g.call("RejectRequest", "rejected", "POST", "/v1/requests/$second/reject", `{"reason":"not ours"}`)
	g.call("RejectRequest", "again", "POST", "/v1/requests/$second/reject", `{"reason":"not ours"}`)
	g.call("GetRequest", "rejected", "GET", "/v1/requests/$second", "")
}
