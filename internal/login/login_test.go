package login_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/login"
	"github.com/privyseal/privyseal/internal/login/logintest"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

const redirect = "http://127.0.0.1:49152/callback"

// env is a login server with a real provider behind it.
type env struct {
	*testing.T
	provider *logintest.Provider
	config   login.ProviderConfig
	server   *login.Server
	access   *access.Access
	store    *store.Store
	url      string
	ahead    atomic.Int64 // the server's clock
}

func (e *env) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{T: t, provider: logintest.Start(t)}
	st := storetest.Open(t, storetest.SQLiteURL(t), "node-1")
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.store = st
	sealer, err := seal.New(bytes.Repeat([]byte{1}, seal.KEKSize))
	if err != nil {
		t.Fatal(err)
	}
	limits, err := limit.New(limit.Defaults(), st, e.now)
	if err != nil {
		t.Fatal(err)
	}
	e.access = access.New(access.Config{Store: st, Sealer: sealer, Now: e.now})
	e.server = login.New(login.Config{
		Access: e.access, Store: st, Sealer: sealer, Limits: limits, Now: e.now, Log: slog.New(slog.DiscardHandler),
		Render: admin.Render,
	})
	e.config = login.ProviderConfig{Name: "corp", Issuer: e.provider.Issuer, ClientID: logintest.ClientID}
	e.swap(e.config)
	s := httptest.NewServer(e.server.Routes())
	t.Cleanup(s.Close)
	e.url = s.URL
	e.provider.Person("ann-1", "ann@example.test", map[string]any{"groups": []string{"pki", "staff"}})
	return e
}

func (e *env) swap(c login.ProviderConfig) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.provider.Roots(e)}}}
	e.server.Swap([]*login.Provider{{ProviderConfig: c, Client: client}}, nil, "")
}

// post returns the problem that came instead of an answer.
func (e *env) post(path string, body, answer any) *api.Problem {
	e.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		e.Fatal(err)
	}
	req, err := http.NewRequestWithContext(e.Context(), http.MethodPost, e.url+path, bytes.NewReader(text))
	if err != nil {
		e.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	p := &api.Problem{}
	if resp.StatusCode == http.StatusOK {
		p = nil
		err = json.NewDecoder(resp.Body).Decode(answer)
	} else {
		err = json.NewDecoder(resp.Body).Decode(p)
	}
	if err != nil {
		e.Fatal(err)
	}
	return p
}

func (e *env) start() (s api.LoginStarted) {
	e.Helper()
	if p := e.post("/v1/login/oidc/corp/start", api.LoginStart{RedirectURI: redirect}, &s); p != nil {
		e.Fatal(p)
	}
	return s
}

// begin goes as far as the redirect back.
func (e *env) begin(sub string) api.LoginFinish {
	e.Helper()
	s := e.start()
	back := e.provider.Browse(e, s.AuthorizeURL, sub)
	if !strings.HasPrefix(back.String(), redirect) || back.Query().Get("state") != s.State {
		e.Fatalf("redirected to %s", back)
	}
	return api.LoginFinish{Flow: s.Flow, Code: back.Query().Get("code"), State: s.State}
}

func (e *env) finish(f api.LoginFinish) (in api.LoggedIn, p *api.Problem) {
	e.Helper()
	p = e.post("/v1/login/oidc/corp/finish", f, &in)
	return in, p
}

func (e *env) login(sub string) api.LoggedIn {
	e.Helper()
	in, p := e.finish(e.begin(sub))
	if p != nil {
		e.Fatal(p)
	}
	return in
}

func (e *env) caller(in api.LoggedIn) (access.Caller, error) {
	return e.access.Bearer(e.Context(), in.Token, netip.MustParseAddr("127.0.0.1"))
}

func (e *env) refused(p *api.Problem, reason string) {
	e.Helper()
	if p == nil || p.Reason != reason {
		e.Errorf("not refused with %s: %v", reason, p)
	}
}

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	in := e.login("ann-1")
	if want := "oidc:" + e.provider.Issuer + "#ann-1"; in.Caller != want || in.Name != "ann@example.test" {
		t.Errorf("logged in as %q, %q, want %q", in.Caller, in.Name, want)
	}
	c, err := e.caller(in)
	if err != nil || !slices.Contains(c.Subjects(), "group:"+e.provider.Issuer+"#pki") {
		t.Errorf("the session is of %v, %v", c.Subjects(), err)
	}
	// The mail address of somebody who left is given to another person.
	e.provider.Person("bob-2", "ann@example.test", nil)
	if other := e.login("bob-2"); other.Caller == in.Caller {
		t.Error("who has the mail address now is taken for who had it")
	}
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	var d api.DeviceStarted
	if p := e.post("/v1/login/oidc/corp/device", struct{}{}, &d); p != nil {
		t.Fatal(p)
	}
	if !strings.HasPrefix(d.VerificationURI, e.provider.Issuer) {
		t.Errorf("verification URI %s", d.VerificationURI)
	}
	e.provider.Enter(t, d.UserCode, "ann-1")
	in, p := e.finish(api.LoginFinish{Flow: d.Flow})
	if p != nil || !strings.HasSuffix(in.Caller, "#ann-1") {
		t.Errorf("%+v, %v", in, p)
	}
}

// What a stranger, a thief or a provider that lies can send.
func TestRefusals(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	f := e.begin("ann-1")
	for name, c := range map[string]struct {
		change func(*api.LoginFinish)
		reason string
	}{
		"another flow":  {func(f *api.LoginFinish) { f.Flow = e.start().Flow; f.State = "x" }, "state_differs"},
		"another state": {func(f *api.LoginFinish) { f.State = "x" }, "state_differs"},
		"altered flow":  {func(f *api.LoginFinish) { f.Flow = "B" + f.Flow[1:] }, "login_unknown"},
		"no flow":       {func(f *api.LoginFinish) { f.Flow = "" }, "login_unknown"},
		"no code":       {func(f *api.LoginFinish) { f.Code = "" }, "state_differs"},
		"another code":  {func(f *api.LoginFinish) { f.Code = "x" }, "oidc_refused"},
	} {
		changed := f
		c.change(&changed)
		_, p := e.finish(changed)
		t.Log(name)
		e.refused(p, c.reason)
	}
	if _, p := e.finish(f); p != nil {
		t.Errorf("the right one is refused: %v", p)
	}
	_, p := e.finish(f)
	e.refused(p, "oidc_refused") // a code is good once

	// The code of one login with the flow of another: PKCE stops it.
	one, two := e.begin("ann-1"), e.begin("ann-1")
	one.Code = two.Code
	_, p = e.finish(one)
	e.refused(p, "oidc_refused")

	late := e.begin("ann-1")
	e.ahead.Store(int64(11 * time.Minute))
	_, p = e.finish(late)
	e.refused(p, "login_late")
	events, err := e.store.AuditEventsOf(t.Context(), "login.refused")
	if err != nil || len(events) != 9 || events[0].Actor != "provider:corp" {
		t.Errorf("refusals in the audit record: %v, %v", events, err)
	}
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	other := logintest.Start(t)
	set := func(name string, value any) func(map[string]any) string {
		return func(c map[string]any) string { c[name] = value; return e.provider.Sign(c) }
	}
	for name, c := range map[string]struct {
		forge  func(map[string]any) string
		reason string
	}{
		"expired":     {set("exp", time.Now().Add(-time.Hour).Unix()), "id_token_refused"},
		"audience":    {set("aud", "somebody else"), "id_token_refused"},
		"issuer":      {set("iss", other.Issuer), "id_token_refused"},
		"nonce":       {set("nonce", "x"), "id_token_refused"},
		"no nonce":    {set("nonce", nil), "id_token_refused"},
		"another key": {other.Sign, "id_token_refused"},
		"none":        {unsigned, "id_token_refused"},
		"missing":     {func(map[string]any) string { return "" }, "id_token_missing"},
		"groups left": {func(c map[string]any) string { // as Entra ID has it
			delete(c, "groups")
			c["_claim_names"] = map[string]any{"groups": "src1"}
			c["_claim_sources"] = map[string]any{"src1": map[string]any{"endpoint": "https://graph.example.test/"}}
			return e.provider.Sign(c)
		}, "groups_left_out"},
		"has groups":     {set("hasgroups", true), "groups_left_out"},
		"group is none":  {set("groups", []any{1}), "groups_unreadable"},
		"groups is none": {set("groups", "pki"), "groups_unreadable"},
		"other tenant":   {set("tid", "t2"), "claim_differs"},
		"right":          {set("tid", "t1"), ""},
	} {
		t.Log(name)
		required := e.config
		if strings.HasSuffix(name, "tenant") || name == "right" {
			required.Require = map[string]string{"tid": "t1"}
		}
		e.swap(required)
		f := e.begin("ann-1")
		e.provider.Forge(c.forge)
		_, p := e.finish(f)
		e.provider.Forge(nil)
		if c.reason == "" {
			if p != nil {
				t.Errorf("the right one is refused: %v", p)
			}
			continue
		}
		e.refused(p, c.reason)
	}
}

// unsigned makes a token with the algorithm none (RFC 7515, appendix A.5).
func unsigned(claims map[string]any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
		base64.RawURLEncoding.EncodeToString(text) + "."
}

func TestKeyRotated(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.login("ann-1")
	e.provider.Rotate(t)
	e.login("ann-1")
}

func TestGroupsAreReadAnew(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.provider.Person("bob-2", "bob@example.test", nil)
	ann, bob := e.login("ann-1"), e.login("bob-2")
	group := "group:" + e.provider.Issuer + "#pki"
	e.provider.Person("ann-1", "ann@example.test", map[string]any{"groups": []string{"staff"}})

	tend := func(after time.Duration) error {
		e.ahead.Store(int64(after))
		return e.server.Tend(t.Context())
	}
	if err := tend(time.Minute); err != nil {
		t.Fatal(err)
	}
	if c, err := e.caller(ann); err != nil || !slices.Contains(c.Subjects(), group) {
		t.Errorf("read after a minute already: %v, %v", c.Subjects(), err)
	}
	e.provider.Down(true)
	if err := tend(6 * time.Minute); err == nil {
		t.Error("a provider that is away is no error")
	}
	if c, err := e.caller(ann); err != nil || !slices.Contains(c.Subjects(), group) {
		t.Errorf("with the provider away: %v, %v", c.Subjects(), err)
	}
	e.provider.Down(false)
	e.provider.Remove("bob-2")
	e.swap(e.config) // a reload, which changes nothing about them
	if err := tend(7 * time.Minute); err != nil {
		t.Fatal(err)
	}
	if c, err := e.caller(ann); err != nil || slices.Contains(c.Subjects(), group) {
		t.Errorf("the group that was taken away: %v, %v", c.Subjects(), err)
	}
	if _, err := e.caller(bob); err == nil {
		t.Error("who was taken out still has a session")
	}
}

func TestProviderDown(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.provider.Down(true)
	p := e.post("/v1/login/oidc/corp/start", api.LoginStart{RedirectURI: redirect}, nil)
	e.refused(p, "oidc_unavailable")
	e.provider.Down(false)
	e.ahead.Store(int64(6 * time.Second))
	f := e.begin("ann-1")
	e.provider.Down(true)
	_, p = e.finish(f)
	e.refused(p, "oidc_unavailable")
	e.provider.Down(false)
	if _, p := e.finish(f); p != nil {
		t.Errorf("the login could not go on: %v", p)
	}
}

// Wrong proofs lock out the address that makes them.
func TestLockOut(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	f := e.begin("ann-1")
	wrong := f
	wrong.Code = "x"
	for range 10 {
		_, p := e.finish(wrong)
		if p == nil {
			t.Fatal("a wrong code is taken")
		}
	}
	_, p := e.finish(wrong)
	if p == nil || p.Status != http.StatusTooManyRequests {
		t.Errorf("an eleventh time: %v", p)
	}
	e.login("ann-1") // another login from there goes on
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, to := range []string{
		"", "https://127.0.0.1:1/", "http://localhost:1/", "http://example.test:1/", "http://127.0.0.1/", "http://192.0.2.1:1/",
		"http://u@127.0.0.1:1/", "http://127.0.0.1:1/?x", "http://127.0.0.1:1/#x", "http://127.0.0.1:0/",
	} {
		e.refused(e.post("/v1/login/oidc/corp/start", api.LoginStart{RedirectURI: to}, nil), "redirect_uri")
	}
	e.refused(e.post("/v1/login/oidc/none/start", api.LoginStart{RedirectURI: redirect}, nil), "provider_unknown")
	e.refused(e.post("/v1/login/oidc/corp/finish", map[string]string{"id_token": "x"}, nil), "body")
	if u, err := url.Parse(e.start().AuthorizeURL); err != nil || u.Query().Get("code_challenge_method") != "S256" {
		t.Errorf("no PKCE: %v, %v", u, err)
	}
}
