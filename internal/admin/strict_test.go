package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
)

// What is wrong with a request is said with the right status and reason.
func TestStrictRequests(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
	}, DisableKeepAlives: true}}
	call := func(method, path, body string) (int, api.Problem) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://privyseal"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var p api.Problem
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &p); resp.StatusCode >= 400 && (err != nil || resp.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s %s: not a problem document: %s", method, path, text)
		}
		return resp.StatusCode, p
	}
	csr, err := json.Marshal(admintest.CSR(t, "a.test"))
	if err != nil {
		t.Fatal(err)
	}
	body := func(extra string) string { return fmt.Sprintf(`{"profile":"tls-server","csr":%s%s}`, csr, extra) }
	limit := int(api.DefaultBody)
	large := body(`,"x":"` + strings.Repeat("x", limit) + `"`)
	for name, want := range map[string]struct {
		method, path, body string
		status             int
		reason             string
	}{
		"misspelt dry_run":      {"POST", "/v1/certificates", body(`,"dryrun":true`), 400, "body"},
		"not JSON":              {"POST", "/v1/certificates", `{`, 400, "body"},
		"empty":                 {"POST", "/v1/certificates", ``, 400, "body"},
		"wrong type":            {"POST", "/v1/certificates", `{"profile":7}`, 400, "body"},
		"two objects":           {"POST", "/v1/certificates", body("") + "{}", 400, "body"},
		"too large":             {"POST", "/v1/certificates", large, 413, ""},
		"too large, white":      {"POST", "/v1/certificates", body("") + strings.Repeat(" ", limit), 413, ""},
		"misspelt parameter":    {"GET", "/v1/certificates?serail=01", "", 400, "parameter"},
		"parameter twice":       {"GET", "/v1/certificates?name=a&name=b", "", 400, "parameter"},
		"parameter where none":  {"GET", "/v1/issuers?x=1", "", 400, "parameter"},
		"not a number":          {"GET", "/v1/certificates?limit=many", "", 400, "parameter"},
		"not a time":            {"GET", "/v1/certificates?expires_before=soon", "", 400, "parameter"},
		"format missing":        {"GET", "/v1/certificates/export", "", 400, "parameter"},
		"unknown path":          {"GET", "/v2/certificates", "", 404, "no_such_path"},
		"unknown method":        {"DELETE", "/v1/certificates", "", 405, ""},
		"unknown certificate":   {"GET", "/v1/certificates/77", "", 404, "certificate_unknown"},
		"bad reference":         {"GET", "/v1/certificates/" + url.PathEscape("../x"), "", 400, "certificate_reference"},
		"bad revocation reason": {"POST", "/v1/certificates/77/revoke", `{"reason":"boredom"}`, 400, "revocation_reason"},
	} {
		if status, p := call(want.method, want.path, want.body); status != want.status || p.Reason != want.reason {
			t.Errorf("%s: %d %q (%s), want %d %q", name, status, p.Reason, p.Detail, want.status, want.reason)
		}
	}
	if status, _ := call("POST", "/v1/certificates", body(`,"dry_run":true`)); status != http.StatusOK {
		t.Errorf("a good body: %d", status)
	}
}
