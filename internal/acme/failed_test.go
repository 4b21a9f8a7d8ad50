package acme

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/logtest"
)

// TestFR21_AFailedValidationIsLogged: one line says what was asked where, and
// whose it was.
func TestFR21_AFailedValidationIsLogged(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	var log logtest.Buffer
	e.server.Log = slog.New(slog.NewTextHandler(&log, nil))
	e.restart()
	stop := e.run(t)
	kid, mac := e.newEAB(t, credential.NewKey{})
	c := e.client(t, "eab")
	c.register(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, "")})
	c.ready("good.localhost")
	o, _ := c.order("bad.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	for _, ch := range a.Challenges {
		if ch.Type == "http-01" {
			want(t, c.post(ch.URL, "{}"), http.StatusOK)
		}
	}
	if status, r := c.await(o.Authorizations[0], statusPending); status != statusInvalid {
		t.Fatalf("%s", r.body)
	}
	stop()
	text := log.String()
	if n := strings.Count(text, "validation failed"); n != 1 {
		t.Fatalf("%d lines:\n%s", n, text)
	}
	for _, part := range []string{
		"level=INFO", "name=bad.localhost", "method=http-01", "address=127.0.0.1", "cause=", "404",
		"account=" + idOf(c.kid), "eab_key=" + kid,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("without %s:\n%s", part, text)
		}
	}
}
