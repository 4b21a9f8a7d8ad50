package acme

import (
	"crypto/elliptic"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

func TestACME_A22_NewAccount(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	r := c.register(map[string]any{"termsOfServiceAgreed": true, "contact": []string{"mailto:a@example.com"}, "unknown": 1})
	a := decodeInto[accountView](t, r)
	if a.Status != statusValid || len(a.Contact) != 1 || a.Orders != c.kid+"/orders" || !a.Agreed {
		t.Errorf("%s", r.body)
	}
	again := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": []string{"mailto:b@example.com"}})
	want(t, again, http.StatusOK)
	if again.header.Get("Location") != c.kid || string(again.body) != string(r.body) {
		t.Errorf("%s %s", again.header.Get("Location"), again.body)
	}
}

func TestACME_A22_OneAccountForAKeyThatComesTwiceAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	var wg sync.WaitGroup
	locations := make([]string, 8)
	codes := make([]int, len(locations))
	for i := range locations {
		wg.Go(func() {
			r := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true})
			locations[i], codes[i] = r.header.Get("Location"), r.code
		})
	}
	wg.Wait()
	created := 0
	for i := range locations {
		if locations[i] != locations[0] || locations[i] == "" {
			t.Errorf("two accounts: %v", locations)
		}
		if codes[i] == http.StatusCreated {
			created++
		} else if codes[i] != http.StatusOK {
			t.Errorf("code %d", codes[i])
		}
	}
	if created != 1 {
		t.Errorf("created %d times", created)
	}
}

func TestACME_A23_OnlyReturnExisting(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, endpoint := range []string{"default", "eab"} {
		c := e.client(t, endpoint)
		wantProblem(t, c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`), 400, "accountDoesNotExist")
	}
	c := e.account(t)
	r := c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`)
	want(t, r, http.StatusOK)
	if r.header.Get("Location") != c.kid {
		t.Error(r.header.Get("Location"))
	}
}

func TestACME_A24_TermsOfService(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.client(t, "default")
	for _, payload := range []string{`{}`, `{"termsOfServiceAgreed":false}`} {
		r := c.postJWK(c.base+"/new-account", payload)
		p := wantProblem(t, r, http.StatusForbidden, "userActionRequired")
		if l := r.links("terms-of-service"); len(l) != 1 || l[0] != "https://ca.test/terms" || p.Instance != l[0] {
			t.Errorf("links %v, instance %q", l, p.Instance)
		}
	}
}

// Changed terms are recorded when they are agreed to, and, where the operator wants
// it, no order is placed before.
func TestACME_A24_ChangedTerms(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	updates, registers := e.account(t), e.account(t)
	cfg := e.server.current().cfg
	change := func(again bool) {
		cfg.TermsOfService, cfg.AgreeAgain = "https://ca.test/terms-2", again
		if err := e.server.Swap(cfg); err != nil {
			t.Fatal(err)
		}
	}
	change(false)
	updates.order("a.localhost")
	change(true)
	for _, c := range []*client{updates, registers} {
		r := c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.localhost")})
		p := wantProblem(t, r, http.StatusForbidden, "userActionRequired")
		if l := r.links("terms-of-service"); len(l) != 1 || l[0] != "https://ca.test/terms-2" || p.Instance != l[0] {
			t.Errorf("links %v, instance %q", l, p.Instance)
		}
		want(t, c.post(c.kid, `{"contact":["mailto:new@example.com"]}`), http.StatusOK) // says nothing of terms
	}
	want(t, updates.post(updates.kid, `{"termsOfServiceAgreed":true}`), http.StatusOK)
	want(t, registers.postJWK(registers.base+"/new-account", `{"termsOfServiceAgreed":true}`), http.StatusOK)
	for _, c := range []*client{updates, registers} {
		c.order("a.localhost")
		a, err := e.store.Account(t.Context(), idOf(c.kid))
		if err != nil || a.Terms != "https://ca.test/terms-2" {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

func TestACME_A25_Contacts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for contact, typ := range map[string]string{
		"mailto:a@example.com":               "",
		"mailto:a+b@example.com":             "",
		"mailto: a@example.com":              "", // getssl
		" mailto:\ta@example.com ":           "",
		"mailto:a @example.com":              "invalidContact",
		"mailto:a@example.com,b@example.com": "invalidContact",
		"mailto:a@example.com?subject=x":     "invalidContact",
		"mailto:a@example.com?":              "invalidContact",
		"mailto:":                            "invalidContact",
		"mailto:not an address":              "invalidContact",
		"mailto:A%20B@example.com":           "invalidContact",
		"mailto:Name <a@example.com>":        "invalidContact",
		"mailto:ä@example.com":               "invalidContact",
		"a@example.com":                      "invalidContact",
		"":                                   "invalidContact",
		"tel:+41441234567":                   "unsupportedContact",
		"https://example.com":                "unsupportedContact",
		"mailto:" + strings.Repeat("a", 400): "invalidContact",
	} {
		c := e.client(t, "default")
		r := c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": []string{contact}})
		if typ == "" {
			want(t, r, http.StatusCreated)
			v := decodeInto[accountView](t, r)
			if len(v.Contact) != 1 || strings.ContainsAny(v.Contact[0], " \t") {
				t.Errorf("%q is kept as %q (FR18)", contact, v.Contact)
			}
		} else {
			wantProblem(t, r, http.StatusBadRequest, typ)
		}
	}
	c := e.client(t, "default")
	many := strings.Split(strings.Repeat("mailto:a@example.com ", maxContacts)+"mailto:a@example.com", " ")
	wantProblem(t, c.postJWK(c.base+"/new-account", map[string]any{"termsOfServiceAgreed": true, "contact": many}), 400, "invalidContact")
}

func TestACME_A28_UpdateAndDeactivate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	view := func(r *response) accountView {
		want(t, r, http.StatusOK)
		return decodeInto[accountView](t, r)
	}
	before := view(c.post(c.kid, ""))
	if got := view(c.post(c.kid, "{}")); got.Status != before.Status || got.Orders != before.Orders {
		t.Errorf("%+v", got)
	}
	if got := view(c.post(c.kid, `{"contact":["mailto:new@example.com"],"orders":"x","termsOfServiceAgreed":false,"foo":1}`)); got.Contact[0] != "mailto:new@example.com" || got.Orders != before.Orders || !got.Agreed {
		t.Errorf("%+v", got)
	}
	if got := view(c.post(c.kid, `{"status":"revoked"}`)); got.Status != statusValid || len(got.Contact) != 1 {
		t.Errorf("another status: %+v", got)
	}
	wantProblem(t, c.post(c.kid, `{"contact":["tel:1"]}`), 400, "unsupportedContact")
	wantProblem(t, c.post(c.kid, `{"contact":7}`), 400, "malformed")
	if got := view(c.post(c.kid, `{"contact":[]}`)); len(got.Contact) != 0 {
		t.Errorf("%+v", got)
	}

	o, _ := c.order("a.localhost")
	if got := view(c.post(c.kid, `{"status":"deactivated"}`)); got.Status != statusDeactivated {
		t.Errorf("%+v", got)
	}
	for _, target := range []string{c.kid, c.base + "/new-order", o.Authorizations[0]} {
		wantProblem(t, c.post(target, "{}"), http.StatusForbidden, "unauthorized")
	}
	wantProblem(t, c.postJWK(c.base+"/new-account", `{"termsOfServiceAgreed":true}`), http.StatusForbidden, "unauthorized")
	wantProblem(t, c.postJWK(c.base+"/new-account", `{"onlyReturnExisting":true}`), http.StatusForbidden, "unauthorized")
	id := o.Authorizations[0][strings.LastIndex(o.Authorizations[0], "/")+1:]
	a, err := e.store.Authorization(t.Context(), id)
	if err != nil || a.Status != statusDeactivated {
		t.Errorf("pending authorization of a deactivated account: %+v %v", a, err)
	}
}

func TestACME_A29_OrdersList(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	if got := string(c.read(c.kid + "/orders").body); got != `{"orders":[]}` {
		t.Errorf("an empty list is %s", got)
	}
	placed := map[string]bool{}
	for range ordersPage + 5 {
		_, u := c.order("a.localhost")
		placed[u] = true
	}
	pages, seen := 0, 0
	for next := c.kid + "/orders"; next != ""; pages++ {
		r := c.read(next)
		for _, u := range decodeInto[struct{ Orders []string }](t, r).Orders {
			if !placed[u] {
				t.Errorf("%s twice or not ours", u)
			}
			delete(placed, u)
			seen++
		}
		next = strings.Join(r.links("next"), "")
	}
	if pages != 2 || len(placed) != 0 || seen != ordersPage+5 {
		t.Errorf("%d pages, %d seen, missing %v", pages, seen, placed)
	}
}

func TestNewAccountsPerAddress(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.NewAccounts = limit.Rate{Count: 2, Per: time.Hour} })
	e.account(t)
	c := e.account(t)
	third := e.client(t, "default")
	payload := map[string]any{"termsOfServiceAgreed": true}
	r := third.postJWK(third.base+"/new-account", payload)
	wantProblem(t, r, http.StatusTooManyRequests, "rateLimited") // A50
	if r.header.Get("Retry-After") == "" || len(r.links("help")) != 1 {
		t.Errorf("%v", r.header)
	}
	want(t, c.postJWK(c.base+"/new-account", payload), http.StatusOK) // who is known is not limited
	e.sleep(31 * time.Minute)
	third.register(payload)
}

func TestACME_A16_CompromisedAccountKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	want(t, c.post(c.base+"/revoke-cert", map[string]any{
		"certificate": base64.RawURLEncoding.EncodeToString(leaf.Raw), "reason": int(pki.KeyCompromise),
	}), http.StatusOK)
	bad := e.client(t, "default")
	bad.key = key
	wantProblem(t, bad.postJWK(bad.base+"/new-account", `{"termsOfServiceAgreed":true}`), 400, "badPublicKey")
}
