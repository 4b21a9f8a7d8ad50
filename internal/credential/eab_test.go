package credential

import (
	"context"
	"encoding/base64"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "db"), Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return st
}

// fixture is an EAB keeper whose clock the test moves.
type fixture struct {
	*EAB
	st    *store.Store
	clock time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	d := &fixture{st: openStore(t), clock: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	d.EAB = NewEAB(d.st, newSealer(t, kek(1)), func() time.Time { return d.clock })
	return d
}

func (d *fixture) create(t *testing.T, n NewKey) (kid, hmac string) {
	t.Helper()
	if n.CreatedBy = "uid:0"; !n.Binding.Binds() {
		n.Binding = pki.Binding{AnyName: true}
	}
	key, hmac, err := d.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return key.KID, hmac
}

func (d *fixture) account(kid, id string) store.Account {
	return store.Account{ID: id, Endpoint: "default", Thumbprint: id, JWK: []byte("{}"), Status: "valid", EABKID: kid, CreatedAt: d.clock}
}

func wantDenied(t *testing.T, err error, reason string) {
	t.Helper()
	if f := fault.Of(err); f == nil || f.Kind != fault.Denied || f.Reason != reason {
		t.Errorf("got %v, want denied because %s", err, reason)
	}
}

func TestEABKeyRoundTrip(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	kid, text := d.create(t, NewKey{Description: "team a", MaxUses: 1})
	if len(text) != 86 || strings.HasPrefix(text, "-") || strings.HasPrefix(kid, "-") {
		t.Errorf("kid %q, hmac of %d characters: a command line could not carry them", kid, len(text))
	}
	want, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	got, key, err := d.Key(t.Context(), kid, "default")
	if err != nil || string(got) != string(want) || key.Description != "team a" {
		t.Fatalf("Key = %x, %+v, %v; want %x", got, key, err, want)
	}
	row, err := d.st.EAB(t.Context(), kid)
	if err != nil || strings.Contains(string(row.HMAC), string(want)) {
		t.Errorf("the row holds the key in clear (%v)", err)
	}
	events, _, err := d.st.AuditTail(t.Context(), 10, "")
	if err != nil || len(events) != 1 || events[0].Action != "eab.created" || events[0].Actor != "uid:0" ||
		strings.Contains(string(events[0].Detail), text) {
		t.Errorf("audit: %+v, %v", events, err)
	}
}

// A27: each limit of a key refuses with its own reason.
func TestACME_A27_KeysThatAreNoLongerGood(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	fresh := func(n NewKey) string { kid, _ := d.create(t, n); return kid }
	key := func(kid string) error { _, _, err := d.Key(t.Context(), kid, "default"); return err }

	wantDenied(t, key("nobody"), "eab_unknown")

	elsewhere := fresh(NewKey{Endpoint: "eab"})
	wantDenied(t, key(elsewhere), "eab_wrong_endpoint")

	disabled := fresh(NewKey{})
	for range 2 { // a second time changes nothing
		if k, err := d.Disable(t.Context(), disabled, "uid:7", "r1"); err != nil || k.DisabledAt == nil {
			t.Fatalf("Disable: %+v, %v", k, err)
		}
	}
	wantDenied(t, key(disabled), "eab_disabled")

	expired := fresh(NewKey{ExpiresAt: d.clock.Add(time.Hour)})
	if err := key(expired); err != nil {
		t.Errorf("an hour before its expiry: %v", err)
	}

	once := fresh(NewKey{MaxUses: 1})
	claim := Claim(once)
	if _, err := d.st.CreateAccount(t.Context(), d.account(once, "a1"), &claim, store.Event{At: d.clock, Action: "account.created"}); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, key(once), "eab_used_up")

	d.clock = d.clock.Add(time.Hour)
	wantDenied(t, key(expired), "eab_expired")

	if _, err := d.Disable(t.Context(), "nobody", "uid:7", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("disabling what is not there: %v", err)
	}
}

// A27: a key for N accounts makes N, whoever comes at the same time.
func TestACME_A27_UsesAreCountedOnce(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	d.EAB.now = time.Now
	const uses, callers = 5, 24
	kid, _ := d.create(t, NewKey{MaxUses: uses})
	var made, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			claim := Claim(kid)
			_, err := d.st.CreateAccount(context.Background(), d.account(kid, string(rune('a'+i))), &claim, store.Event{At: d.clock, Action: "account.created"})
			switch {
			case err == nil:
				made.Add(1)
			case fault.Is(err, fault.Denied):
				refused.Add(1)
			default:
				t.Errorf("account %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if made.Load() != uses || refused.Load() != callers-uses {
		t.Errorf("%d made and %d refused, want %d and %d", made.Load(), refused.Load(), uses, callers-uses)
	}
	k, err := d.st.EAB(t.Context(), kid)
	if err != nil || k.Uses != uses || d.Standing(k) != UsedUp {
		t.Errorf("key %+v, %v", k, err)
	}
}

// A27: what a key is bound to binds every order of its accounts.
func TestACME_A27_Scope(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	kid, _ := d.create(t, NewKey{Profiles: []string{"tls-server"}, Binding: pki.Binding{
		Names: []string{"*.a.test", "b.test", "10.0.0.0/8", "2001:db8::1"},
	}})
	dns := func(names ...string) (ids []pki.Identifier) {
		for _, n := range names {
			ids = append(ids, pki.Identifier{Type: pki.DNS, Value: n})
		}
		return ids
	}
	ctx := t.Context()
	if err := d.Permit(ctx, "", "any", dns("x.test")); err != nil {
		t.Errorf("an account without a key is bound: %v", err)
	}
	if err := d.Permit(ctx, kid, "tls-server", dns("x.a.test", "*.a.test", "*.deep.a.test", "b.test")); err != nil {
		t.Errorf("inside the scope: %v", err)
	}
	wantDenied(t, d.Permit(ctx, kid, "code-signing", dns("b.test")), "eab_profile")

	for _, outside := range []string{"a.test", "c.test", "xa.test", "*.b.test", "a.test.evil.test"} {
		err := d.Permit(ctx, kid, "tls-server", dns("b.test", outside))
		if f := fault.Of(err); f == nil || f.Kind != fault.RejectedIdentifier || f.Identifier.Value != outside {
			t.Errorf("%s: %v, want it rejected by name", outside, err)
		}
	}
	if f := fault.Of(d.Permit(ctx, kid, "tls-server", dns("c.test", "b.test", "d.test"))); f == nil || len(f.Sub) != 2 {
		t.Errorf("two names outside: %v, want two subproblems", f)
	}
	ips := map[string]bool{"10.1.2.3": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db8::2": false}
	for ip, ok := range ips {
		if err := d.Permit(ctx, kid, "tls-server", []pki.Identifier{{Type: pki.IP, Value: ip}}); (err == nil) != ok {
			t.Errorf("%s: %v, want allowed %v", ip, err, ok)
		}
	}
	if err := d.Permit(ctx, kid, "tls-server", []pki.Identifier{{Type: pki.Email, Value: "x@b.test"}}); err == nil {
		t.Error("an e-mail address is inside a scope of DNS names")
	}
	if _, err := d.Disable(ctx, kid, "uid:0", ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Permit(ctx, kid, "tls-server", dns("c.test")); !fault.Is(err, fault.RejectedIdentifier) {
		t.Errorf("the scope ended with the key: %v", err)
	}
	if err := d.Permit(ctx, kid, "tls-server", dns("b.test")); err != nil {
		t.Errorf("disabling the key stopped its accounts: %v", err)
	}
}

func TestCreateEABRefuses(t *testing.T) {
	t.Parallel()
	d := newFixture(t)
	for name, n := range map[string]NewKey{
		"past expiry":   {ExpiresAt: d.clock},
		"negative uses": {MaxUses: -1},
		"description":   {Description: strings.Repeat("x", 257)},
		"profiles":      {Profiles: make([]string, 257)},
		"pattern":       {Binding: pki.Binding{Names: []string{"ok.test", "*bad.test"}}},
	} {
		if _, _, err := d.Create(t.Context(), n); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v, want malformed", name, err)
		}
	}
	keys, err := d.List(t.Context(), "", 10)
	if err != nil || len(keys) != 0 {
		t.Errorf("a refused key was stored: %v, %v", keys, err)
	}
}
