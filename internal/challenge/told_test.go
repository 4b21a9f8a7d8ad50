package challenge

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/dnstest"
)

// TestFR17_DanglingAlias is told as one, and not as a name that does not exist.
func TestFR17_DanglingAlias(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		d := dnstest.Start(t)
		if bare {
			d.Bare()
		}
		d.Add(t, "a.lab.test. IN CNAME gone.example.", "_acme-challenge.a.lab.test. IN CNAME gone.example.",
			"b.lab.test. IN CNAME c.lab.test.", "c.lab.test. IN CNAME gone.example.",
			"_acme-challenge.d.lab.test. IN CNAME e.lab.test.", "f.lab.test. IN CNAME e.lab.test.")
		d.SetFault("e.lab.test", dnstest.Fault{Rcode: dns.RcodeServerFailure})
		v := newValidator(t, d, nil)
		for _, c := range []struct{ typ, name, reason, part string }{
			{HTTP01, "a.lab.test", "nxdomain", `look up A of a.lab.test, an alias (CNAME) of "gone.example": NXDOMAIN, the alias leads`},
			{DNS01, "a.lab.test", "nxdomain", `TXT of _acme-challenge.a.lab.test, an alias (CNAME) of "gone.example"`},
			{HTTP01, "b.lab.test", "nxdomain", `b.lab.test, an alias (CNAME) of "c.lab.test", which is an alias of another`},
		} {
			_, err := v.Validate(context.Background(), task(c.typ, c.name))
			wantFault(t, err, fault.DNS, c.reason, c.part)
			if text := fault.Of(err).Detail; strings.Contains(text, "the name does not exist") ||
				c.name == "b.lab.test" && strings.Contains(text, "gone") {
				t.Errorf("%s", text)
			}
		}
		if !bare { // the server that holds both says so of the alias
			continue
		}
		_, err := v.Validate(context.Background(), task(DNS01, "d.lab.test"))
		wantFault(t, err, fault.DNS, "servfail", `_acme-challenge.d.lab.test, an alias (CNAME) of "e.lab.test": SERVFAIL`)
		d.SetFault("e.lab.test", dnstest.Fault{Garbage: true})
		_, err = v.Validate(context.Background(), task(HTTP01, "f.lab.test"))
		wantFault(t, err, fault.DNS, "bad_answer", `f.lab.test, an alias (CNAME) of "e.lab.test": the name server's answer`)
	}
	d := dnstest.Start(t)
	d.Add(t, "_acme-challenge.a.lab.test. IN CNAME there.lab.test.")
	_, err := newValidator(t, d, nil).Validate(context.Background(), task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.Denied, "no_txt", `_acme-challenge.a.lab.test, an alias (CNAME) of "there.lab.test"; want one that is `+digestOf(testKeyAuth))
}

// TestFS11_AnotherZonesRecordsAreNotQuoted: an alias leads to records that the client
// may not be able to ask for.
func TestFS11_AnotherZonesRecordsAreNotQuoted(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "_acme-challenge.a.lab.test. IN CNAME vault.lab.test.", "a.lab.test. IN CNAME vault.lab.test.",
		`vault.lab.test. IN CAA 128 s3cret "x"`)
	for range 2 {
		d.SetTXT("vault.lab.test", "s3cret")
		v := newValidator(t, d, func(c *Config) { c.CAA = CAAAlways })
		_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
		wantFault(t, err, fault.Denied, "wrong_txt", "vault.lab.test")
		if strings.Contains(fault.Of(err).Detail, "s3cret") {
			t.Errorf("%v", err)
		}
		err = v.CheckCAA(t.Context(), pki.Identifier{Type: pki.DNS, Value: "a.lab.test"}, false, nil, DNS01)
		wantFault(t, err, fault.CAA, "caa_critical", "the CAA records of a.lab.test")
		if strings.Contains(fault.Of(err).Detail, "s3cret") {
			t.Errorf("%v", err)
		}
	}
}

// TestFR17_ExpectedAndFound: who has the wrong account key sees it at once.
func TestFR17_ExpectedAndFound(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	const other = "nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ"
	port := webServer(t, "127.0.0.1", text(200, testToken+"."+other))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "wrong_key_authorization",
		"at 127.0.0.1 is not the key authorization "+testKeyAuth)
	wantFault(t, err, fault.IncorrectResponse, "wrong_key_authorization",
		`the thumbprint "`+other+`", which is that of another`)

	d.SetTXT("_acme-challenge.a.lab.test", digestOf(other))
	_, err = v.Validate(context.Background(), task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.Denied, "wrong_txt", "is not "+digestOf(testKeyAuth))
	wantFault(t, err, fault.Denied, "wrong_txt", `it is "`+digestOf(other)+`"`)

	cert := alpnSpec{keyAuth: other, names: []string{"a.lab.test"}}.certificate(t)
	tlsPort, _, _ := alpnServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{acmeALPN}})
	v = newValidator(t, d, func(c *Config) { c.TLSPort = tlsPort })
	_, err = v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "alpn_certificate", "at 127.0.0.1 has an acmeIdentifier")
	wantFault(t, err, fault.IncorrectResponse, "alpn_certificate", fmt.Sprintf("want the DER 0420%x",
		sha256.Sum256([]byte(testKeyAuth))))
	wantFault(t, err, fault.IncorrectResponse, "alpn_certificate", fmt.Sprintf(`not "0420%x"`,
		sha256.Sum256([]byte(other))))

	cert = alpnSpec{keyAuth: testKeyAuth, names: []string{"b.lab.test"}}.certificate(t)
	tlsPort, _, _ = alpnServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{acmeALPN}})
	v = newValidator(t, d, func(c *Config) { c.TLSPort = tlsPort })
	_, err = v.Validate(context.Background(), task(TLSALPN01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "alpn_certificate",
		`the one name "a.lab.test" in its subjectAltName, but "b.lab.test"`)
}

// TestFR17_StatusNamesTheAddress, because IPv6 may lead to another machine.
func TestFR17_StatusNamesTheAddress(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "a.lab.test. IN AAAA ::1", "a.lab.test. IN A 127.0.0.1")
	port := webServer(t, "::1", text(404, "x"))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "http_status", "at ::1 answered with status 404")
}

// TestFR17_ManyTXTRecords: as many as DNS can carry.
func TestFR17_ManyTXTRecords(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	const name = "_acme-challenge.a.lab.test"
	for i := range 600 {
		d.SetTXT(name, fmt.Sprintf("%043d", i))
	}
	v := newValidator(t, d, nil)
	_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.Denied, "wrong_txt", "none of the 600 TXT records")
	d.SetTXT(name, digestOf(testKeyAuth))
	if _, err := v.Validate(context.Background(), task(DNS01, "a.lab.test")); err != nil {
		t.Error(err)
	}
}

// TestFR17_WithoutEDNS: servers that know no EDNS are asked without it.
func TestFR17_WithoutEDNS(t *testing.T) {
	t.Parallel()
	for _, rcode := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		d := dnstest.Start(t)
		const name = "_acme-challenge.a.lab.test"
		d.SetFault(name, dnstest.Fault{NoEDNS: rcode})
		v := newValidator(t, d, nil)
		for i := range 20 { // too long for UDP without EDNS
			d.SetTXT(name, fmt.Sprintf("%060d", i))
		}
		d.SetTXT(name, digestOf(testKeyAuth))
		if _, err := v.Validate(context.Background(), task(DNS01, "a.lab.test")); err != nil {
			t.Errorf("%s: %v", dns.RcodeToString[rcode], err)
		}
		d.SetFault(name, dnstest.Fault{Rcode: rcode})
		_, err := v.Validate(context.Background(), task(DNS01, "a.lab.test"))
		wantFault(t, err, fault.DNS, "bad_answer", dns.RcodeToString[rcode])
	}
}
