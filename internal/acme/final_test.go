package acme

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// An order that can never become ready is invalid: in its row, in the list, and
// in what counts against the account.
func TestFT10_FailedOrdersLockNobodyOut(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(e *env, c *client, o orderView, n int){
		"failed": func(_ *env, c *client, o orderView, _ int) {
			c.post(strings.Replace(o.Authorizations[0], "/authz/", "/chall/", 1)+"/http-01", "{}")
			c.await(o.Authorizations[0], statusPending)
		},
		"pending authorization deactivated": func(_ *env, c *client, o orderView, _ int) {
			want(c.t, c.post(o.Authorizations[0], map[string]string{"status": "deactivated"}), http.StatusOK)
		},
		"valid authorization deactivated": func(_ *env, c *client, o orderView, _ int) {
			_, r := c.respond(o.Authorizations[0], "http-01")
			want(c.t, r, http.StatusOK)
			c.await(o.Authorizations[0], statusPending)
			want(c.t, c.post(o.Authorizations[0], map[string]string{"status": "deactivated"}), http.StatusOK)
		},
		"expired": func(e *env, _ *client, _ orderView, _ int) { e.sleep(8 * 24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, st *store.Store) {
				e := newIdleEnv(t, st, func(_ *Config, l *limit.Config) { l.PendingOrders, l.PendingAuthorizations = 2, 6 })
				e.run(t)
				c := e.account(t)
				for n := range 4 {
					o, u := c.order(names(fmt.Sprint("n", n), 3, ".localhost")...)
					fail(e, c, o, n)
					got := decodeInto[orderView](t, c.read(u))
					if got.Status != statusInvalid || !strings.Contains(string(got.Error), "urn:ietf:params:acme:error:") {
						t.Errorf("%+v %s", got, got.Error)
					}
				}
				o, u := c.order("last.localhost")
				list := decodeInto[struct{ Orders []string }](t, c.read(c.kid+"/orders")).Orders
				if len(list) != 1 || list[0] != u {
					t.Errorf("orders %v, want only %s (%s)", list, u, o.Status)
				}
			})
		})
	}
}

// A refusal says when the first of what counts ends, and what to do.
func TestFT10_RetryAfterIsTheSoonestEnd(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newIdleEnv(t, st, func(_ *Config, l *limit.Config) { l.PendingOrders, l.PendingAuthorizations = 2, 3 })
		e.run(t)
		c := e.account(t)
		failed, _ := c.order("failed.localhost") // ends first, and counts no more
		e.sleep(time.Hour)
		c.order("a.localhost")
		want(t, c.post(failed.Authorizations[0], map[string]string{"status": "deactivated"}), http.StatusOK)
		e.sleep(24 * time.Hour)
		r := c.newOrder(map[string]any{"identifiers": dnsNames("1.localhost", "2.localhost", "3.localhost")})
		wantRetry(t, r, 6*24*time.Hour, "1 pending authorizations")
		c.order("b.localhost")
		wantRetry(t, c.newOrder(map[string]any{"identifiers": dnsNames("c.localhost")}), 6*24*time.Hour, "2 pending orders")
	})
}

func wantRetry(t *testing.T, r *response, after time.Duration, text string) {
	t.Helper()
	p := wantProblem(t, r, http.StatusTooManyRequests, "rateLimited")
	got, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil || time.Duration(got)*time.Second > after || time.Duration(got)*time.Second < after-time.Minute {
		t.Errorf("Retry-After is %d s, want %s", got, after)
	}
	if !strings.Contains(p.Detail, text) || !strings.Contains(p.Detail, "deactivate") {
		t.Errorf("detail %q", p.Detail)
	}
}

// TestAReadyOrderExpires, although its authorizations last longer.
func TestAReadyOrderExpires(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	e.sleep(8 * 24 * time.Hour)
	r := c.read(u)
	if got := decodeInto[orderView](t, r); got.Status != statusInvalid ||
		!strings.Contains(string(got.Error), "order_expired") {
		t.Errorf("%s", r.body)
	}
	wantProblem(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusForbidden, "orderNotReady")
}
