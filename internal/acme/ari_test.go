package acme

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

func TestACME_A64_RenewalInfo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	leaf := c.issue(nil, "a.localhost")[0]
	id := ariID(leaf.AuthorityKeyId, pki.SerialFromBig(leaf.SerialNumber))
	window := func() (start, end time.Time) {
		r := e.get(http.MethodGet, "/acme/default/renewal-info/"+id+"?ignored=1")
		want(t, r, http.StatusOK)
		if r.header.Get("Retry-After") != "21600" || r.header.Get("Replay-Nonce") != "" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v", r.header)
		}
		v := decodeInto[renewalView](t, r)
		start, err := time.Parse(time.RFC3339, v.Window.Start)
		if err != nil {
			t.Fatal(err)
		}
		end, err = time.Parse(time.RFC3339, v.Window.End)
		if err != nil || !end.After(start) {
			t.Fatalf("%s %v", r.body, err)
		}
		return start, end
	}
	if start, end := window(); !start.After(leaf.NotBefore) || !end.Before(leaf.NotAfter) || start.Before(e.now()) {
		t.Errorf("%s to %s", start, end)
	}
	want(t, c.post(c.base+"/revoke-cert", map[string]any{"certificate": b64(string(leaf.Raw))}), http.StatusOK)
	if _, end := window(); end.After(e.now()) {
		t.Errorf("revoked, and the window ends at %s", end)
	}
	keyID, serial, _ := strings.Cut(id, ".")
	for _, bad := range []string{"x", ".", keyID, keyID + ".", "." + serial, id + "=", keyID + ".AA", keyID + "." + b64("\x00\x01"), keyID + "." + b64("\x80")} {
		wantProblem(t, e.get(http.MethodGet, "/acme/default/renewal-info/"+bad), http.StatusBadRequest, "malformed")
	}
	long := strings.Repeat("QUFB", 25) + "." + strings.Repeat("QUFB", 25)
	wantProblem(t, e.get(http.MethodGet, "/acme/default/renewal-info/"+long), http.StatusBadRequest, "malformed")
	for _, none := range []string{keyID + "." + b64("\x01"), b64("another key") + "." + serial} {
		wantProblem(t, e.get(http.MethodGet, "/acme/default/renewal-info/"+none), http.StatusNotFound, "malformed")
	}
	want(t, c.post(c.base+"/renewal-info/"+id, ""), http.StatusOK) // RFC 8555, section 6.3
}

func TestACME_A64_Replaces(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(_ *Config, l *limit.Config) { l.PendingOrders = 2 })
	c, other := e.account(t), e.account(t)
	leaf := c.issue(nil, "a.localhost", "b.localhost")[0]
	id := ariID(leaf.AuthorityKeyId, pki.SerialFromBig(leaf.SerialNumber))
	order := func(c *client, id string, names ...string) *response {
		return c.newOrder(map[string]any{"identifiers": dnsNames(names...), "replaces": id})
	}
	wantProblem(t, order(c, "x", "a.localhost"), 400, "malformed")
	wantProblem(t, order(c, ariID(leaf.AuthorityKeyId, "01"), "a.localhost"), 400, "malformed")
	wantProblem(t, order(c, id, "c.localhost"), 400, "malformed")
	wantProblem(t, order(other, id, "a.localhost"), 403, "unauthorized")
	c.order("x.localhost")
	c.order("y.localhost") // the account may have no more pending orders, but renew

	r := order(c, id, "a.localhost", "new.localhost")
	want(t, r, http.StatusCreated)
	o := decodeInto[orderView](t, r)
	if o.Replaces != id {
		t.Errorf("not echoed: %s", r.body)
	}
	wantProblem(t, order(c, id, "a.localhost"), http.StatusConflict, "alreadyReplaced") // A50: lego needs 409
	want(t, c.post(o.Authorizations[1], `{"status":"deactivated"}`), 200)               // that order is invalid now
	want(t, order(c, id, "a.localhost"), http.StatusCreated)
}

func FuzzARI(f *testing.F) {
	f.Add("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	f.Add("..")
	f.Add("AA.AA")
	f.Fuzz(func(t *testing.T, id string) {
		keyID, serial, err := parseARI(id)
		if err == nil && ariID(keyID, serial) != id {
			t.Errorf("%q is written %q", id, ariID(keyID, serial))
		}
	})
}
