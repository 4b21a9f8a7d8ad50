package challenge

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// A type that is not in the table is refused for every kind of identifier: there
// is no way to another type's code.
func TestUnknownChallengeTypeIsRefused(t *testing.T) {
	t.Parallel()
	v, err := New(Config{Resolver: "127.0.0.1:9"}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []pki.Identifier{{Type: pki.DNS, Value: "a.test"}, {Type: pki.IP, Value: "127.0.0.1"},
		{Type: "email", Value: "a@b.test"}} {
		for _, typ := range []string{"", "tls-alpn-02", "HTTP-01", "email-reply-00"} {
			rec, err := v.Validate(t.Context(), Task{Type: typ, Identifier: id, Token: "t"})
			if f := fault.Of(err); f == nil || f.Kind != fault.Malformed || rec.Hops != nil || rec.TXT != "" {
				t.Errorf("%s by %q: %+v, %v", id.Value, typ, rec, err)
			}
		}
	}
}

// A type that is in the table is offered and reached by its name alone.
func TestMethodsAreWhatTheTableSays(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range methods {
		if seen[m.name] || m.prove == nil || m.proves == nil {
			t.Errorf("%s is twice in the table or not complete", m.name)
		}
		seen[m.name] = true
	}
	for _, id := range []pki.Identifier{{Type: pki.DNS, Value: "a.test"}, {Type: pki.IP, Value: "127.0.0.1"}} {
		for _, wildcard := range []bool{false, true} {
			for name := range seen {
				_, err := methodOf(Task{Type: name, Identifier: id, Wildcard: wildcard})
				if offered := slices.Contains(Offered(id, wildcard), name); offered != (err == nil) {
					t.Errorf("%s for %s (wildcard %t): offered %t, %v", name, id.Value, wildcard, offered, err)
				}
			}
		}
	}
}

// An address that is not admitted is not dialled, and the attempt says so.
func TestFS4_AddressThatIsNotAdmitted(t *testing.T) {
	t.Parallel()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	v, err := New(Config{Resolver: "127.0.0.1:9", AllowCIDRs: loopback}, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{HTTP01, TLSALPN01} {
		var asked []netip.Addr
		task := Task{Type: typ, Identifier: pki.Identifier{Type: pki.IP, Value: "127.0.0.1"}, Token: "t",
			Admit: func(ip netip.Addr) bool {
				asked = append(asked, ip)
				return false
			}}
		rec, err := v.Validate(t.Context(), task)
		if !IsBusy(err) || len(asked) != 1 || len(rec.Hops[0].Tried) != 0 {
			t.Errorf("%s: asked for %v, tried %v: %v", typ, asked, rec.Hops, err)
		}
	}
}
