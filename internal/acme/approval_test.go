package acme

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// asks makes tls-server a profile that wants a person, and returns the queue.
func (e *env) asks(t *testing.T) *approval.Queue {
	t.Helper()
	cfg := profile.BuiltIn()["tls-server"]
	cfg.Approval = true
	e.profile(t, cfg)
	return approval.New(e.store, e.server.Pipeline, e.now, slog.New(slog.DiscardHandler))
}

// profile puts another profile in the place of tls-server.
func (e *env) profile(t *testing.T, cfg profile.Config) {
	t.Helper()
	p, err := profile.Compile("tls-server", cfg)
	if err != nil {
		t.Fatal(err)
	}
	rules := *e.server.Pipeline.Rules()
	rules.Profiles = maps.Clone(rules.Profiles)
	rules.Profiles["tls-server"] = p
	e.server.Pipeline.Swap(rules)
}

// waiting finalizes an order that a person has to decide.
func (e *env) waiting(t *testing.T, c *client, queue *approval.Queue, name string) (orderURL, requestID string) {
	t.Helper()
	o, u := c.ready(name)
	r := c.post(o.Finalize, csrPayload(csr(t, nil, name)))
	want(t, r, http.StatusOK)
	if got := decodeInto[orderView](t, r); got.Status != statusProcessing || r.header.Get("Retry-After") != "30" {
		t.Errorf("while a person decides: %v %s", r.header, r.body)
	}
	list, err := queue.List(t.Context(), store.RequestSearch{Status: "pending", Limit: 1})
	if err != nil || len(list) != 1 || list[0].Origin != "order:"+idOf(u) {
		t.Fatalf("%+v, %v", list, err)
	}
	return u, list[0].ID
}

var decider = approval.Actor{Name: "uid:1000"}

// An order that waits for a person is processing to its client, is worked on by
// nobody, violates no invariant, and is finished once it is approved.
func TestACME_A12_OrderWaitsForApproval(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newIdleEnv(t, st)
		e.run(t)
		queue := e.asks(t)
		c := e.account(t)
		u, id := e.waiting(t, c, queue, "a.localhost")
		e.sleep(10 * time.Minute) // far longer than processing may last
		tried := len(e.outcomes("finalize"))
		e.sweep(t, true)
		e.verify(t)
		if now := len(e.outcomes("finalize")); now != tried {
			t.Error("a waiting order was worked on")
		}
		if v, err := queue.Approve(t.Context(), id, decider); err != nil || v.State != "approved" {
			t.Fatalf("%+v, %v", v, err)
		}
		e.sweep(t, false)
		status, r := c.await(u, statusProcessing)
		if status != statusValid || decodeInto[orderView](t, r).Certificate == "" {
			t.Errorf("after the approval: %s", r.body)
		}
		if v, err := queue.Show(t.Context(), id); err != nil || v.State != "issued" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestRejectedOrderIsInvalidAndSaysWhy(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	queue, c := e.asks(t), e.account(t)
	u, id := e.waiting(t, c, queue, "a.localhost")
	if _, err := queue.Reject(t.Context(), id, "who is this?", decider); err != nil {
		t.Fatal(err)
	}
	o := decodeInto[orderView](t, c.read(u))
	if o.Status != statusInvalid || !strings.Contains(string(o.Error), "who is this?") || !strings.Contains(string(o.Error), "unauthorized") {
		t.Errorf("%+v %s", o, o.Error)
	}
}

func TestOrderWhoseApprovalComesTooLate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	queue, c := e.asks(t), e.account(t)
	u, id := e.waiting(t, c, queue, "a.localhost")
	e.sleep(8 * 24 * time.Hour)
	if _, err := queue.Approve(t.Context(), id, decider); err == nil {
		t.Error("an expired request was approved")
	}
	if err := queue.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	if o := decodeInto[orderView](t, c.read(u)); o.Status != statusInvalid || !strings.Contains(string(o.Error), "nobody approved") {
		t.Errorf("%+v %s", o, o.Error)
	}
}

// TestFS7_Order: what an order rests on has to hold when a person decides.
func TestFS7_Order(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(e *env, c *client, o orderView, kid string) error
		reason    string
	}{
		"nothing": {func(*env, *client, orderView, string) error { return nil }, ""},
		"account": {func(_ *env, c *client, _ orderView, _ string) error {
			c.post(c.kid, map[string]string{"status": "deactivated"})
			return nil
		}, "account_deactivated"},
		"authorization": {func(_ *env, c *client, o orderView, _ string) error {
			c.post(o.Authorizations[0], map[string]string{"status": "deactivated"})
			return nil
		}, "authorization_deactivated"},
		"account's key": {func(e *env, c *client, _ orderView, _ string) error {
			hash, err := pki.HashKey(c.key.Public())
			if err != nil {
				return err
			}
			rules := *e.server.Pipeline.Rules()
			err = rules.KnownKeys.Read(strings.NewReader(hash.String()), pki.KeyListSPKI)
			e.server.Pipeline.Swap(rules)
			return err
		}, "known_key"},
		"EAB key": {func(e *env, c *client, _ orderView, kid string) error {
			_, err := e.eab.Disable(c.t.Context(), kid, "uid:0", "")
			return err
		}, "eab_disabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			queue := e.asks(t)
			queue.Recheck("acme", e.server.recheck)
			kid, mac := e.newEAB(t, credential.NewKey{Endpoint: "eab"})
			client := e.client(t, "eab")
			binding := client.bind(kid, mac, nil, "")
			client.register(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": binding})
			u, id := e.waiting(t, client, queue, "a.localhost")
			if err := c.meanwhile(e, client, decodeInto[orderView](t, client.read(u)), kid); err != nil {
				t.Fatal(err)
			}
			v, err := queue.Show(t.Context(), id)
			if err != nil || v.Preview.Allowed != (c.reason == "") || (len(v.Changes) == 0) != (c.reason == "") {
				t.Errorf("shown: %+v, %v", v, err)
			}
			_, err = queue.Approve(t.Context(), id, decider)
			if (err == nil) != (c.reason == "") || err != nil && fault.Of(err).Reason != c.reason {
				t.Errorf("approved: %v, want the reason %q", err, c.reason)
			}
		})
	}
}

// What proved the order must still hold when the approval comes.
func TestApprovedOrderOfAnAccountThatEnded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	queue, c := e.asks(t), e.account(t)
	u, id := e.waiting(t, c, queue, "a.localhost")
	want(t, c.post(c.kid, map[string]string{"status": "deactivated"}), http.StatusOK)
	if _, err := queue.Approve(t.Context(), id, decider); err != nil {
		t.Fatal(err)
	}
	e.sweep(t, false)
	eventually(t, "the order is invalid", func() bool {
		o, _, err := e.store.Order(t.Context(), idOf(u))
		return err == nil && o.Status == statusInvalid && strings.Contains(string(o.Error), "deactivated")
	})
}
