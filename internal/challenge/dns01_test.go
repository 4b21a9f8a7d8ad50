package challenge

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/dnstest"
)

func digestOf(keyAuth string) string {
	sum := sha256.Sum256([]byte(keyAuth))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestACME_A56_TXT(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	v := newValidator(t, d, nil)
	good := digestOf(testKeyAuth)
	const name = "_acme-challenge.a.lab.test"
	for _, c := range []struct {
		name    string
		set     func()
		reason  string
		part    string
		wantTXT string
	}{
		{"the one record", func() { d.SetTXT(name, good) }, "", "", name},
		{"in pieces", func() { d.SetTXT(name, good[:10], good[10:20], good[20:]) }, "", "", name},
		{"among others", func() { d.SetTXT(name, "x"); d.SetTXT(name, digestOf("other")); d.SetTXT(name, good) }, "", "", name},
		{"behind an alias", func() {
			d.Add(t, name+". IN CNAME alias.lab.test.", "alias.lab.test. IN CNAME target.lab.test.")
			d.SetTXT("target.lab.test", good)
		}, "", "", "target.lab.test"},
		{"upper case name", func() { d.Add(t, strings.ToUpper(name)+`. IN TXT "`+good+`"`) }, "", "", name},
		{"none", func() {}, "no_txt", "there is no TXT record at " + name, ""},
		{"other value", func() { d.SetTXT(name, "v=spf1 \x00-all") }, "wrong_txt", `is "v=spf1`, ""},
		{"several others", func() { d.SetTXT(name, "one"); d.SetTXT(name, "two") }, "wrong_txt", `none of the 2 TXT records`, ""},
		{"pieces of two records", func() { d.SetTXT(name, good[:20]); d.SetTXT(name, good[20:]) }, "wrong_txt", "none of the 2", ""},
		{"with padding", func() { d.SetTXT(name, good+"=") }, "wrong_txt", "", ""},
		{"key authorization itself", func() { d.SetTXT(name, testKeyAuth) }, "wrong_txt", "", ""},
	} {
		d.Remove(name)
		d.Remove("target.lab.test")
		c.set()
		rec, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
		if c.reason == "" {
			if err != nil || rec.TXT != c.wantTXT {
				t.Errorf("%s: %v, record %+v", c.name, err, rec)
			}
			continue
		}
		t.Run(c.name, func(t *testing.T) { wantFault(t, err, fault.Denied, c.reason, c.part) })
	}
}

func TestACME_A56_WildcardAndBaseTogether(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	v := newValidator(t, d, nil)
	base, wild := task(DNS01, "a.lab.test"), task(DNS01, "a.lab.test")
	wild.Wildcard, wild.KeyAuthorization = true, "another.thumbprint"
	d.SetTXT("_acme-challenge.a.lab.test", digestOf(base.KeyAuthorization))
	d.SetTXT("_acme-challenge.a.lab.test", digestOf(wild.KeyAuthorization))
	for _, tk := range []Task{base, wild} {
		if _, err := v.Validate(context.Background(), tk); err != nil {
			t.Errorf("%s: %v", display(tk), err)
		}
	}
	d.ClearTXT("_acme-challenge.a.lab.test", digestOf(wild.KeyAuthorization))
	_, err := v.Validate(context.Background(), wild)
	wantFault(t, err, fault.Denied, "wrong_txt", "")
	if id := fault.Of(err).Identifier.Value; id != "*.a.lab.test" {
		t.Errorf("the fault is about %s", id)
	}
}

// TestACME_A56_LookupFailures: what the name server could not answer is a dns
// fault, not a wrong answer.
func TestACME_A56_LookupFailures(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	v := newValidator(t, d, nil)
	const name = "_acme-challenge.a.lab.test"
	for _, c := range []struct {
		what   string
		f      dnstest.Fault
		reason string
		part   string
		asked  int
	}{
		{"nxdomain", dnstest.Fault{Rcode: dns.RcodeNameError}, "nxdomain", "NXDOMAIN", 1},
		{"servfail", dnstest.Fault{Rcode: dns.RcodeServerFailure}, "servfail", "SERVFAIL", 1},
		{"refused", dnstest.Fault{Rcode: dns.RcodeRefused}, "refused", "REFUSED", 1},
		{"notimp", dnstest.Fault{Rcode: dns.RcodeNotImplemented}, "bad_answer", "NOTIMP", 2}, // once without EDNS
		{"garbage", dnstest.Fault{Garbage: true}, "bad_answer", "not usable", 1},
		{"cut short by TCP too", dnstest.Fault{Cut: true}, "bad_answer", "not usable", 2},
		{"another question", dnstest.Fault{Mismatch: true}, "bad_answer", "not usable", 1},
	} {
		d.SetFault(name, c.f)
		before := d.Count(name, dns.TypeTXT)
		_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
		t.Run(c.what, func(t *testing.T) {
			wantFault(t, err, fault.DNS, c.reason, c.part)
			wantFault(t, err, fault.DNS, c.reason, "look up TXT of "+name)
			if n := d.Count(name, dns.TypeTXT) - before; n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
		})
	}
}

func TestACME_A56_SilentServer(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	const name = "_acme-challenge.a.lab.test"
	d.SetFault(name, dnstest.Fault{Silent: true})
	v := newValidator(t, d, nil)
	start := time.Now()
	_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.DNS, "timeout", "timeout")
	if n, took := d.Count(name, dns.TypeTXT), time.Since(start); n != dnsTries || took > 9*time.Second {
		t.Errorf("asked %d times in %s, want %d", n, took, dnsTries)
	}
}

func TestACME_A56_TCPFallback(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	v := newValidator(t, d, nil)
	good := digestOf(testKeyAuth)
	const name = "_acme-challenge.a.lab.test"
	for i := range 60 {
		d.SetTXT(name, fmt.Sprintf("%050d", i))
	}
	d.SetTXT(name, good)
	if _, err := v.Validate(context.Background(), task(DNS01, "a.lab.test")); err != nil {
		t.Errorf("an answer of 60 records: %v", err)
	}
	if n := d.Count(name, dns.TypeTXT); n != 2 {
		t.Errorf("asked %d times, want UDP and TCP", n)
	}
}

func TestACME_A56_Aliases(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare=%t", bare), func(t *testing.T) {
			t.Parallel()
			d := dnstest.Start(t)
			if bare {
				d.Bare()
			}
			v := newValidator(t, d, nil)
			chain := func(from string, n int) string {
				for i := range n {
					to := fmt.Sprintf("%d.%s", i, strings.TrimPrefix(from, "_acme-challenge."))
					d.Add(t, from+". IN CNAME "+to+".")
					from = to
				}
				return from
			}
			d.SetTXT(chain("_acme-challenge.ten.lab.test", maxAliases), digestOf(testKeyAuth))
			if _, err := v.Validate(context.Background(), task(DNS01, "ten.lab.test")); err != nil {
				t.Errorf("ten aliases: %v", err)
			}
			d.SetTXT(chain("_acme-challenge.eleven.lab.test", maxAliases+1), digestOf(testKeyAuth))
			_, err := v.Validate(context.Background(), task(DNS01, "eleven.lab.test"))
			wantFault(t, err, fault.DNS, "bad_answer", "more than 10 CNAME")
			d.Add(t, "_acme-challenge.loop.lab.test. IN CNAME back.lab.test.", "back.lab.test. IN CNAME _acme-challenge.loop.lab.test.")
			_, err = v.Validate(context.Background(), task(DNS01, "loop.lab.test"))
			if !fault.Is(err, fault.DNS) {
				t.Errorf("a loop of aliases: %v", err)
			}
			d.Add(t, "_acme-challenge.out.lab.test. IN CNAME gone.example.")
			_, err = v.Validate(context.Background(), task(DNS01, "out.lab.test"))
			wantFault(t, err, fault.DNS, "nxdomain", "")
		})
	}
}

func TestACME_A56_LongName(t *testing.T) {
	t.Parallel()
	v := newValidator(t, dnstest.Start(t), nil)
	label := strings.Repeat("a", 60) + "."
	long := label + label + label + strings.Repeat("b", 56) + ".lab.test" // fits alone, not with _acme-challenge
	_, err := v.Validate(context.Background(), task(DNS01, long))
	wantFault(t, err, fault.DNS, "bad_name", "not a name that DNS can hold")
}

func TestResolverConfiguration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1:5353": "192.0.2.1:5353", "192.0.2.1": "192.0.2.1:53", "[2001:db8::1]:54": "[2001:db8::1]:54",
		"2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]": "[2001:db8::1]:53", "ns.internal": "ns.internal:53",
	} {
		r, err := newResolver(Config{Resolver: in}, nil)
		if err != nil || len(r.fixed) != 1 || r.fixed[0] != want {
			t.Errorf("%s: %v, %v, want %s", in, r, err, want)
		}
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	r := &resolver{conf: conf}
	_, err := r.lookup(context.Background(), "a.test", dns.TypeA)
	wantFault(t, err, fault.DNS, "no_resolver", "no name server is configured")
	if err := os.WriteFile(conf, []byte("search lab.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = r.lookup(context.Background(), "a.test", dns.TypeA)
	wantFault(t, err, fault.DNS, "no_resolver", "")
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.1\nnameserver 2001:db8::1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := r.servers()
	if err != nil || len(got) != 2 || got[1] != "[2001:db8::1]:53" {
		t.Errorf("servers %q, %v", got, err)
	}
}

func TestResolverAway(t *testing.T) {
	t.Parallel()
	r, err := newResolver(Config{Resolver: "127.0.0.1:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.lookup(context.Background(), "a.test", dns.TypeA)
	wantFault(t, err, fault.DNS, "unreachable", "could not be asked")
}
