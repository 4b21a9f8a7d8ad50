package challenge

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/dnstest"
)

const (
	ourCA     = "ca.example.org"
	otherCA   = "other.example"
	oldPrefix = "https://old.lab.test/acme/default/acct/1"
)

func TestACME_A59_Properties(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		records []string // flags tag "value"
		wild    bool
		reason  string // empty: may issue
	}{
		{"issue names us", []string{`0 issue "ca.example.org"`}, false, ""},
		{"case does not count", []string{`0 ISSUE "CA.Example.ORG"`}, false, ""},
		{"one of several", []string{`0 issue "other.example"`, `0 issue "ca.example.org"`}, false, ""},
		{"with white space", []string{`0 issue " ca.example.org ; "`}, false, ""},
		{"another CA", []string{`0 issue "other.example"`}, false, "caa_forbids"},
		{"a subdomain of ours", []string{`0 issue "x.ca.example.org"`}, false, "caa_forbids"},
		{"nobody", []string{`0 issue ";"`}, false, "caa_forbids"},
		{"empty", []string{`0 issue ""`}, false, "caa_forbids"},
		{"nobody and us", []string{`0 issue ";"`, `0 issue "ca.example.org"`}, false, ""},
		{"iodef only", []string{`0 iodef "mailto:a@b.test"`}, false, ""},
		{"iodef only, wildcard", []string{`0 iodef "mailto:a@b.test"`}, true, ""},
		{"unknown, not critical", []string{`0 future "x"`}, false, ""},
		{"unknown, critical", []string{`128 future "x"`, `0 issue "ca.example.org"`}, false, "caa_critical"},
		{"unknown, flag 1", []string{`1 future "x"`, `0 issue "ca.example.org"`}, false, "caa_critical"},
		{"known and critical", []string{`128 issue "ca.example.org"`, `128 iodef "mailto:a@b.test"`}, false, ""},
		{"other reserved flags", []string{`2 future "x"`}, false, ""},
		{"issuewild does not count for a plain name", []string{`0 issuewild "other.example"`}, false, ""},
		{"issuewild does not allow a plain name", []string{`0 issuewild "ca.example.org"`, `0 issue "other.example"`}, false, "caa_forbids"},
		{"issuewild wins for a wildcard", []string{`0 issuewild "other.example"`, `0 issue "ca.example.org"`}, true, "caa_forbids"},
		{"issuewild allows a wildcard", []string{`0 issuewild "ca.example.org"`, `0 issue ";"`}, true, ""},
		{"issue counts for a wildcard", []string{`0 issue "other.example"`}, true, "caa_forbids"},
		{"issue allows a wildcard", []string{`0 issue "ca.example.org"`}, true, ""},
		{"malformed domain", []string{`0 issue "ca.example.org."`}, false, "caa_forbids"},
		{"malformed parameters", []string{`0 issue "ca.example.org; =x"`}, false, "caa_forbids"},
		{"malformed and good", []string{`0 issue "ca.example.org; x"`, `0 issue "ca.example.org"`}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := dnstest.Start(t)
			for _, r := range c.records {
				d.Add(t, "a.lab.test. IN CAA "+r)
			}
			v := newValidator(t, d, func(cfg *Config) { cfg.CAA, cfg.CAAIdentities = CAAAlways, []string{"one.example", ourCA} })
			id := pki.Identifier{Type: pki.DNS, Value: "a.lab.test"}
			err := v.CheckCAA(context.Background(), id, c.wild, []string{testAccount}, DNS01)
			if c.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantFault(t, err, fault.CAA, c.reason, "the CAA records of a.lab.test")
			if f := fault.Of(err); f.Identifier.Value != "a.lab.test" {
				t.Errorf("the fault is about %+v", f.Identifier)
			}
		})
	}
}

func TestACME_A59_Climb(t *testing.T) {
	t.Parallel()
	id := pki.Identifier{Type: pki.DNS, Value: "x.y.lab.test"}
	for _, c := range []struct {
		name   string
		set    func(*testing.T, *dnstest.Server)
		kind   fault.Kind
		reason string // empty: may issue
		from   string
	}{
		{"no records at all", func(*testing.T, *dnstest.Server) {}, 0, "", caaNone},
		{"the nearest wins", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `y.lab.test. IN CAA 0 issue "ca.example.org"`, `lab.test. IN CAA 0 issue ";"`)
		}, 0, "", "y.lab.test"},
		{"a set of iodef stops the climb", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `x.y.lab.test. IN CAA 0 iodef "mailto:a@b.test"`, `lab.test. IN CAA 0 issue ";"`)
		}, 0, "", "x.y.lab.test"},
		{"a parent forbids", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `lab.test. IN CAA 0 issue ";"`)
		}, fault.CAA, "caa_forbids", ""},
		{"the top-level domain forbids", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `test. IN CAA 0 issue ";"`)
		}, fault.CAA, "caa_forbids", ""},
		{"nxdomain below", func(t *testing.T, d *dnstest.Server) {
			d.SetFault("x.y.lab.test", dnstest.Fault{Rcode: dns.RcodeNameError})
			d.Add(t, `lab.test. IN CAA 0 issue "ca.example.org"`)
		}, 0, "", "lab.test"},
		{"servfail below", func(t *testing.T, d *dnstest.Server) {
			d.SetFault("y.lab.test", dnstest.Fault{Rcode: dns.RcodeServerFailure})
			d.Add(t, `lab.test. IN CAA 0 issue "ca.example.org"`)
		}, fault.DNS, "servfail", ""},
		{"servfail above does not matter", func(t *testing.T, d *dnstest.Server) {
			d.SetFault("lab.test", dnstest.Fault{Rcode: dns.RcodeServerFailure})
			d.Add(t, `y.lab.test. IN CAA 0 issue "ca.example.org"`)
		}, 0, "", "y.lab.test"},
		{"an alias is followed, then the own parent", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `x.y.lab.test. IN CNAME z.lab.test.`, `z.lab.test. IN CAA 0 issue "other.example"`)
		}, fault.CAA, "caa_forbids", ""},
		{"the parent of an alias's target does not count", func(t *testing.T, d *dnstest.Server) {
			d.Add(t, `x.y.lab.test. IN CNAME z.else.test.`, `else.test. IN CAA 0 issue ";"`)
		}, 0, "", caaNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := dnstest.Start(t, "test")
			c.set(t, d)
			v := newValidator(t, d, func(cfg *Config) { cfg.CAA, cfg.CAAIdentities = CAAAlways, []string{ourCA} })
			from, err := v.checkCAA(context.Background(), id, false, []string{testAccount}, HTTP01)
			if c.reason != "" {
				wantFault(t, err, c.kind, c.reason, "")
				return
			}
			if err != nil || from != c.from {
				t.Errorf("%v, decided by %q, want %q", err, from, c.from)
			}
		})
	}
}

func TestACME_A59_Modes(t *testing.T) {
	for _, c := range []struct {
		mode, name string
		want       bool
	}{
		{CAAAlways, "a.lab.test", true}, {CAAAlways, "a.example.com", true}, {CAANever, "a.example.com", false},
		{CAAPublic, "a.example.com", true}, {CAAPublic, "a.example.co.uk", true}, {CAAPublic, "com", true},
		{CAAPublic, "a.github.io", true}, {CAAPublic, "xn--fiqs8s", true},
		{CAAPublic, "a.lab.test", false}, {CAAPublic, "db.corp", false}, {CAAPublic, "printer", false}, {CAAPublic, "a.internal", false},
		{CAAPublic, "a.local", false}, {CAAPublic, "a.home.arpa", false}, {CAAPublic, "a.localhost", false}, {CAAPublic, "a.onion", false},
	} {
		v := newValidator(t, nil, func(cfg *Config) { cfg.CAA = c.mode })
		if got := v.caaApplies(c.name); got != c.want {
			t.Errorf("%s %s: applies %t, want %t", c.mode, c.name, got, c.want)
		}
	}
	v := newValidator(t, nil, func(cfg *Config) { cfg.CAA = "" })
	if v.cfg.CAA != CAAPublic {
		t.Errorf("the default is %q", v.cfg.CAA)
	}
}

// TestACME_A59_Validate shows that a validated name is refused for CAA.
func TestACME_A59_Validate(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, `a.lab.test. IN CAA 0 issue "other.example"`)
	d.SetTXT("_acme-challenge.a.lab.test", digestOf(testKeyAuth))
	d.SetTXT("_acme-challenge.b.lab.test", digestOf(testKeyAuth))
	v := newValidator(t, d, func(c *Config) { c.CAA = CAAAlways })
	_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.CAA, "caa_forbids", "no issuer domain name of its own")
	d.SetFault("test", dnstest.Fault{Rcode: dns.RcodeNameError})
	rec, err := v.Validate(context.Background(), task(DNS01, "b.lab.test"))
	if err != nil || rec.CAA != caaNone {
		t.Errorf("%v, %+v", err, rec)
	}
}

func TestACME_A60_Parameters(t *testing.T) {
	accounts := []string{testAccount, oldPrefix}
	for _, c := range []struct {
		name, value, method string
		want                bool
	}{
		{"our account", "ca.example.org; accounturi=" + testAccount, HTTP01, true},
		{"under a former base URL", "ca.example.org;accounturi=" + oldPrefix, HTTP01, true},
		{"white space", "ca.example.org ;\taccounturi \t= " + testAccount + "  ", HTTP01, true},
		{"another account", "ca.example.org; accounturi=" + testAccount + "2", HTTP01, false},
		{"case counts", "ca.example.org; accounturi=" + strings.ToUpper(testAccount), HTTP01, false},
		{"empty account", "ca.example.org; accounturi=", HTTP01, false},
		{"account twice", "ca.example.org; accounturi=" + testAccount + "; accounturi=" + testAccount, HTTP01, false},
		{"tag in capitals still binds", "ca.example.org; AccountURI=https://other.test/1", HTTP01, false},
		{"our method", "ca.example.org; validationmethods=http-01", HTTP01, true},
		{"in a list", "ca.example.org; validationmethods=dns-01,http-01", HTTP01, true},
		{"another method", "ca.example.org; validationmethods=dns-01", HTTP01, false},
		{"exact label", "ca.example.org; validationmethods=HTTP-01", HTTP01, false},
		{"prefix", "ca.example.org; validationmethods=http-012", HTTP01, false},
		{"no method", "ca.example.org; validationmethods=", HTTP01, false},
		{"empty label", "ca.example.org; validationmethods=http-01,", HTTP01, false},
		{"not a label", "ca.example.org; validationmethods=http-01,dns_01", HTTP01, false},
		{"methods twice", "ca.example.org; validationmethods=http-01; validationmethods=http-01", HTTP01, false},
		{"both", "ca.example.org; validationmethods=dns-01; accounturi=" + testAccount, DNS01, true},
		{"one of both fails", "ca.example.org; validationmethods=dns-01; accounturi=x", DNS01, false},
		{"unknown ones are left alone", "ca.example.org; policy=ev; x=", HTTP01, true},
	} {
		s := caaSet{name: "a.test", properties: []property{{0, "issue", c.value}}}
		err := s.permits([]string{ourCA}, false, accounts, c.method)
		if (err == nil) != c.want {
			t.Errorf("%s: %v, want allowed %t", c.name, err, c.want)
		}
		if err != nil && fault.Of(err).Reason != "caa_parameters" {
			t.Errorf("%s: reason %s", c.name, fault.Of(err).Reason)
		}
	}
}

func TestACME_A60_Grammar(t *testing.T) {
	good := map[string]issueValue{
		"":                     {},
		"  \t ":                {},
		";":                    {},
		" ; ":                  {},
		"a.example":            {domain: "a.example"},
		"localhost":            {domain: "localhost"},
		" A-b.c1 ;":            {domain: "A-b.c1"},
		"a.example;x=1":        {domain: "a.example", parameters: []parameter{{"x", "1"}}},
		"a.example; x=; y=a=b": {domain: "a.example", parameters: []parameter{{"x", ""}, {"y", "a=b"}}},
		"; x=1":                {parameters: []parameter{{"x", "1"}}},
	}
	for in, want := range good {
		got, err := parseIssueValue(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(issueValue{}, parameter{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
	for _, in := range []string{
		"a..example", ".example", "a.example.", "-a.example", "a-.example", "a_b.example", "a b", "é.example", "a.example\x00",
		"a.example;x", "a.example;x=1;", "a.example;;x=1", "a.example;=1", "a.example;-x=1", "a.example;x_=1",
		"a.example;x=a b", "a.example;x=\x7f", "a.example;x=é", "a.example\n", strings.Repeat("a", 64) + ".example",
		strings.Repeat("a.", 127) + "a",
	} {
		if got, err := parseIssueValue(in); err == nil {
			t.Errorf("%q is accepted as %+v", in, got)
		}
	}
}

// FuzzCAAIssueValue: the parser keeps to its grammar whatever it reads, and a
// value that names us with no parameters is the only one that always permits.
func FuzzCAAIssueValue(f *testing.F) {
	for _, s := range []string{"", ";", "ca.example.org", "ca.example.org; accounturi=https://a/1; validationmethods=dns-01,http-01",
		" a.b ;\tx = y", "a;x=1;", ";;=", "a.example;x=\x80", "\x00", "a=b;c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseIssueValue(s)
		if err != nil {
			if v.domain != "" || v.parameters != nil {
				t.Errorf("%q: a value comes with an error: %+v", s, v)
			}
			return
		}
		if v.domain != "" && !isIssuerDomain(v.domain) {
			t.Errorf("%q: domain %q", s, v.domain)
		}
		text := v.domain
		for i, p := range v.parameters {
			if !isTag(p.tag) || strings.ContainsFunc(p.value, notValue) {
				t.Errorf("%q: parameter %+v", s, p)
			}
			text += []string{";", "; "}[i%2] + p.tag + "=" + p.value
		}
		again, err := parseIssueValue(text)
		if err != nil {
			t.Fatalf("%q was written as %q, which does not parse", s, text)
		}
		if diff := cmp.Diff(v, again, cmp.AllowUnexported(issueValue{}, parameter{})); diff != "" {
			t.Errorf("%q (-first +second):\n%s", s, diff)
		}
		_ = v.permits([]string{testAccount}, HTTP01)
	})
}

// FuzzCAARecord feeds the octets of a record's data as DNS delivers them.
func FuzzCAARecord(f *testing.F) {
	f.Add([]byte("\x00\x05issueca.example.org"), false)
	f.Add([]byte("\x80\x06futurex"), true)
	f.Add([]byte("\x00\x09issuewild;"), true)
	f.Fuzz(func(t *testing.T, data []byte, wild bool) {
		if len(data) > 4096 {
			return
		}
		head := dns.RR_Header{Name: "a.", Rrtype: dns.TypeCAA, Class: dns.ClassINET, Rdlength: uint16(len(data))}
		rr, _, err := dns.UnpackRRWithHeader(head, data, 0)
		caa, ok := rr.(*dns.CAA)
		if err != nil || !ok {
			return
		}
		s := caaSet{name: "a", properties: []property{{caa.Flag, strings.ToLower(caa.Tag), caa.Value}}}
		err = s.permits([]string{ourCA}, wild, []string{testAccount}, DNS01)
		if err != nil && !fault.Is(err, fault.CAA) {
			t.Errorf("%v", err)
		}
	})
}
