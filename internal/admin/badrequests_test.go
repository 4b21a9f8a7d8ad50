package admin_test

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/admin/admintest"
)

// secret stands in every bad request where a value could be one.
const secret = "hunter2, my secret"

// badRequest is a request that is refused whatever the operation does.
type badRequest struct {
	name, query, body string
	status            int
	reason            string
}

// badQueries are queries that the operation does not take.
func badQueries(route admin.Route) []badRequest {
	bad := []badRequest{
		{name: "unknown parameter", query: "no_such=1"},
		{name: "unknown parameter twice", query: "no_such=1&no_such=2"},
		{name: "bad escape", query: "no_such=%zz"},
		{name: "semicolon", query: "a=1;b=2"},
	}
	for _, p := range route.Parameters() {
		if p.In != "query" {
			continue
		}
		bad = append(bad,
			badRequest{name: p.Name + " twice", query: p.Name + "=1&" + p.Name + "=1"},
			badRequest{name: p.Name + " in capitals", query: strings.ToUpper(p.Name) + "=1"})
		if p.Field.Type == reflect.TypeFor[int]() || p.Field.Type == reflect.TypeFor[time.Time]() {
			bad = append(bad,
				badRequest{name: p.Name + " of another type", query: p.Name + "=many"},
				badRequest{name: p.Name + " without value", query: p.Name + "="})
		}
		if p.Required {
			bad = append(bad, badRequest{name: p.Name + " missing"})
		}
	}
	for i := range bad {
		bad[i].status, bad[i].reason = http.StatusBadRequest, "parameter"
	}
	return bad
}

// badBodies are bodies that the operation does not take. good is the query.
func badBodies(route admin.Route, good string) []badRequest {
	quoted := `"` + secret + `"`
	bodies := map[string]string{
		"not JSON": `{` + quoted, "text": quoted, "a list": `[` + quoted + `]`, "null": `null`, "a number": `7`,
		"unknown field": `{"no_such":` + quoted + `}`, "a secret as a name": `{` + quoted + `:1}`,
		"two objects": `{}{}`, "trailing": `{} x`, "trailing bracket": `{}]`, "not UTF-8": "{\"a\":\"\xff\"}",
		"byte order mark": "\ufeff{}",
	}
	if route.Body.NumField() > 0 {
		bodies["empty"], bodies["white"] = "", " \n"
	}
	badFields(bodies, route.Body, `{`, `}`)
	var bad []badRequest
	for name, body := range bodies {
		bad = append(bad, badRequest{name, good, body, http.StatusBadRequest, "body"})
	}
	large := strings.Repeat(" ", int(route.MaxBody)-1) + `{}`
	return append(bad, badRequest{"too large", good, large, http.StatusRequestEntityTooLarge, ""})
}

// badFields adds bodies whose fields are doubled, in capitals and of another type,
// at every depth. An object of type t stands between before and after.
func badFields(bodies map[string]string, t reflect.Type, before, after string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		where := before + `"` + name + `":`
		item := f.Type
		open, end := `{`, `}`
		if item.Kind() == reflect.Slice {
			item, open, end = item.Elem(), `[{`, `}]`
		}
		bodies[where+" twice"] = where + `null,"` + name + `":null` + after
		bodies[where+" twice, escaped"] = where + `null,"\u00` + hex(name[0]) + name[1:] + `":null` + after
		bodies[where+" in capitals"] = before + `"` + strings.ToUpper(name) + `":null` + after
		bodies[where+" of another type"] = where + otherType(f.Type) + after
		if item.Kind() == reflect.Struct && item != reflect.TypeFor[time.Time]() {
			bodies[where+" with unknown field"] = where + open + `"no_such":"` + secret + `"` + end + after
			badFields(bodies, item, where+open, end+after)
		}
	}
}

func hex(c byte) string { return string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]) }

// otherType is JSON that is no value of type t.
func otherType(t reflect.Type) string {
	if t.Kind() == reflect.String {
		return `["` + secret + `"]`
	}
	return `"` + secret + `"`
}

var pathParameter = regexp.MustCompile(`\{\w+\}`)

// TestBadRequests sends every operation what it does not take. It is refused with
// our reason before anything is done, and nothing of a value comes back.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	g := newGolden(t, s.Socket)
	before := events(t, s)
	sent := 0
	for _, route := range s.Admin.Operations() {
		good := ""
		if route.Name == "ExportCertificates" {
			good = "format=csv"
		}
		for _, bad := range append(badQueries(route), badBodies(route, good)...) {
			sent++
			path := pathParameter.ReplaceAllString(route.Path, "x") + "?" + bad.query
			resp, text := g.send(route.Method, path, bad.body)
			var p api.Problem
			media := resp.Header.Get("Content-Type")
			if err := json.Unmarshal(text, &p); err != nil || media != "application/problem+json" {
				t.Errorf("%s, %s: no problem document: %d %s", route.Name, bad.name, resp.StatusCode, text)
			}
			if p.Status != bad.status || resp.StatusCode != bad.status || p.Reason != bad.reason || p.Detail == "" {
				t.Errorf("%s, %s: %d %q (%s), want %d %q",
					route.Name, bad.name, p.Status, p.Reason, p.Detail, bad.status, bad.reason)
			}
			if strings.Contains(string(text), "hunter2") {
				t.Errorf("%s, %s: the answer repeats a value: %s", route.Name, bad.name, text)
			}
		}
	}
	if after := events(t, s); after != before {
		t.Errorf("%d audit events before, %d after", before, after)
	}
	if sent < 1000 {
		t.Errorf("only %d requests were sent", sent)
	}
}

func events(t *testing.T, s *admintest.Server) int {
	t.Helper()
	page, err := api.ListAuditEvents.Call(t.Context(), s.Client(t), api.PageParams{Limit: 1000}, api.None{})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Events)
}

// An operation without a body takes an empty object, which some clients send.
func TestEmptyBody(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	g := newGolden(t, s.Socket)
	for _, body := range []string{"", "{}", " {} \n"} {
		if resp, text := g.send(http.MethodGet, "/v1/version", body); resp.StatusCode != http.StatusOK {
			t.Errorf("body %q: %s", body, text)
		}
	}
}

// send makes one request and returns its answer.
func (g *golden) send(method, path, body string) (*http.Response, []byte) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://privyseal"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, text
}
