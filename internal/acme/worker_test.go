package acme

import (
	"crypto/elliptic"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/work"
)

// idOf is the last part of a URL.
func idOf(u string) string { return u[strings.LastIndex(u, "/")+1:] }

func (e *env) outcomes(what string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, ev := range e.events {
		if ev.What == what {
			out = append(out, ev.Outcome)
		}
	}
	return strings.Join(out, " ")
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestACME_A39_RetriesUntilItWorks(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.server.work.delays = []time.Duration{10 * time.Millisecond, time.Second}
	c := e.account(t)
	o, u := c.order("a.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	ch := a.Challenges[0]
	want(t, c.post(ch.URL, "{}"), http.StatusOK)
	eventually(t, "two failed attempts", func() bool { return e.outcomes("http-01") == "retry retry" })
	r := c.read(ch.URL)
	got := decodeInto[challengeView](t, r)
	if got.Status != statusProcessing || !strings.Contains(string(got.Error), "incorrectResponse") || r.header.Get("Retry-After") == "" {
		t.Errorf("between attempts: %v %s", r.header, r.body)
	}
	if st := decodeInto[orderView](t, c.read(u)).Status; st != statusPending {
		t.Errorf("order is %s", st)
	}
	e.publish(ch.Token, ch.Token+"."+c.thumbprint())
	if status, r := c.await(o.Authorizations[0], statusPending); status != statusValid {
		t.Errorf("%s", r.body)
	}
	eventually(t, "the outcome is observed", func() bool { return e.outcomes("http-01") == "retry retry valid" })
}

func TestACME_A39_GivesUpAfterThreeAttempts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("a.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	want(t, c.post(a.Challenges[0].URL, "{}"), http.StatusOK)
	if status, _ := c.await(o.Authorizations[0], statusPending); status != statusInvalid {
		t.Error(status)
	}
	eventually(t, "the outcome is observed", func() bool { return e.outcomes("http-01") == "retry retry invalid" })
	if len(retryDelays) != 2 || retryDelays[0] != 2*time.Second || retryDelays[1] != 8*time.Second {
		t.Errorf("delays %v", retryDelays)
	}
}

func TestACME_A39_KeyAtPostTime(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	c := e.account(t)
	o, _ := c.order("a.localhost", "b.localhost")
	_, r := c.respond(o.Authorizations[0], "http-01") // answered under the old key
	want(t, r, http.StatusOK)

	old, next := c.key, newECKey(t, elliptic.P256())
	target := c.base + "/key-change"
	inner := sign(t, next, map[string]any{"url": target, "jwk": jwkOf(t, next.Public())},
		text(t, map[string]any{"account": c.kid, "oldKey": jwkOf(t, old.Public())}))
	want(t, c.post(target, string(inner)), http.StatusOK)
	c.key = next
	_, r = c.respond(o.Authorizations[1], "http-01") // still pending: under the new one
	want(t, r, http.StatusOK)
	e.run(t)
	for _, u := range o.Authorizations {
		if status, r := c.await(u, statusPending); status != statusValid {
			t.Errorf("%s", r.body)
		}
	}
}

func TestACME_A59_CAAIsFinal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.dns.Add(t, `caa.lab.test. 1 IN CAA 0 issue "other.test"`)
	c := e.account(t)
	o, u := c.order("caa.lab.test")
	_, r := c.respond(o.Authorizations[0], "dns-01")
	want(t, r, http.StatusOK)
	_, r = c.await(o.Authorizations[0], statusPending)
	a := decodeInto[authorizationView](t, r)
	if a.Status != statusInvalid || !strings.Contains(string(a.Challenges[0].Error), "acme:error:caa") {
		t.Errorf("%s", r.body)
	}
	if got := decodeInto[orderView](t, c.read(u)); got.Status != statusInvalid || !strings.Contains(string(got.Error), "acme:error:caa") {
		t.Errorf("A38: order %+v", got)
	}
	eventually(t, "one attempt only", func() bool { return e.outcomes("dns-01") == "invalid" })
}

func TestACME_A44_CAAIsCheckedAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	c.ready("re.lab.test", "*.re.lab.test")
	e.dns.Add(t, `re.lab.test. 1 IN CAA 0 issue "other.test"`)
	o, u := c.order("re.lab.test") // a valid authorization is there
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "re.lab.test"))), http.StatusOK)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Fatalf("the check is fresh: %s", r.body)
	}
	e.sleep(caaFresh + time.Minute)
	o, u = c.order("re.lab.test")
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "re.lab.test"))), http.StatusOK)
	status, r := c.await(u, statusProcessing)
	if got := decodeInto[orderView](t, r); status != statusInvalid || !strings.Contains(string(got.Error), "acme:error:caa") {
		t.Errorf("%s", r.body)
	}
}

func TestResumeAfterRestart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newIdleEnv(t, st) // nobody works: as if the process died after each answer
		c := e.account(t)
		o, u := c.order("a.localhost")
		_, r := c.respond(o.Authorizations[0], "http-01")
		want(t, r, http.StatusOK)
		if got := decodeInto[challengeView](t, r); got.Status != statusProcessing {
			t.Errorf("%s", r.body)
		}
		e.restart()
		stop := e.run(t)
		if status, r := c.await(o.Authorizations[0], statusPending); status != statusValid {
			t.Fatalf("%s", r.body)
		}
		stop()

		e.restart()
		der := csr(t, nil, "a.localhost")
		if err := st.StartFinalize(t.Context(), idOf(u), der, st.Node(), e.now()); err != nil {
			t.Fatal(err)
		}
		e.sleep(time.Second)
		r = c.read(u)
		if decodeInto[orderView](t, r).Status != statusProcessing || r.header.Get("Retry-After") == "" {
			t.Errorf("A12: %v %s", r.header, r.body)
		}
		e.run(t)
		if status, r := c.await(u, statusProcessing); status != statusValid {
			t.Fatalf("%s", r.body)
		}
		want(t, c.post(o.Finalize, csrPayload(der)), http.StatusOK)
	})
}

// restart forgets what a process holds in memory.
func (e *env) restart() {
	delays := e.server.work.delays
	e.server.work = newWorkers(e.server)
	e.server.work.delays = delays
	e.server.keys = keyCache{}
}

// sweep looks for what nobody works on.
func (e *env) sweep(t *testing.T, start bool) {
	t.Helper()
	e.server.work.validations.Sweep(t.Context(), start)
	e.server.work.orders.Sweep(t.Context(), start)
}

func TestAnotherNodeTakesOver(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	c := e.account(t)
	o, u := c.order("a.localhost")
	_, r := c.respond(o.Authorizations[0], "http-01")
	want(t, r, http.StatusOK)
	e.restart()
	e.server.Alone = false
	e.sweep(t, true)
	if n := e.server.work.validations.Held(); n != 0 {
		t.Error("an attempt was taken from a node that may be at work")
	}
	e.sleep(claimFor + time.Second)
	for range 2 { // the second finds it claimed
		e.sweep(t, false)
	}
	if n := e.server.work.validations.Held(); n != 1 {
		t.Fatalf("%d attempts", n)
	}
	stop := e.run(t)
	c.await(o.Authorizations[0], statusPending)
	stop()

	e.restart()
	if err := e.store.StartFinalize(t.Context(), idOf(u), csr(t, nil, "a.localhost"), "another-node", e.now()); err != nil {
		t.Fatal(err)
	}
	e.sleep(time.Second)
	e.sweep(t, true)
	if n := e.server.work.orders.Held(); n != 0 {
		t.Error("an order was taken from a node that may be at work")
	}
	e.sleep(takeOver)
	e.sweep(t, false)
	if n := e.server.work.orders.Held(); n != 1 {
		t.Fatalf("%d orders", n)
	}
	e.run(t)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Errorf("%s", r.body)
	}
}

// An attempt that waited for longer than its claim lasts is made only once it is
// claimed again: another node may have it.
func TestAttemptIsClaimedAgain(t *testing.T) {
	t.Parallel()
	e := newIdleEnv(t, storetest.SQLite(t))
	e.server.Alone = false
	c := e.account(t)
	o, _ := c.order("a.localhost")
	_, r := c.respond(o.Authorizations[0], "http-01")
	want(t, r, http.StatusOK)
	a, _, err := e.server.readAttempt(t.Context(), idOf(o.Authorizations[0]))
	if err != nil {
		t.Fatal(err)
	}
	e.sleep(claimFor + time.Second)
	e.server.Store = storetest.Open(t, storetest.SQLiteURL(t), "node-1") // without a table: it can only fail
	if next := e.server.validate(t.Context(), a, nil); next != work.After(recordDelay) {
		t.Errorf("without a database: %v", next)
	}
	e.server.Store = e.store
	if ours, err := e.store.ClaimChallenge(t.Context(), a.ID, e.now(), e.now().Add(claimFor)); err != nil || !ours {
		t.Fatal(ours, err)
	}
	if ours, err := e.server.stillOurs(t.Context(), a); err != nil || ours {
		t.Fatalf("another node has it: %t, %v", ours, err)
	}
	if next := e.server.validate(t.Context(), a, nil); next != work.Done || e.outcomes("http-01") != "" {
		t.Errorf("another node has it: %v, %s", next, e.outcomes("http-01"))
	}
	e.sleep(claimFor + time.Second)
	if ours, err := e.server.stillOurs(t.Context(), a); err != nil || !ours {
		t.Errorf("nobody has it any more: %t, %v", ours, err)
	}
}

// A node that dies between reservation and signature leaves no order in
// processing for longer than a minute (invariant 4): what it reserved long enough
// ago is voided, and if it may be at work, the order fails.
func TestOrderOfADeadNodeIsSettledInAMinute(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reserved time.Duration // before the order is taken
		want     string
	}{
		"reserved at once": {takeOver + 6*time.Second, statusValid},
		"reserved late":    {10 * time.Second, statusInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newIdleEnv(t, storetest.SQLite(t))
			client := e.account(t)
			stop := e.run(t)
			o, u := client.ready("a.localhost")
			stop()
			e.restart()
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(e.store.StartFinalize(t.Context(), idOf(u), csr(t, nil, "a.localhost"), "another-node", e.now()))
			began := e.now()
			e.sleep(takeOver + 6*time.Second - c.reserved)
			id := store.NewID()
			check(e.store.Reserve(t.Context(), store.Certificate{
				ID: id, IssuerID: "web", Serial: pki.NewSerial(), Node: "another-node", Profile: "tls-server", NotBefore: e.now(),
				NotAfter: e.now().Add(time.Hour), TBS: []byte("tbs"), Origin: "order:" + idOf(u), ReservedAt: e.now(),
			}, nil, store.Event{At: e.now(), Action: audit.ActionIntent, Outcome: "pending", Actor: "test", Subject: id}))
			e.sleep(c.reserved)
			e.sweep(t, false)
			e.run(t)
			if status, r := client.await(u, statusProcessing); status != c.want {
				t.Errorf("finalized by %s: want %s: %s", o.Finalize, c.want, r.body)
			}
			if age := e.now().Sub(began); age > time.Minute {
				t.Errorf("in processing for %s", age)
			}
		})
	}
}

func TestSignerAwayThenBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	broken := error(fault.New(fault.Unavailable, "no token"))
	e.signer.Broken.Store(&broken)
	r := c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost")))
	want(t, r, http.StatusOK)
	if got := decodeInto[orderView](t, r); got.Status != statusProcessing || r.header.Get("Retry-After") == "" {
		t.Errorf("A12: %v %s", r.header, r.body)
	}
	e.signer.Broken.Store(nil)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Errorf("%s", r.body)
	}
}

func TestSignerAwayForTooLong(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	broken := errors.New("secret: token 17 is gone")
	e.signer.Broken.Store(&broken)
	want(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusOK)
	e.sleep(giveUpAfter)
	status, r := c.await(u, statusProcessing)
	got := decodeInto[orderView](t, r)
	if status != statusInvalid || !strings.Contains(string(got.Error), "serverInternal") || strings.Contains(string(got.Error), "token 17") {
		t.Errorf("A51: %s", r.body)
	}
}

func TestStoreAwayIs503(t *testing.T) {
	t.Parallel()
	url := storetest.SQLiteURL(t)
	st, err := store.Open(t.Context(), store.Config{URL: url, Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := newIdleEnv(t, st)
	c := e.account(t)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	r := c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames("a.localhost")})
	wantProblem(t, r, http.StatusServiceUnavailable, "serverInternal")
	if r.header.Get("Retry-After") == "" {
		t.Error("A12: 503 without Retry-After")
	}
}

func TestACME_A5_ReplayAtAnotherNode(t *testing.T) {
	t.Parallel()
	url := storetest.PostgresURL(t)
	e := newIdleEnv(t, storetest.Open(t, url, "node-1"))
	second := newIdleEnv(t, storetest.Open(t, url, "node-2"))
	for _, n := range []*env{e, second} {
		n.server.nonces.ownEpoch = false
	}
	c := e.account(t)
	_, u := c.order("a.localhost")
	body := c.signed(u, "")
	want(t, e.postRaw(u, body), http.StatusOK)
	wantProblem(t, second.postRaw(u, body), http.StatusBadRequest, "badNonce")
	fresh := c.signed(u, "") // A6: handed out by the first, spent at the second
	want(t, second.postRaw(u, fresh), http.StatusOK)
	wantProblem(t, e.postRaw(u, fresh), http.StatusBadRequest, "badNonce")
	// An account that ends at one node has ended at the other, at once.
	want(t, second.postRaw(c.kid, c.signed(c.kid, `{"status":"deactivated"}`)), http.StatusOK)
	wantProblem(t, e.postRaw(u, c.signed(u, "")), http.StatusForbidden, "unauthorized")
}

func TestFullFlowOnBothEngines(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newIdleEnv(t, st)
		e.run(t)
		c := e.account(t)
		c.issue(nil, "warm.localhost")
		before, signed := st.Stats(), e.signer.Used.Load()
		c.issue(nil, "a.localhost")
		after := st.Stats()
		if n := e.signer.Used.Load() - signed; n != 1 {
			t.Errorf("%d signatures", n)
		}
		commits, rows := after.Commits-before.Commits, after.Rows-before.Rows
		t.Logf("%d commits, %d rows", commits, rows)
		if commits > 6 || rows > 14 {
			t.Errorf("%d commits and %d rows for a certificate, 6 and 14 are allowed", commits, rows)
		}
	})
}
