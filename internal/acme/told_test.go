package acme

import (
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFR17_SaidOnce: the error of a challenge has no subproblem that says the same
// again, and no two names of an order the same problem.
func TestFR17_SaidOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, _ := c.order("a.localhost")
	a := decodeInto[authorizationView](t, c.read(o.Authorizations[0]))
	want(t, c.post(a.Challenges[0].URL, "{}"), http.StatusOK)
	status, r := c.await(o.Authorizations[0], statusPending)
	if body := string(r.body); status != statusInvalid || strings.Count(body, "acme:error:") != 1 ||
		strings.Contains(body, "subproblems") {
		t.Errorf("%s", body)
	}
	one := fault.New(fault.RejectedIdentifier, "no").Because("denied").About("dns", "a.test")
	same := problemOf(fault.Of(combine([]*fault.Error{one, one})))
	if len(same.Subproblems) != 1 || same.Detail != "no" {
		t.Errorf("%+v", same)
	}
}

// TestFR22_AttemptsAreCounted for the validator, which goes elsewhere at each.
func TestFR22_AttemptsAreCounted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for n := range 3 {
		if got := e.server.task(&attempt{Authorization: store.Authorization{Attempts: n}}).Attempt; got != n {
			t.Errorf("attempt %d is the validator's %d", n, got)
		}
	}
}
