package access_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
)

// TestBlockIsNotShortened: who may block, and not unblock, does not lift a block by
// another that ends sooner.
func TestBlockIsNotShortened(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, _, _ := f.login(t, ada())
	f.give(t, adaSubject, "requester", access.Scope{Pools: []string{"web"}})
	_, err := f.Block(ctx, f.root, access.Block{Subject: adaSubject, Reason: "left"}, "")
	must(t, err)
	for _, until := range []time.Time{f.now.Add(-time.Hour), f.now.Add(time.Second)} {
		_, err := f.Block(ctx, f.root, access.Block{Subject: adaSubject, Reason: "again", Until: until}, "")
		if err == nil {
			t.Errorf("a block for good was replaced by one until %s", until)
		}
	}
	f.now = f.now.Add(2 * time.Second)
	want(t, f.Decide(ctx, c, api.CertRead, web("a.test")), fault.NotFound, "not_in_scope")
}

// TestLinkKeepsTheBlock: a login of a blocked person is not made another's, which would
// let it in again.
func TestLinkKeepsTheBlock(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	p, err := f.Link(ctx, f.root, adaSubject, "", "Ada", "")
	must(t, err)
	_, err = f.Offboard(ctx, f.root, p.ID, "left", false, "")
	must(t, err)
	f.give(t, "oidc:https://id.example.test#2", "admin", access.Scope{All: true})
	other := ada()
	other.ID = "2"
	c, _, _ := f.login(t, other)
	_, err = f.Link(ctx, c, adaSubject, "", "Somebody new", "")
	want(t, err, fault.Denied, "blocked")
	_, _, err = f.Open(ctx, ada(), home)
	want(t, err, fault.Denied, "blocked")
	_, err = f.Link(ctx, f.root, "group:https://id.example.test#ops", "", "Nobody", "")
	want(t, err, fault.Malformed, "subject")
}

// TestTokenKeepsTheCeilingOfGroups: what a group may never do, a token of one of it does
// not do either.
func TestTokenKeepsTheCeilingOfGroups(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.Swap(access.Rules{Never: []access.Ceiling{{
		Subject: "group:https://id.example.test#ops", Permissions: []access.Permission{api.CertIssue},
	}}})
	f.give(t, adaSubject, "operator", access.Scope{Pools: []string{"web"}})
	c, _, _ := f.login(t, ada())
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	secret, _, err := f.NewToken(ctx, c, access.Token{
		Role: "operator", Scope: access.Scope{Pools: []string{"web"}}, ExpiresAt: f.now.Add(time.Hour),
	}, "")
	must(t, err)
	bearer, err := f.Bearer(ctx, secret, home)
	must(t, err)
	want(t, f.Decide(ctx, bearer, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	must(t, f.Decide(ctx, bearer, api.CertRead, web("a.test")))
	_, err = f.Block(ctx, f.root, access.Block{Subject: "group:https://id.example.test#ops", Reason: "test"}, "")
	must(t, err)
	want(t, f.Decide(ctx, bearer, api.CertRead, web("a.test")), fault.NotFound, "not_in_scope")
}

// TestRevokedTokenIsNobodyElse: what a token asked for stays its owner's after it is revoked.
func TestRevokedTokenIsNobodyElse(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.give(t, adaSubject, "operator", access.Scope{All: true})
	c, _, _ := f.login(t, ada())
	for _, service := range []string{"", "ci"} {
		secret, made, err := f.NewToken(ctx, c, access.Token{
			Service: service, Role: "requester", Scope: access.Scope{All: true}, ExpiresAt: f.now.Add(time.Hour),
		}, "")
		must(t, err)
		bearer, err := f.Bearer(ctx, secret, home)
		must(t, err)
		must(t, f.RevokeToken(ctx, f.root, made.ID, ""))
		own, err := f.Same(ctx, c, bearer.String())
		if err != nil || !own {
			t.Errorf("%s is not its owner's any more: %v", bearer, err)
		}
	}
}
