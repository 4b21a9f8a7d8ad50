package challenge

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/dnstest"
)

// TestFR22_ResolversInTurn: a cache that knows an old answer is asked once, and another
// at the next attempt; one that does not know or answer costs no attempt.
func TestFR22_ResolversInTurn(t *testing.T) {
	t.Parallel()
	const name = "_acme-challenge.a.lab.test"
	stale, fresh := dnstest.Start(t), dnstest.Start(t)
	fresh.SetTXT(name, digestOf(testKeyAuth))
	with := func(servers ...string) *Validator {
		return newValidator(t, nil, func(c *Config) { c.Resolvers = servers })
	}
	try := task(DNS01, "a.lab.test")
	v := with(stale.Addr(), fresh.Addr())
	_, err := v.Validate(context.Background(), try)
	wantFault(t, err, fault.Denied, "no_txt", "")
	try.Attempt = 1
	if _, err := v.Validate(context.Background(), try); err != nil {
		t.Errorf("the second attempt: %v", err)
	}
	try.Attempt = 0
	for what, f := range map[string]dnstest.Fault{
		"SERVFAIL": {Rcode: dns.RcodeServerFailure}, "REFUSED": {Rcode: dns.RcodeRefused}, "garbage": {Garbage: true},
		"NOTIMP": {Rcode: dns.RcodeNotImplemented}, "FORMERR": {Rcode: dns.RcodeFormatError}, "silence": {Silent: true},
	} {
		stale.SetFault(name, f)
		if _, err := v.Validate(context.Background(), try); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := with("127.0.0.1:1", "127.0.0.1:1", fresh.Addr()).Validate(context.Background(), try); err != nil {
		t.Errorf("two are away: %v", err)
	}
	stale.SetFault(name, dnstest.Fault{Rcode: dns.RcodeServerFailure})
	fresh.SetFault(name, dnstest.Fault{Rcode: dns.RcodeServerFailure})
	_, err = v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "servfail", "SERVFAIL")
	both := newValidator(t, stale, func(c *Config) { c.Resolvers = []string{fresh.Addr()} })
	fresh.Remove(name)
	fresh.SetTXT(name, digestOf(testKeyAuth))
	if _, err := both.Validate(context.Background(), try); err != nil {
		t.Errorf("resolver and resolvers: %v", err)
	}
	many := slices.Repeat([]string{"192.0.2.1"}, maxResolvers)
	for what, list := range map[string][]string{"not an address": {":53"}, "too many": append(many, "192.0.2.2")} {
		if (Config{Resolvers: list}).Check() == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if err := (Config{Resolvers: many}).Check(); err != nil {
		t.Error(err)
	}
}

// TestFR22_AnotherAddressAtEachAttempt, in whatever order the name server has them.
func TestFR22_AnotherAddressAtEachAttempt(t *testing.T) {
	t.Parallel()
	for _, order := range [][2]string{{"127.0.0.1", "127.0.0.2"}, {"127.0.0.2", "127.0.0.1"}} {
		d := dnstest.Start(t)
		d.Add(t, "a.lab.test. IN A "+order[0], "a.lab.test. IN A "+order[1])
		port := webServer(t, "127.0.0.2", text(200, testKeyAuth)) // 127.0.0.1 is dead
		v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
		used := map[netip.Addr]bool{}
		worked := 0
		for attempt := range 2 {
			try := task(HTTP01, "a.lab.test")
			try.Attempt = attempt
			rec, err := v.Validate(context.Background(), try)
			if err == nil {
				worked++
			}
			used[rec.Hops[0].Tried[0]] = true
		}
		if worked != 1 || len(used) != 2 {
			t.Errorf("%v: %d attempts succeeded at %v", order, worked, used)
		}
		dialer := v.Dialer() // of webhooks
		worked = 0
		for range 2 {
			if conn, err := dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("a.lab.test:%d", port)); err == nil {
				_ = conn.Close()
				worked++
			}
		}
		if worked != 1 {
			t.Errorf("%v: %d of two calls reach the live address", order, worked)
		}
	}
	// What a redirect leads to has one address at each attempt, of all families.
	d := dnstest.Start(t)
	d.Add(t, "b.lab.test. IN AAAA ::1", "b.lab.test. IN A 127.0.0.1")
	port := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "a.lab.test" {
			http.Redirect(w, r, "http://b.lab.test/", http.StatusFound)
			return
		}
		_, _ = fmt.Fprint(w, testKeyAuth)
	})
	try := task(HTTP01, "a.lab.test")
	try.Attempt = 1
	if _, err := newValidator(t, d, func(c *Config) { c.HTTPPort = port }).Validate(context.Background(),
		try); err != nil {
		t.Error(err)
	}
}

// authoritative returns a resolver, the server of the zone lab.test, and a validator that
// asks the second.
func authoritative(t *testing.T, change func(*Config)) (resolver, own *dnstest.Server, v *Validator) {
	t.Helper()
	resolver, own = dnstest.Start(t, "lab.test", "else.test"), dnstest.Start(t, "lab.test")
	resolver.Add(t, "lab.test. IN NS ns1.lab.test.", "ns1.lab.test. IN A 127.0.0.1")
	v = newValidator(t, resolver, func(c *Config) {
		c.Authoritative = true
		if change != nil {
			change(c)
		}
	})
	v.dns.zones.port = uint16(portOf(t, own.Addr()))
	return resolver, own, v
}

// TestFR22_Authoritative: the zone's own servers are asked, whatever a resolver keeps.
func TestFR22_Authoritative(t *testing.T) {
	t.Parallel()
	const name = "_acme-challenge.a.lab.test"
	resolver, own, v := authoritative(t, nil)
	resolver.SetFault(name, dnstest.Fault{Type: dns.TypeTXT,
		Rcode: dns.RcodeNameError}) // a negative answer that is kept
	resolver.SetTXT(name, "old")
	own.SetTXT(name, digestOf(testKeyAuth))
	try := task(DNS01, "a.lab.test")
	if _, err := v.Validate(context.Background(), try); err != nil {
		t.Error(err)
	}
	if resolver.Count(name, dns.TypeTXT) != 0 {
		t.Error("the resolver was asked")
	}
	// A zone cut below, an alias into another zone and one that nobody serves.
	own.Remove(name)
	own.Add(t, name+". IN CNAME there.else.test.")
	resolver.SetTXT("there.else.test", digestOf(testKeyAuth)) // no NS: the resolver knows
	if rec, err := v.Validate(context.Background(), try); err != nil || rec.TXT != "there.else.test" {
		t.Errorf("an alias into another zone: %v %+v", err, rec)
	}
	// What the zone's server says of names elsewhere does not count.
	own.Add(t, "here.lab.test. IN CNAME target.lab.test.")
	own.SetTXT("target.lab.test", "x")
	f, err := v.dns.lookup(t.Context(), "here.lab.test", dns.TypeTXT)
	if err != nil || len(f.rrs) != 1 || own.Count("target.lab.test", dns.TypeTXT) != 1 {
		t.Errorf("%v %v: the target was asked for %d times", err, f, own.Count("target.lab.test", dns.TypeTXT))
	}
	// Addresses come from there too, and NXDOMAIN.
	own.Add(t, "web.lab.test. IN A 127.0.0.2")
	port := webServer(t, "127.0.0.2", text(200, testKeyAuth))
	web := *v
	web.cfg.HTTPPort = port
	if _, err := web.Validate(context.Background(), task(HTTP01, "web.lab.test")); err != nil {
		t.Error(err)
	}
	own.Remove(name)
	own.SetFault(name, dnstest.Fault{Rcode: dns.RcodeNameError})
	_, err = v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "nxdomain", "NXDOMAIN")
	// One that is not the zone's own is no word for it.
	own.SetFault(name, dnstest.Fault{Lame: true})
	_, err = v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "bad_answer", "not usable")
	own.SetFault(name, dnstest.Fault{Lame: true, Rcode: dns.RcodeNameError})
	_, err = v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "bad_answer", "not usable")
}

// TestFR22_ZoneServers: several are tried, and only such as may be dialled.
func TestFR22_ZoneServers(t *testing.T) {
	t.Parallel()
	const name = "_acme-challenge.a.lab.test"
	resolver, own, v := authoritative(t, nil)
	own.SetTXT(name, digestOf(testKeyAuth))
	resolver.Add(t, "lab.test. IN NS ns0.lab.test.", "ns0.lab.test. IN A 127.0.0.9", "lab.test. IN NS gone.example.")
	try := task(DNS01, "a.lab.test")
	if _, err := v.Validate(context.Background(), try); err != nil {
		t.Errorf("one of three: %v", err)
	}
	resolver, own, v = authoritative(t, func(c *Config) { c.AllowCIDRs = nil })
	own.SetTXT(name, digestOf(testKeyAuth))
	_, err := v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "zone_servers", "none of the name servers of lab.test")
	if own.Count(name, dns.TypeTXT) != 0 {
		t.Error("a refused address was asked")
	}
	resolver.SetFault("lab.test", dnstest.Fault{Type: dns.TypeNS, Rcode: dns.RcodeServerFailure})
	_, err = v.Validate(context.Background(), try)
	wantFault(t, err, fault.DNS, "servfail", "look up NS of lab.test")
	g, err := newGuard(Config{}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")})
	if err != nil {
		t.Fatal(err)
	}
	z := &zones{guard: g, port: 53}
	resolver.Remove("ns1.lab.test")
	resolver.Add(t, "ns1.lab.test. IN A 168.63.129.16", "ns1.lab.test. IN A 10.0.0.1", "ns1.lab.test. IN A 192.0.2.1")
	if got, err := z.addresses(t.Context(), v.dns, "lab.test.", []string{"ns1.lab.test."}); err == nil {
		t.Errorf("%v may be asked", got)
	}
}
