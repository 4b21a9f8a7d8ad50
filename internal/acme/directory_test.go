package acme

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestACME_A1_A2_Directory(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	r := httptest.NewRequest(http.MethodGet, "/acme/default/directory", nil)
	r.Host = "evil.test"
	r.Header.Set("X-Forwarded-Host", "evil.test")
	got := e.send(r)
	want(t, got, http.StatusOK)
	if ct := got.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("A9: content type %q", ct)
	}
	if n := got.header.Get("Replay-Nonce"); n != "" {
		t.Error("A4: a nonce on the directory, which may be cached")
	}
	if l := got.header.Values("Link"); len(l) != 0 {
		t.Errorf("A7: the directory links to itself: %v", l)
	}
	var d map[string]any
	if err := json.Unmarshal(got.body, &d); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"} {
		u, _ := d[name].(string)
		if !strings.HasPrefix(u, testBase+"/acme/default/") {
			t.Errorf("%s: %q", name, u)
		}
	}
	if _, ok := d["newAuthz"]; ok {
		t.Error("A43: newAuthz is advertised")
	}
	meta, _ := d["meta"].(map[string]any)
	if meta["termsOfService"] != "https://ca.test/terms" || meta["website"] != "https://ca.test/" {
		t.Errorf("meta %v", meta)
	}
	if meta["externalAccountRequired"] != false {
		t.Errorf("externalAccountRequired %v", meta["externalAccountRequired"])
	}
	if ids, _ := meta["caaIdentities"].([]any); len(ids) != 1 || ids[0] != "ca.test" {
		t.Errorf("caaIdentities %v", meta["caaIdentities"])
	}
	profiles, _ := meta["profiles"].(map[string]any)
	if profiles["tls-server"] == "" || profiles["tls-server-short"] == nil || len(profiles) != 2 {
		t.Errorf("A65: profiles %v", profiles)
	}
	meta2 := decodeInto[directoryView](t, e.get(http.MethodGet, "/acme/eab/directory")).Meta
	if !meta2.ExternalAccountRequired {
		t.Error("A26: externalAccountRequired is not advertised")
	}
}

func TestACME_A1_OnlyHTTPS(t *testing.T) {
	t.Parallel()
	ep := []Endpoint{{Name: "a", Issuer: "web", Profiles: []string{"p"}, DefaultProfile: "p"}}
	good := Config{BaseURL: testBase, TermsOfService: "https://t", Website: "https://w", Endpoints: ep}
	if _, err := compile(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"http":               func(c *Config) { c.BaseURL = "http://ca.test" },
		"no host":            func(c *Config) { c.BaseURL = "https://" },
		"none":               func(c *Config) { c.BaseURL = "" },
		"a query":            func(c *Config) { c.BaseURL = "https://ca.test/?a" },
		"former http":        func(c *Config) { c.FormerBaseURLs = []string{"http://old.test"} },
		"no terms":           func(c *Config) { c.TermsOfService = "" },
		"no website":         func(c *Config) { c.Website = "" },
		"endpoint twice":     func(c *Config) { c.Endpoints = append(c.Endpoints, c.Endpoints[0]) },
		"endpoint with path": func(c *Config) { c.Endpoints = []Endpoint{{Name: "a/b"}} },
		"no issuer":          func(c *Config) { c.Endpoints = []Endpoint{{Name: "a"}} },
		"default profile not offered": func(c *Config) {
			c.Endpoints = []Endpoint{{Name: "a", Issuer: "web", Profiles: []string{"p"}, DefaultProfile: "q"}}
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := compile(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestACME_A3_NewNonce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for method, status := range map[string]int{http.MethodHead: 200, http.MethodGet: 204} {
		r := e.get(method, "/acme/default/new-nonce")
		want(t, r, status)
		nonce := r.header.Get("Replay-Nonce")
		if raw, err := decodeBase64(nonce); err != nil || len(raw) != nonceSize {
			t.Errorf("%s: nonce %q (A4)", method, nonce)
		}
		if cc := r.header.Get("Cache-Control"); cc != "no-store" {
			t.Errorf("%s: cache control %q", method, cc)
		}
		if l := r.links("index"); len(l) != 1 || l[0] != testBase+"/acme/default/directory" {
			t.Errorf("%s: A7: index link %v", method, l)
		}
	}
}

func TestACME_A8_CORS(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, path := range []string{"/acme/default/directory", "/acme/default/new-order", "/acme/default/order/x", "/acme/default/nothing"} {
		r := e.getFor("https://page.example", http.MethodOptions, path)
		want(t, r, http.StatusNoContent)
		for name, value := range map[string]string{
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Headers":     "Content-Type",
			"Access-Control-Expose-Headers":    "Link, Replay-Nonce, Location, Retry-After",
			"Access-Control-Allow-Credentials": "",
		} {
			if got := r.header.Get(name); got != value {
				t.Errorf("%s: %s %q", path, name, got)
			}
		}
	}
	r := e.getFor("https://page.example", http.MethodGet, "/acme/default/order/x")
	if got := r.header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("an error without CORS: %q", got)
	}
}

// TestFR18_NoPageNoCORS: who names no origin gets no headers that are for pages.
func TestFR18_NoPageNoCORS(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
		r := e.get(method, "/acme/default/new-nonce")
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", method, name)
			}
		}
		if r.header.Get("Vary") != "Origin" {
			t.Errorf("%s: a cache cannot tell pages apart: %v", method, r.header)
		}
	}
}

func TestACME_A10_Methods(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, path := range []string{
		"new-account", "new-order", "revoke-cert", "key-change", "acct/1", "acct/1/orders", "order/1", "order/1/finalize",
		"authz/1", "chall/1/http-01", "cert/1",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
			r := e.get(method, "/acme/default/"+path)
			if method == http.MethodHead {
				want(t, r, http.StatusMethodNotAllowed)
				continue
			}
			wantProblem(t, r, http.StatusMethodNotAllowed, "malformed")
			if allow := r.header.Get("Allow"); allow != "POST, OPTIONS" {
				t.Errorf("%s %s: allow %q", method, path, allow)
			}
		}
	}
	wantProblem(t, e.get(http.MethodPost, "/acme/default/directory"), http.StatusUnsupportedMediaType, "malformed")
	wantProblem(t, e.get(http.MethodGet, "/acme/default/nothing"), http.StatusNotFound, "malformed")
	wantProblem(t, e.get(http.MethodGet, "/acme/nobody/directory"), http.StatusNotFound, "malformed")
}

func TestACME_A49_EveryKindHasAnAnswer(t *testing.T) {
	t.Parallel()
	types := map[string]bool{}
	for _, k := range fault.Kinds() {
		if int(k) >= len(answers) || answers[k].typ == "" || answers[k].status < 400 {
			t.Errorf("%s: no row", k)
			continue
		}
		types[answers[k].typ] = true
		if answers[k].status == http.StatusConflict && k != fault.Conflict && k != fault.AlreadyReplaced {
			t.Errorf("A50: %s answers 409", k)
		}
		p := problemOf(fault.New(k, "text"))
		if p.Detail == "" || p.Status != answers[k].status {
			t.Errorf("%s: %+v", k, p)
		}
	}
	for _, typ := range strings.Fields(`accountDoesNotExist alreadyRevoked badCSR badNonce badPublicKey badRevocationReason
		badSignatureAlgorithm caa connection dns externalAccountRequired incorrectResponse invalidContact malformed orderNotReady
		rateLimited rejectedIdentifier serverInternal tls unauthorized unsupportedContact unsupportedIdentifier userActionRequired
		alreadyReplaced invalidProfile`) {
		if !types[typ] {
			t.Errorf("no kind answers %s", typ)
		}
	}
	if a := answerTo(fault.Kind(250)); a != answers[fault.Internal] {
		t.Errorf("an unknown kind answers %v", a)
	}
}

func TestACME_A50_A51_RefusalsSayWhenAndHideCauses(t *testing.T) {
	t.Parallel()
	s := newIdleEnv(t, storetest.SQLite(t)).server
	render := func(err error) *response {
		w := httptest.NewRecorder()
		s.refuse(w, httptest.NewRequest(http.MethodPost, "/acme/default/new-order", nil), err)
		return &response{w.Code, w.Header(), w.Body.Bytes()}
	}
	r := render(fault.New(fault.RateLimited, "slow down").After(1500 * time.Millisecond))
	wantProblem(t, r, 429, "rateLimited")
	if r.header.Get("Retry-After") != "2" || len(r.links("help")) != 1 {
		t.Errorf("A50: %v", r.header)
	}
	if r := render(fault.New(fault.RateLimited, "slow down")); r.header.Get("Retry-After") == "" {
		t.Error("A12: 429 without Retry-After")
	}
	r = render(http.ErrBodyNotAllowed)
	p := wantProblem(t, r, 500, "serverInternal")
	if strings.Contains(string(r.body), "body") || p.Reason != "" {
		t.Errorf("A51: %s", r.body)
	}
	r = render(fault.Wrap(fault.Unavailable, http.ErrBodyNotAllowed, "the database does not answer"))
	wantProblem(t, r, 503, "serverInternal")
	if r.header.Get("Retry-After") == "" || strings.Contains(string(r.body), "body") {
		t.Errorf("A12, A51: %v %s", r.header, r.body)
	}
	p = wantProblem(t, render(fault.New(fault.BadAlgorithm, "no")), 400, "badSignatureAlgorithm")
	if len(p.Algorithms) != len(accepted) {
		t.Errorf("A16: algorithms %v", p.Algorithms)
	}
}

func TestACME_A32_Subproblems(t *testing.T) {
	t.Parallel()
	reject := fault.New(fault.RejectedIdentifier, "no").Because("denied").About("dns", "a.test")
	unsupported := fault.New(fault.UnsupportedIdentifier, "what").About("foo", "b")
	one := problemOf(reject)
	if one.Identifier != nil || len(one.Subproblems) != 1 || one.Subproblems[0].Identifier.Value != "a.test" {
		t.Errorf("one name: %+v", one)
	}
	same := problemOf(fault.Of(combine([]*fault.Error{reject, reject.About("dns", "b.test"), reject})))
	if same.Type != errorURN+"rejectedIdentifier" || len(same.Subproblems) != 2 {
		t.Errorf("the same type twice: %+v", same)
	}
	mixed := problemOf(fault.Of(combine([]*fault.Error{reject, unsupported})))
	if mixed.Type != errorURN+"compound" || mixed.Subproblems[1].Type != errorURN+"unsupportedIdentifier" {
		t.Errorf("two types: %+v", mixed)
	}
}
