package acme

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/work"
	"github.com/privyseal/privyseal/test/need"
)

// tarPit makes http-01 hang for every token that is not published, until the
// test ends.
func (e *env) tarPit(t *testing.T) {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(ended) }))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pit = ended
}

// accountFrom registers an account from an address.
func (e *env) accountFrom(t *testing.T, address string) *client {
	t.Helper()
	e.from.Store(&address)
	defer e.from.Store(nil)
	return e.account(t)
}

// slow asks for the validation of an order's names and waits for nothing.
func (c *client) slow(names ...string) {
	c.t.Helper()
	o, _ := c.order(names...)
	for _, u := range o.Authorizations {
		want(c.t, c.post(strings.Replace(u, "/authz/", "/chall/", 1)+"/http-01", "{}"), http.StatusOK)
	}
}

func names(prefix string, n int, domain string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(prefix, "-", i, domain)
	}
	return out
}

// An honest client is validated at once beside hundreds of validations that
// hang: of one account, of many accounts of one address, of many names at one
// address.
func TestFS4_TarPitsDelayNobodyElse(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, e *env){
		"one account": func(t *testing.T, e *env) {
			c := e.accountFrom(t, "192.0.2.66:1")
			for n := range 4 {
				c.slow(names(fmt.Sprint("a", n), 100, ".localhost")...)
			}
		},
		"many accounts of one address": func(t *testing.T, e *env) {
			for n := range 20 {
				e.accountFrom(t, "192.0.2.66:1").slow(names(fmt.Sprint("a", n), 20, ".localhost")...)
			}
		},
		"many names at one address": func(t *testing.T, e *env) {
			for n := range 40 {
				list := names(fmt.Sprint("n", n), 10, ".lab.test")
				for _, name := range list {
					e.dns.Add(t, name+". 1 IN A 127.0.0.2")
				}
				e.accountFrom(t, fmt.Sprintf("192.0.2.%d:1", n+1)).slow(list...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.listen(t, "127.0.0.2")
			e.tarPit(t)
			e.server.work.patience = 0
			attack(t, e)
			if n := e.server.work.validations.Held(); n != 400 {
				t.Fatalf("%d validations are under way, want 400", n)
			}
			e.server.work.patience = validationWait
			began := time.Now()
			e.accountFrom(t, "198.51.100.1:1").ready("honest.localhost")
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("an honest client was kept waiting for %s", took)
			}
		})
	}
}

// listen answers http-01 at another address of this machine.
func (e *env) listen(t *testing.T, host string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(e.port))) //nolint:noctx // a test's listener
	if err != nil {
		need.Missing(t, "this machine has no address "+host)
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(e.answer))
	_ = web.Listener.Close()
	web.Listener = l
	web.Start()
	t.Cleanup(web.Close)
}

// What does not fit is refused before anything is on record, and says what to do.
func TestFS4_TooManyUnderWay(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	pending, _ := c.order("b.localhost")
	fill := func(add func(work.Key) error) {
		for n := 0; ; n++ {
			k := work.Key{ID: fmt.Sprint(n), Owner: idOf(c.kid), Source: "192.0.2.1"}
			if add(k) != nil {
				return
			}
		}
	}
	e.server.work.delays = nil
	idle := newIdleEnv(t, e.store) // another process, whose queues do not move
	fill(func(k work.Key) error { return idle.server.work.validations.Add(k, &attempt{}) })
	fill(func(k work.Key) error { return idle.server.work.orders.Add(k, &job{}) })
	c.e = idle
	r := c.post(strings.Replace(pending.Authorizations[0], "/authz/", "/chall/", 1)+"/http-01", "{}")
	p := wantProblem(t, r, http.StatusTooManyRequests, "rateLimited")
	if !strings.Contains(p.Detail, "500 validations") || !strings.Contains(p.Detail, "wait") ||
		r.header.Get("Retry-After") == "" {
		t.Errorf("%+v %v", p, r.header)
	}
	if a := decodeInto[authorizationView](t, c.read(pending.Authorizations[0])); a.Challenges[0].Status != statusPending {
		t.Errorf("the challenge is %+v", a.Challenges[0])
	}
	p = wantProblem(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))),
		http.StatusTooManyRequests, "rateLimited")
	if !strings.Contains(p.Detail, "500 orders") {
		t.Errorf("%+v", p)
	}
	if st := decodeInto[orderView](t, c.read(u)).Status; st != statusReady {
		t.Errorf("the order is %s", st)
	}
}

func TestFS4_AccountsOfOneNetworkAreOneSource(t *testing.T) {
	t.Parallel()
	for a, b := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8:1:2::1": "2001:db8:1:2:ffff::9"} {
		x := keyOf("1", &store.Account{ID: "x", CreatedFrom: a})
		y := keyOf("1", &store.Account{ID: "y", CreatedFrom: b})
		if x.Source != y.Source || x.Owner == y.Owner {
			t.Errorf("%+v, %+v", x, y)
		}
	}
}
