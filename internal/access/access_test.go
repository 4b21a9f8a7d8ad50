package access_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

var home = netip.MustParseAddr("192.0.2.7")

// fixture is an Access over a database, with a clock that tests move.
type fixture struct {
	*access.Access
	store *store.Store
	url   string
	now   time.Time
	root  access.Caller
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{url: storetest.SQLiteURL(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	f.store = storetest.Open(t, f.url, "node-1")
	must(t, f.store.Migrate(t.Context()))
	f.again(t, 1)
	var err error
	f.root, err = f.Peer(t.Context(), 0)
	must(t, err)
	return f
}

// again starts another process over the same records, with keys of the given octets.
func (f *fixture) again(t *testing.T, keys ...byte) {
	t.Helper()
	var all [][]byte
	for _, b := range keys {
		all = append(all, slices.Repeat([]byte{b}, seal.KEKSize))
	}
	sealer, err := seal.New(all[0], all[1:]...)
	must(t, err)
	f.Access = access.New(access.Config{
		Store: f.store, Sealer: sealer, Now: func() time.Time { return f.now }, Local: []uint32{0},
	})
}

func (f *fixture) login(t *testing.T, l access.Login) (access.Caller, string, access.Session) {
	t.Helper()
	l.At = f.now
	secret, s, err := f.Open(t.Context(), l, home)
	must(t, err)
	c, err := f.Bearer(t.Context(), secret, home)
	must(t, err)
	return c, secret, s
}

func (f *fixture) give(t *testing.T, subject, role string, scope access.Scope) *access.Grant {
	t.Helper()
	g, err := f.Give(t.Context(), f.root, access.Grant{Subject: subject, Role: role, Scope: scope, Reason: "test"}, "")
	must(t, err)
	return g
}

func ada() access.Login {
	return access.Login{Kind: "oidc", Issuer: "https://id.example.test", ID: "1", Name: "ada@example.test",
		Groups: []string{"ops"}}
}

const adaSubject = "oidc:https://id.example.test#1"

func web(name string) access.Object {
	return access.Object{Scoped: true, Pool: "web", Profile: "tls-server", CAs: []string{"web-1", "root"},
		Names: []pki.Identifier{{Type: pki.DNS, Value: name}}}
}

func want(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if f := fault.Of(err); err == nil || f.Kind != kind || f.Reason != reason {
		t.Errorf("got %v, want %s %s", err, kind, reason)
	}
}

func TestSessionLife(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	_, secret, s := f.login(t, ada())
	if !strings.HasPrefix(secret, "pvs_s_") {
		t.Errorf("secret %s", secret)
	}
	for _, bad := range []string{"", "pvs_s_", secret[:len(secret)-1] + "x",
		strings.ToUpper(secret), "pvs_t_" + secret[6:],
	} {
		_, err := f.Bearer(ctx, bad, home)
		want(t, err, fault.Unauthenticated, "no_session")
	}
	for range 21 { // in use, it goes on beyond the idle time, to its own end
		f.now = f.now.Add(28 * time.Minute)
		_, err := f.Bearer(ctx, secret, home)
		must(t, err)
	}
	f.now = f.now.Add(28 * time.Minute)
	_, err := f.Bearer(ctx, secret, home)
	want(t, err, fault.Unauthenticated, "no_session")
	_, idle, s2 := f.login(t, ada())
	f.now = f.now.Add(31 * time.Minute)
	_, err = f.Bearer(ctx, idle, home)
	want(t, err, fault.Unauthenticated, "no_session")
	_, ended, s3 := f.login(t, ada())
	must(t, f.End(ctx, s3.ID))
	_, err = f.Bearer(ctx, ended, home)
	want(t, err, fault.Unauthenticated, "no_session")
	if s.ID == s2.ID {
		t.Error("two sessions have one id")
	}
}

// TestSessionEndsWithItsProof: a certificate's session is over when the certificate is.
func TestSessionEndsWithItsProof(t *testing.T) {
	f := start(t)
	_, _, s := f.login(t, access.Login{Kind: "certificate", Issuer: "staff", ID: "a", Until: f.now.Add(time.Hour)})
	if !s.ExpiresAt.Equal(f.now.Add(time.Hour)) {
		t.Errorf("ends %s", s.ExpiresAt)
	}
	_, _, err := f.Open(t.Context(), access.Login{Kind: "oidc", ID: "1"}, home)
	want(t, err, fault.Malformed, "login")
}

func TestDecideScopes(t *testing.T) {
	for name, c := range map[string]struct {
		scope access.Scope
		o     access.Object
		ok    bool
	}{
		"all":            {access.Scope{All: true}, access.Object{}, true},
		"whole":          {access.Scope{Pools: []string{"web"}}, access.Object{}, false},
		"pool":           {access.Scope{Pools: []string{"web"}}, web("a.test"), true},
		"other pool":     {access.Scope{Pools: []string{"mail"}}, web("a.test"), false},
		"CA above":       {access.Scope{CAs: []string{"root"}}, web("a.test"), true},
		"CA elsewhere":   {access.Scope{CAs: []string{"web-2"}}, web("a.test"), false},
		"name":           {access.Scope{Names: []string{"*.web.test"}}, web("a.web.test"), true},
		"other name":     {access.Scope{Names: []string{"*.web.test"}}, web("a.mail.test"), false},
		"profile":        {access.Scope{Profiles: []string{"tls-server"}}, web("a.test"), true},
		"wrong profile":  {access.Scope{Profiles: []string{"issuing-ca"}}, web("a.test"), false},
		"no endpoint":    {access.Scope{Endpoints: []string{"default"}}, web("a.test"), false},
		"pool not name":  {access.Scope{Pools: []string{"web"}, Names: []string{"b.test"}}, web("a.test"), false},
		"pool and name":  {access.Scope{Pools: []string{"web"}, Names: []string{"a.test"}}, web("a.test"), true},
		"object no name": {access.Scope{Names: []string{"a.test"}}, access.Object{Scoped: true, Pool: "web"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			caller, _, _ := f.login(t, ada())
			f.give(t, adaSubject, "requester", c.scope)
			if err := f.Decide(t.Context(), caller, api.CertIssue, c.o); (err == nil) != c.ok {
				t.Errorf("issue: %v", err)
			}
		})
	}
}

// TestGrantsAreNotCombined: a pool by one grant and a name by another are not both.
func TestGrantsAreNotCombined(t *testing.T) {
	f := start(t)
	c, _, _ := f.login(t, ada())
	f.give(t, adaSubject, "requester", access.Scope{Pools: []string{"web"}, Names: []string{"a.test"}})
	f.give(t, adaSubject, "requester", access.Scope{Pools: []string{"mail"}, Names: []string{"b.test"}})
	want(t, f.Decide(t.Context(), c, api.CertIssue, web("b.test")), fault.Denied, "permission_missing")
	must(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")))
	two := web("a.test")
	two.Names = append(two.Names, pki.Identifier{Type: pki.DNS, Value: "b.test"})
	want(t, f.Decide(t.Context(), c, api.CertIssue, two), fault.Denied, "permission_missing")
}

// TestReadDecidesBetween404And403: what one may not read is as if it were not.
func TestReadDecidesBetween404And403(t *testing.T) {
	f := start(t)
	c, _, _ := f.login(t, ada())
	f.give(t, adaSubject, "requester", access.Scope{Pools: []string{"web"}})
	want(t, f.Decide(t.Context(), c, api.CertRevoke, web("a.test")), fault.Denied, "permission_missing")
	mail := web("a.test")
	mail.Pool = "mail"
	want(t, f.Decide(t.Context(), c, api.CertRevoke, mail), fault.NotFound, "not_in_scope")
	want(t, f.Decide(t.Context(), c, api.CertRead, mail), fault.NotFound, "not_in_scope")
	must(t, f.Decide(t.Context(), c, api.CertRead, web("a.test")))
}

func TestBlockBeatsGrant(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, _, _ := f.login(t, ada())
	f.give(t, "group:https://id.example.test#ops", "admin", access.Scope{All: true})
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	_, err := f.Block(ctx, f.root, access.Block{Subject: adaSubject, Reason: "left"}, "")
	must(t, err)
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	_, _, err = f.Open(ctx, ada(), home)
	want(t, err, fault.Denied, "blocked")
	must(t, f.Unblock(ctx, f.root, adaSubject, ""))
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
}

// TestAgesWithoutGroups: a login that has no groups has to be proved anew as well.
func TestAgesWithoutGroups(t *testing.T) {
	f := start(t)
	l := ada()
	l.Groups = nil
	c, _, _ := f.login(t, l)
	f.give(t, adaSubject, "operator", access.Scope{All: true})
	must(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")))
	f.now = f.now.Add(11 * time.Minute)
	want(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	must(t, f.Decide(t.Context(), c, api.CertRead, web("a.test")))
}

// TestAges: acts need groups of the last ten minutes, grants a login of the last five.
func TestAges(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, secret, s := f.login(t, ada())
	f.give(t, adaSubject, "admin", access.Scope{All: true})
	g := access.Grant{Subject: "uid:9", Role: "auditor", Scope: access.Scope{All: true}, Reason: "audit"}
	_, err := f.Give(ctx, c, g, "")
	must(t, err)
	f.now = f.now.Add(6 * time.Minute)
	_, err = f.Give(ctx, c, g, "")
	want(t, err, fault.Denied, "permission_missing")
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	f.now = f.now.Add(5 * time.Minute)
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	must(t, f.Decide(ctx, c, api.CertRead, web("a.test")))
	l := ada()
	l.Groups = []string{"ops", "more"}
	must(t, f.Refresh(ctx, s.ID, l))
	c, err = f.Bearer(ctx, secret, home)
	must(t, err)
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	f.now = f.now.Add(29 * time.Minute) // the last use is not forgotten
	_, err = f.Bearer(ctx, secret, home)
	must(t, err)
	l.ID = "2"
	want(t, f.Refresh(ctx, s.ID, l), fault.Unauthenticated, "no_session")
}

// TestDelegation: one gives no more than one grant holds.
func TestDelegation(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, _, _ := f.login(t, ada())
	f.give(t, adaSubject, "admin", access.Scope{Pools: []string{"web"}})
	g := access.Grant{Subject: "uid:9", Role: "operator", Reason: "help", Scope: access.Scope{Pools: []string{"web"}}}
	made, err := f.Give(ctx, c, g, "")
	must(t, err)
	_, err = f.Revoke(ctx, c, made.ID, "")
	must(t, err)
	for _, scope := range []access.Scope{{All: true}, {Pools: []string{"mail"}}, {Pools: []string{"web", "mail"}},
		{Profiles: []string{"tls-server"}}} {
		g.Scope = scope
		_, err := f.Give(ctx, c, g, "")
		want(t, err, fault.Denied, "permission_missing")
	}
	other := f.give(t, "uid:9", "operator", access.Scope{Pools: []string{"mail"}})
	_, err = f.Revoke(ctx, c, other.ID, "")
	want(t, err, fault.NotFound, "grant_unknown")
}

func TestTokens(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, _, _ := f.login(t, ada())
	grant := f.give(t, adaSubject, "admin", access.Scope{Pools: []string{"web"}})
	token := access.Token{
		Service: "ci", Role: "requester", Scope: access.Scope{Pools: []string{"web"}, Names: []string{"*.ci.test"}},
		Networks: []string{"192.0.2.0/24"}, ExpiresAt: f.now.Add(time.Hour),
	}
	secret, made, err := f.NewToken(ctx, c, token, "")
	must(t, err)
	bearer, err := f.Bearer(ctx, secret, home)
	must(t, err)
	if bearer.String() != "service:ci" {
		t.Errorf("the caller is %s", bearer)
	}
	must(t, f.Decide(ctx, bearer, api.CertIssue, web("a.ci.test")))
	want(t, f.Decide(ctx, bearer, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	want(t, f.Decide(ctx, bearer, api.CertRevoke, web("a.ci.test")), fault.Denied, "permission_missing")
	_, _, err = f.NewToken(ctx, bearer, token, "")
	want(t, err, fault.Denied, "permission_missing")
	_, err = f.Bearer(ctx, secret, netip.MustParseAddr("198.51.100.1"))
	want(t, err, fault.Unauthenticated, "no_session")
	token.Scope = access.Scope{All: true}
	_, _, err = f.NewToken(ctx, c, token, "")
	want(t, err, fault.Denied, "permission_missing")
	_, err = f.Revoke(ctx, f.root, grant.ID, "") // the owner's grant is the token's
	must(t, err)
	want(t, f.Decide(ctx, bearer, api.CertIssue, web("a.ci.test")), fault.Denied, "permission_missing")
	must(t, f.RevokeToken(ctx, f.root, made.ID, ""))
	_, err = f.Bearer(ctx, secret, home)
	want(t, err, fault.Unauthenticated, "no_session")
}

// TestPersonJoinsLogins: a grant of a person holds for each login of theirs.
func TestPersonJoinsLogins(t *testing.T) {
	f := start(t)
	p, err := f.Link(t.Context(), f.root, adaSubject, "", "Ada", "")
	must(t, err)
	f.give(t, "person:"+p.ID, "requester", access.Scope{All: true})
	c, _, _ := f.login(t, ada())
	must(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")))
	_, err = f.Link(t.Context(), f.root, "uid:9", p.ID, "", "")
	must(t, err)
	for name, want := range map[string]bool{adaSubject: true, "uid:9": true, "uid:8": false, "account:9": false} {
		if same, err := f.Same(t.Context(), c, name); err != nil || same != want {
			t.Errorf("%s is the caller: %t, %v", name, same, err)
		}
	}
	other := ada()
	other.ID = "2" // the same mail address and another sub
	o, _, _ := f.login(t, other)
	if f.Decide(t.Context(), o, api.CertRead, web("a.test")) == nil && len(o.Subjects()) > 2 {
		t.Error("another sub is the same person")
	}
}

// TestRules: a role of the configuration holds what it says, and a ceiling beats grants.
func TestRules(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	c, _, _ := f.login(t, ada())
	rules := access.Rules{Roles: map[string][]access.Permission{"revoker": {api.CertRead, api.CertRevoke}}}
	must(t, rules.Check())
	f.Swap(rules)
	f.give(t, adaSubject, "revoker", access.Scope{All: true})
	must(t, f.Decide(ctx, c, api.CertRevoke, web("a.test")))
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	for _, subject := range []string{"", adaSubject, "group:https://id.example.test#ops"} {
		rules.Never = []access.Ceiling{{Subject: subject, Permissions: []access.Permission{api.CertRevoke}}}
		must(t, rules.Check())
		f.Swap(rules)
		want(t, f.Decide(ctx, c, api.CertRevoke, web("a.test")), fault.Denied, "permission_missing")
		must(t, f.Decide(ctx, c, api.CertRead, web("a.test")))
	}
	rules.Never[0].Subject = "uid:9"
	f.Swap(rules)
	must(t, f.Decide(ctx, c, api.CertRevoke, web("a.test")))
	f.Swap(access.Rules{}) // a role that is gone grants nothing
	want(t, f.Decide(ctx, c, api.CertRead, web("a.test")), fault.NotFound, "not_in_scope")
	for name, bad := range map[string]access.Rules{
		"shipped role":  {Roles: map[string][]access.Permission{"admin": {api.CertRead}}},
		"wildcard":      {Roles: map[string][]access.Permission{"x": {"cert.*"}}},
		"empty":         {Roles: map[string][]access.Permission{"x": nil}},
		"empty ceiling": {Never: []access.Ceiling{{Subject: "uid:1"}}},
		"a name":        {Never: []access.Ceiling{{Subject: "ada", Permissions: []access.Permission{api.CertRead}}}},
	} {
		if bad.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestOffboard ends everything of one person and nothing of another.
func TestOffboard(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	p, err := f.Link(ctx, f.root, adaSubject, "", "Ada", "")
	must(t, err)
	f.give(t, "person:"+p.ID, "admin", access.Scope{All: true})
	f.give(t, "group:https://id.example.test#ops", "operator", access.Scope{All: true})
	c, secret, _ := f.login(t, ada())
	token, _, err := f.NewToken(ctx, c, access.Token{
		Role: "operator", Scope: access.Scope{All: true}, ExpiresAt: f.now.Add(time.Hour),
	}, "")
	must(t, err)
	other := ada()
	other.ID = "2"
	o, kept, _ := f.login(t, other)
	done, err := f.Offboard(ctx, f.root, p.ID, "left", true, "")
	if err != nil || len(done.Grants) != 1 || len(done.Sessions) != 1 || len(done.Tokens) != 1 {
		t.Fatalf("would end %+v, %v", done, err)
	}
	must(t, f.Decide(ctx, c, api.CertIssue, web("a.test")))
	_, err = f.Offboard(ctx, f.root, p.ID, "left", false, "")
	must(t, err)
	for _, gone := range []string{secret, token} {
		_, err := f.Bearer(ctx, gone, home)
		want(t, err, fault.Unauthenticated, "no_session")
	}
	want(t, f.Decide(ctx, c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	_, _, err = f.Open(ctx, ada(), home) // although the group's grant is there
	want(t, err, fault.Denied, "blocked")
	_, err = f.Bearer(ctx, kept, home)
	must(t, err)
	must(t, f.Decide(ctx, o, api.CertIssue, web("a.test")))
}

// TestPeers: a uid that is no administrator of the socket needs a grant.
func TestPeers(t *testing.T) {
	f := start(t)
	c, err := f.Peer(t.Context(), 4000000000)
	must(t, err)
	want(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")), fault.Denied, "permission_missing")
	f.give(t, "uid:4000000000", "requester", access.Scope{Pools: []string{"web"}})
	must(t, f.Decide(t.Context(), c, api.CertIssue, web("a.test")))
	storetest.Exec(t, f.url, `ALTER TABLE access_state RENAME TO elsewhere`)
	if _, err := f.Peer(t.Context(), 4000000000); err == nil {
		t.Error("let in without an answer of the database")
	}
	root, err := f.Peer(t.Context(), 0)
	must(t, err)
	must(t, f.Decide(t.Context(), root, api.CertIssue, web("a.test")))
}

// TestLinkGivesNoMore: a login is not made a person's by who could not give what they hold.
func TestLinkGivesNoMore(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	f.Swap(access.Rules{Roles: map[string][]access.Permission{"granter": {api.CertRead, api.AccessGrant}}})
	boss, err := f.Link(ctx, f.root, "uid:7", "", "Boss", "")
	must(t, err)
	reader, err := f.Link(ctx, f.root, "uid:8", "", "Reader", "")
	must(t, err)
	f.give(t, "person:"+boss.ID, "admin", access.Scope{All: true})
	f.give(t, adaSubject, "granter", access.Scope{All: true})
	c, _, _ := f.login(t, ada())
	_, err = f.Link(ctx, c, adaSubject, boss.ID, "", "")
	want(t, err, fault.Denied, "permission_missing")
	_, err = f.Link(ctx, c, adaSubject, reader.ID, "", "") // who holds nothing
	must(t, err)
}
