package acme

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

func (c *client) newOrder(payload any) *response {
	c.t.Helper()
	return c.post(c.base+"/new-order", payload)
}

func TestACME_A31_NewOrder(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	r := c.newOrder(map[string]any{"identifiers": dnsNames("B.localhost", "a.LOCALHOST", "b.localhost", "127.0.0.1"), "unknown": true})
	want(t, r, http.StatusCreated)
	o := decodeInto[orderView](t, r)
	if o.Status != statusPending || len(o.Identifiers) != 3 || o.Identifiers[0].Value != "b.localhost" || o.Identifiers[1].Value != "a.localhost" {
		t.Errorf("%s", r.body)
	}
	if len(o.Authorizations) != 3 || o.Finalize != r.header.Get("Location")+"/finalize" || o.Profile != "tls-server" {
		t.Errorf("%s", r.body)
	}
	expires, err := time.Parse(time.RFC3339, o.Expires)
	if err != nil || !strings.HasSuffix(o.Expires, "Z") || expires.Before(time.Now()) {
		t.Errorf("expires %q", o.Expires)
	}
	for _, absent := range []string{`"error"`, `"certificate"`, `"notBefore"`, `"notAfter"`, `"replaces"`} {
		if strings.Contains(string(r.body), absent) {
			t.Errorf("%s in %s", absent, r.body)
		}
	}
	if got := c.read(r.header.Get("Location")); string(got.body) != string(r.body) {
		t.Errorf("read again: %s", got.body)
	}
}

func TestACME_A32_A34_A58_IdentifiersThatAreRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(c *Config, _ *limit.Config) { c.NamesPerOrder = 5 })
	c := e.account(t)
	long := strings.Repeat("a", 63)
	for _, tc := range []struct {
		typ, value string
		status     int
		problem    string
	}{
		{"foo", "x", 400, "unsupportedIdentifier"},
		{"email", "a@example.com", 400, "unsupportedIdentifier"},
		{"bundleEID", "dtn://x", 400, "unsupportedIdentifier"}, // A69
		{"", "x", 400, "unsupportedIdentifier"},
		{"dns", "", 400, "malformed"},
		{"dns", "a.localhost.", 400, "malformed"},
		{"dns", "a..localhost", 400, "malformed"},
		{"dns", ".localhost", 400, "malformed"},
		{"dns", "-a.localhost", 400, "malformed"},
		{"dns", "ä.localhost", 400, "malformed"},
		{"dns", "a b.localhost", 400, "malformed"},
		{"dns", "ab--cd.localhost", 400, "malformed"},
		{"dns", "xn--zz-.localhost", 400, "malformed"},
		{"dns", long + "a.localhost", 400, "malformed"},
		{"dns", strings.Repeat(long+".", 4) + "localhost", 400, "malformed"},
		{"dns", "a.*.localhost", 400, "malformed"},
		{"dns", "a*.localhost", 400, "malformed"},
		{"dns", "*.*.localhost", 400, "malformed"},
		{"dns", "*", 400, "malformed"},
		{"dns", "127.0.0.1", 400, "malformed"},
		{"dns", "::1", 400, "malformed"},
		{"dns", "a_b.localhost", 403, "rejectedIdentifier"},
		{"ip", "", 400, "malformed"},
		{"ip", "127.0.0.256", 400, "malformed"},
		{"ip", "a.localhost", 400, "malformed"},
		{"ip", "10.0.0.0/8", 400, "malformed"},
		{"ip", "fe80::1%eth0", 400, "malformed"},
		{"ip", "::ffff:10.0.0.1", 400, "malformed"},
	} {
		t.Run(tc.typ+" "+tc.value, func(t *testing.T) {
			r := c.newOrder(map[string]any{"identifiers": []pki.Identifier{{Type: pki.IdentifierType(tc.typ), Value: tc.value}}})
			p := wantProblem(t, r, tc.status, tc.problem)
			if len(p.Subproblems) != 1 || p.Subproblems[0].Identifier == nil || p.Subproblems[0].Identifier.Value != tc.value {
				t.Errorf("subproblems of %s", r.body)
			}
		})
	}
	r := c.newOrder(map[string]any{"identifiers": []pki.Identifier{{Type: "foo", Value: "x"}, {Type: "dns", Value: "a..b"}, {Type: "dns", Value: "ok.localhost"}}})
	if p := wantProblem(t, r, 400, "compound"); len(p.Subproblems) != 2 {
		t.Errorf("%s", r.body)
	}
	r = c.newOrder(map[string]any{"identifiers": dnsNames("a_b.localhost", "c_d.localhost")})
	if p := wantProblem(t, r, 403, "rejectedIdentifier"); len(p.Subproblems) != 2 {
		t.Errorf("%s", r.body)
	}
	wantProblem(t, c.newOrder(`{}`), 400, "malformed")
	wantProblem(t, c.newOrder(`{"identifiers":[]}`), 400, "malformed")
	wantProblem(t, c.newOrder(`{"identifiers":"a"}`), 400, "malformed")
	wantProblem(t, c.newOrder(`{"identifiers":[],"identifiers":[]}`), 400, "malformed") // A11
	wantProblem(t, c.newOrder(map[string]any{"identifiers": dnsNames("1.localhost", "2.localhost", "3.localhost", "4.localhost", "5.localhost", "6.localhost")}), 400, "malformed")
}

func TestACME_A58_Addresses(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("127.0.0.1", "2001:DB8:0::1")
	if o.Identifiers[1].Value != "2001:db8::1" {
		t.Errorf("%v", o.Identifiers)
	}
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	for _, ch := range a.Challenges {
		if ch.Type == "dns-01" {
			t.Error("dns-01 for an address")
		}
	}
	leaf := c.issue(nil, "127.0.0.1")[0]
	if len(leaf.IPAddresses) != 1 || len(leaf.DNSNames) != 0 || leaf.Subject.CommonName != "" {
		t.Errorf("%v %v %q", leaf.IPAddresses, leaf.DNSNames, leaf.Subject.CommonName)
	}
}

func TestACME_A33_Times(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	with := func(notBefore, notAfter string) map[string]any {
		return map[string]any{"identifiers": dnsNames("a.localhost"), "notBefore": notBefore, "notAfter": notAfter}
	}
	at := func(d time.Duration) string { return stamp(e.now().Add(d)) }
	const day = 24 * time.Hour
	for _, zero := range []string{"0001-01-01T00:00:00Z", ""} {
		r := c.newOrder(with(zero, zero))
		want(t, r, http.StatusCreated)
		if o := decodeInto[orderView](t, r); o.NotBefore != "" || o.NotAfter != "" {
			t.Errorf("%s", r.body)
		}
	}
	for name, p := range map[string]map[string]any{
		"not a time":       with("tomorrow", ""),
		"too long":         with("", at(3*365*day)),
		"ends in the past": with("", at(-day)),
		"ends first":       with(at(time.Hour), at(time.Minute)),
		"long ago":         with(at(-30*day), at(day)),
		"a comma":          with("", strings.Replace(at(day), "Z", ",5Z", 1)),
		"a point alone":    with("", strings.Replace(at(day), "Z", ".Z", 1)),
		"no offset":        with("", strings.TrimSuffix(at(day), "Z")),
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, c.newOrder(p), 400, "malformed") })
	}

	from, to := at(time.Minute), at(10*day)
	zone := time.FixedZone("", 2*3600)
	p := with(from, e.now().Add(10*day).In(zone).Format(time.RFC3339))
	r := c.newOrder(p)
	want(t, r, http.StatusCreated)
	o, u := decodeInto[orderView](t, r), r.header.Get("Location")
	if o.NotBefore != from || o.NotAfter != to {
		t.Errorf("%s", r.body)
	}
	c.authorize(o)
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), 200)
	c.await(u, statusProcessing)
	o = decodeInto[orderView](t, c.read(u))
	leaf := chainOf(t, c.read(o.Certificate).body)[0]
	if stamp(leaf.NotBefore) != from || stamp(leaf.NotAfter) != to {
		t.Errorf("ordered %s to %s, got %s to %s", from, to, leaf.NotBefore, leaf.NotAfter)
	}
}

func TestACME_A65_Profiles(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	for _, name := range []string{"nothing", "code-signing", "TLS-server"} { // unknown, or not offered here
		wantProblem(t, c.newOrder(map[string]any{"identifiers": dnsNames("a.localhost"), "profile": name}), 400, "invalidProfile")
	}
	r := c.newOrder(map[string]any{"identifiers": dnsNames("a.localhost"), "profile": "tls-server-short"})
	want(t, r, http.StatusCreated)
	o, u := decodeInto[orderView](t, r), r.header.Get("Location")
	if o.Profile != "tls-server-short" {
		t.Errorf("%s", r.body)
	}
	c.authorize(o)
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), 200)
	c.await(u, statusProcessing)
	o = decodeInto[orderView](t, c.read(u))
	leaf := chainOf(t, c.read(o.Certificate).body)[0]
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 7*24*time.Hour {
		t.Errorf("life %s", life)
	}
}

func TestACME_A35_OrderStates(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	status := func(u string) orderView { return decodeInto[orderView](t, c.read(u)) }

	o, u := c.order("a.localhost", "b.localhost")
	if got := status(u); got.Status != statusPending {
		t.Errorf("new: %s", got.Status)
	}
	c.authorize(orderView{Authorizations: o.Authorizations[:1]})
	if got := status(u); got.Status != statusPending {
		t.Errorf("one of two proved: %s", got.Status)
	}
	c.authorize(o)
	if got := status(u); got.Status != statusReady {
		t.Errorf("both proved: %s", got.Status)
	}
	want(t, c.post(o.Authorizations[1], `{"status":"deactivated"}`), 200)
	got := status(u)
	if got.Status != statusInvalid || !strings.Contains(string(got.Error), "unauthorized") {
		t.Errorf("one taken back: %s %s", got.Status, got.Error)
	}

	o, u = c.order("fail.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	e.publish(a.Challenges[0].Token, "wrong")
	want(t, c.post(a.Challenges[0].URL, "{}"), 200)
	c.await(o.Authorizations[0], statusPending)
	got = status(u)
	if got.Status != statusInvalid || !strings.Contains(string(got.Error), "incorrectResponse") {
		t.Errorf("failed: %s %s", got.Status, got.Error)
	}

	_, u = c.order("late.localhost")
	e.sleep(8 * 24 * time.Hour)
	got = status(u)
	if got.Status != statusInvalid || !strings.Contains(string(got.Error), "expired") {
		t.Errorf("expired: %s %s", got.Status, got.Error)
	}
}

func TestACME_A36_A37_Authorization(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("a.localhost", "*.a.localhost")
	r := c.read(o.Authorizations[0])
	a := decodeInto[authorizationView](t, r)
	if a.Identifier.Value != "a.localhost" || a.Wildcard || strings.Contains(string(r.body), "wildcard") || a.Expires == "" {
		t.Errorf("%s", r.body)
	}
	if r.header.Get("Retry-After") == "" {
		t.Error("A12: a pending authorization without Retry-After")
	}
	var types []string
	for _, ch := range a.Challenges {
		types = append(types, ch.Type)
		if raw, err := decodeBase64(ch.Token); err != nil || len(raw) < 16 {
			t.Errorf("token %q", ch.Token)
		}
		if ch.Status != statusPending || ch.URL != c.base+"/chall/"+o.Authorizations[0][strings.LastIndex(o.Authorizations[0], "/")+1:]+"/"+ch.Type {
			t.Errorf("%+v", ch)
		}
	}
	if strings.Join(types, " ") != "http-01 dns-01 tls-alpn-01" {
		t.Errorf("A37: %v", types)
	}
	w := decodeInto[authorizationView](t, c.read(o.Authorizations[1]))
	if !w.Wildcard || w.Identifier.Value != "a.localhost" || len(w.Challenges) != 1 || w.Challenges[0].Type != "dns-01" {
		t.Errorf("%+v", w)
	}

	_, r = c.respond(o.Authorizations[0], "http-01")
	want(t, r, http.StatusOK)
	if up := r.links("up"); len(up) != 1 || up[0] != o.Authorizations[0] {
		t.Errorf("A37: up link %v", up)
	}
	if got := decodeInto[challengeView](t, r); got.URL != a.Challenges[0].URL || got.Type != "http-01" {
		t.Errorf("A37: %s", r.body)
	}
	_, r = c.await(o.Authorizations[0], statusPending)
	a = decodeInto[authorizationView](t, r)
	if a.Status != statusValid || len(a.Challenges) != 1 || a.Challenges[0].Status != statusValid || a.Challenges[0].Validated == "" || a.Expires == "" {
		t.Errorf("valid: %s", r.body)
	}
	wantProblem(t, c.post(w.Challenges[0].URL[:strings.LastIndex(w.Challenges[0].URL, "/")]+"/http-01", "{}"), 404, "malformed")
}

func TestACME_A36_Deactivation(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("a.localhost")
	u := o.Authorizations[0]
	for _, payload := range []string{`{"status":"valid"}`, `{"status":"revoked"}`, `{}`} {
		wantProblem(t, c.post(u, payload), 400, "malformed")
	}
	for range 2 { // twice is once
		r := c.post(u, `{"status":"deactivated"}`)
		want(t, r, 200)
		if a := decodeInto[authorizationView](t, r); a.Status != statusDeactivated {
			t.Errorf("%s", r.body)
		}
	}
	a := decodeInto[authorizationView](t, c.read(u))
	wantProblem(t, c.post(a.Challenges[0].URL, "{}"), 400, "malformed") // A38

	o, _ = c.ready("b.localhost") // a valid one, too
	want(t, c.post(o.Authorizations[0], `{"status":"deactivated"}`), 200)
	o2, _ := c.order("b.localhost")
	if o2.Authorizations[0] == o.Authorizations[0] {
		t.Error("A44: a deactivated authorization is used again")
	}
}

func TestACME_A38_ChallengeTwice(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("a.localhost", "fail.localhost")
	a, r := c.respond(o.Authorizations[0], "http-01")
	want(t, r, 200)
	want(t, c.post(a.Challenges[0].URL, "{}"), 200)
	c.await(o.Authorizations[0], statusPending)
	r = c.post(a.Challenges[0].URL, `{"keyAuthorization":"what old clients send"}`)
	want(t, r, 200)
	if ch := decodeInto[challengeView](t, r); ch.Status != statusValid {
		t.Errorf("%s", r.body)
	}
	wantProblem(t, c.post(a.Challenges[1].URL, "{}"), 400, "malformed") // decided by the other one

	a = decodeInto[authorizationView](t, c.read(o.Authorizations[1]))
	want(t, c.post(a.Challenges[0].URL, "{}"), 200)
	_, r = c.await(o.Authorizations[1], statusPending)
	a = decodeInto[authorizationView](t, r)
	if a.Status != statusInvalid || len(a.Challenges) != 1 || a.Challenges[0].Status != statusInvalid ||
		!strings.Contains(string(a.Challenges[0].Error), "incorrectResponse") {
		t.Errorf("A36: %s", r.body)
	}
	wantProblem(t, c.post(a.Challenges[0].URL, "{}"), 400, "malformed")
	want(t, c.post(a.Challenges[0].URL, ""), 200)

	o, _ = c.order("late.localhost")
	a = decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	e.sleep(8 * 24 * time.Hour)
	wantProblem(t, c.post(a.Challenges[0].URL, "{}"), 400, "malformed")
	if got := decodeInto[authorizationView](t, c.read(o.Authorizations[0])); got.Status != statusExpired {
		t.Errorf("%s", got.Status)
	}
}

func TestACME_A44_Reuse(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	first, _ := c.ready("a.localhost")
	second, u := c.order("a.localhost", "b.localhost")
	if second.Authorizations[0] != first.Authorizations[0] || second.Authorizations[1] == first.Authorizations[0] {
		t.Errorf("%v, then %v", first.Authorizations, second.Authorizations)
	}
	third, u3 := c.order("a.localhost")
	if third.Status != statusReady || decodeInto[orderView](t, c.read(u3)).Status != statusReady {
		t.Errorf("an order of proved names is %s", third.Status)
	}
	if got := decodeInto[orderView](t, c.read(u)); got.Status != statusPending {
		t.Errorf("%s", got.Status)
	}
	wild, _ := c.order("*.a.localhost")
	if wild.Authorizations[0] == first.Authorizations[0] {
		t.Error("http-01 serves a wildcard: weaker validation")
	}
	other := e.account(t)
	if o, _ := other.order("a.localhost"); o.Authorizations[0] == first.Authorizations[0] {
		t.Error("another account's authorization")
	}
	e.sleep(31 * 24 * time.Hour)
	if o, _ := c.order("a.localhost"); o.Authorizations[0] == first.Authorizations[0] {
		t.Error("an expired authorization")
	}
}

func TestPendingLimits(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.PendingOrders, l.PendingAuthorizations = 2, 3 })
	c := e.account(t)
	c.order("a.localhost")
	wantProblem(t, c.newOrder(map[string]any{"identifiers": dnsNames("1.localhost", "2.localhost", "3.localhost")}), 429, "rateLimited")
	c.order("b.localhost")
	r := c.newOrder(map[string]any{"identifiers": dnsNames("c.localhost")})
	wantProblem(t, r, 429, "rateLimited") // A50
	if r.header.Get("Retry-After") == "" || len(r.links("help")) != 1 {
		t.Errorf("%v", r.header)
	}
	e.account(t).order("c.localhost")
}
