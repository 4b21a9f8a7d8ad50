package acme

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// An order that is processing is not signed once something that it rests on has
// ceased to hold, and says what.
func TestFS8_OrderIsJudgedAgainWhenItIsReserved(t *testing.T) {
	t.Parallel()
	ev := store.Event{At: time.Now(), Action: "test", Actor: "uid:0", Subject: "test"}
	for name, c := range map[string]struct {
		change func(e *env, c *client, o orderView, kid string) error
		want   string // the order's problem; empty if it is not this change that made it invalid
	}{
		"nothing changed": {func(*env, *client, orderView, string) error { return nil }, ""},
		"account deactivated": {func(_ *env, c *client, _ orderView, _ string) error {
			c.post(c.kid, map[string]string{"status": "deactivated"})
			return nil
		}, "account_deactivated"},
		"FS18 account revoked by an operator": {func(_ *env, c *client, _ orderView, _ string) error {
			c.revoke(false)
			return nil
		}, "account_revoked"},
		"FS18 authorization revoked by an operator": {func(e *env, c *client, o orderView, _ string) error {
			return e.store.RevokeAuthorization(c.t.Context(), idOf(o.Authorizations[1]), ev)
		}, "authorization_revoked"},
		"authorization deactivated": {func(_ *env, c *client, o orderView, _ string) error {
			c.post(o.Authorizations[1], map[string]string{"status": "deactivated"})
			return nil
		}, "authorization_deactivated"},
		"authorization expired": {func(e *env, _ *client, _ orderView, _ string) error {
			e.sleep(31 * 24 * time.Hour)
			return nil
		}, "authorization_expired"},
		"EAB key disabled": {func(e *env, c *client, _ orderView, kid string) error {
			_, err := e.eab.Disable(c.t.Context(), kid, "uid:0", "")
			return err
		}, "eab_disabled"},
		"order invalid": {func(e *env, c *client, o orderView, _ string) error {
			id := idOf(strings.TrimSuffix(o.Finalize, "/finalize"))
			return e.store.FailOrder(c.t.Context(), id, problemJSON(fault.New(fault.Denied, "x").Because("by_hand")), &ev)
		}, "by_hand"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, st *store.Store) {
				e := newIdleEnv(t, st)
				stop := e.run(t)
				kid, mac := e.newEAB(t, credential.NewKey{Endpoint: "eab"})
				client := e.client(t, "eab")
				client.register(map[string]any{"termsOfServiceAgreed": true,
					"externalAccountBinding": client.bind(kid, mac, nil, "")})
				o, u := client.ready("a.localhost", "b.localhost")
				stop()
				before := e.signer.Used.Load()
				r := client.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost", "b.localhost"))) // waits in the queue
				if want(t, r, http.StatusOK); decodeInto[orderView](t, r).Status != statusProcessing {
					t.Fatalf("%s", r.body)
				}
				if err := c.change(e, client, o, kid); err != nil {
					t.Fatal(err)
				}
				e.run(t)
				status := statusInvalid
				if c.want == "" {
					status = statusValid
				}
				var got orderView
				eventually(t, "the order is "+status, func() bool {
					row, authzs, err := st.Order(t.Context(), idOf(u))
					if err != nil {
						t.Fatal(err)
					}
					got = e.server.current().endpoints["eab"].orderView(row, authzs, e.now())
					return got.Status == status && e.server.work.orders.Held() == 0
				})
				if signed := e.signer.Used.Load() - before; (signed != 0) != (c.want == "") {
					t.Errorf("%d signatures", signed)
				}
				if c.want != "" && !strings.Contains(string(got.Error), `"reason":"`+c.want+`"`) {
					t.Errorf("error %s, want %s", got.Error, c.want)
				}
			})
		})
	}
}

// The key of a binding may be disabled once its account is there; only orders
// that were placed before are stopped.
func TestFS8_OrdersPlacedAfterTheKeyWasDisabled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	kid, mac := e.newEAB(t, credential.NewKey{Endpoint: "eab"})
	c := e.client(t, "eab")
	c.register(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.bind(kid, mac, nil, "")})
	if _, err := e.eab.Disable(t.Context(), kid, "uid:0", ""); err != nil {
		t.Fatal(err)
	}
	e.sleep(time.Second)
	c.issue(nil, "a.localhost")
}

// A request whose endpoint or order is gone is neither approved nor signed, and
// says so.
func TestFS8_NothingIsLeftToJudge(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	for name, c := range map[string]struct {
		endpoint string
		kind     fault.Kind
		reason   string
	}{
		"endpoint gone": {"gone", fault.Denied, "endpoint_gone"},
		"order gone":    {"default", fault.NotFound, ""},
	} {
		row := &store.Request{Endpoint: c.endpoint, Origin: "order:gone"}
		err := e.server.recheck(t.Context(), row, issuance.Request{})
		if !fault.Is(err, c.kind) || fault.Of(err).Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := e.server.issue(t.Context(), &job{order: store.Order{ID: "1", Endpoint: "gone"}})
	if fault.Of(err).Reason != "endpoint_gone" {
		t.Errorf("an order whose endpoint is gone: %v", err)
	}
}
