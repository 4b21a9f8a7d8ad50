package acme

import (
	"crypto/elliptic"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR13_PostAsGetOfPublicResources: what is read by GET is read by POST-as-GET
// too, with the same answer and a fresh nonce.
func TestFR13_PostAsGetOfPublicResources(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	leaf := c.issue(newECKey(t, elliptic.P256()), "a.localhost")[0]
	row := e.row(t, leaf)
	paths := map[string]int{
		"/directory": http.StatusOK, "/new-nonce": http.StatusNoContent,
		"/renewal-info/" + ariID(leaf.AuthorityKeyId, row.Serial): http.StatusOK,
	}
	for path, code := range paths {
		plain, posted := e.get(http.MethodGet, "/acme/default"+path), c.post(c.base+path, "")
		want(t, plain, code)
		want(t, posted, code)
		if string(posted.body) != string(plain.body) ||
			posted.header.Get("Content-Type") != plain.header.Get("Content-Type") {
			t.Errorf("%s: %s by POST, %s by GET", path, posted.body, plain.body)
		}
		if nonces := posted.header.Values("Replay-Nonce"); len(nonces) != 1 {
			t.Errorf("%s: nonces %v", path, nonces)
		} else if _, _, err := e.server.nonces.check(nonces[0]); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		want(t, e.get(http.MethodHead, "/acme/default"+path), http.StatusOK)

		wantProblem(t, c.post(c.base+path, "{}"), http.StatusBadRequest, "malformed")  // not POST-as-GET
		wantProblem(t, c.postJWK(c.base+path, ""), http.StatusBadRequest, "malformed") // nobody's account
		wantProblem(t, e.get(http.MethodPost, "/acme/default"+path), http.StatusUnsupportedMediaType, "malformed")
		wantProblem(t, e.postRaw(c.base+path, c.signed(c.base+"/new-order", "")), http.StatusForbidden, "unauthorized")
		if r := e.get(http.MethodPut, "/acme/default"+path); r.code != http.StatusMethodNotAllowed ||
			!strings.Contains(r.header.Get("Allow"), "POST") {
			t.Errorf("%s: PUT: %d, Allow %q", path, r.code, r.header.Get("Allow"))
		}
	}
}

// TestFR1_Finalize: certbot before 1.29 writes version 2, others 1.
func TestFR1_Finalize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	for _, version := range []int{1, 2} {
		key := newECKey(t, elliptic.P256())
		o, u := c.ready("a.localhost")
		want(t, c.post(o.Finalize, csrPayload(pkitest.Versioned(t, csr(t, key, "a.localhost"), key, version))), http.StatusOK)
		if status, r := c.await(u, statusProcessing); status != statusValid {
			t.Errorf("version %d: %s", version, r.body)
		}
	}
}
