package challenge

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/dnstest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken   = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	testKeyAuth = testToken + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	testAccount = "https://ca.lab.test/acme/default/acct/1"
)

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
	testTime  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

// newValidator returns a validator that asks d and may dial loopback.
func newValidator(t testing.TB, d *dnstest.Server, change func(*Config)) *Validator {
	t.Helper()
	cfg := Config{AllowCIDRs: []netip.Prefix{loopback4, loopback6}, CAA: CAANever, HTTPPort: 1, TLSPort: 1}
	if d != nil {
		cfg.Resolver = d.Addr()
	}
	if change != nil {
		change(&cfg)
	}
	v, err := New(cfg, nil, func() time.Time { return testTime })
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return v
}

func task(typ, name string) Task {
	id := pki.Identifier{Type: pki.DNS, Value: name}
	if _, err := netip.ParseAddr(name); err == nil {
		id.Type = pki.IP
	}
	return Task{Type: typ, Identifier: id, Token: testToken, KeyAuthorization: testKeyAuth, AccountURI: testAccount}
}

// portOf returns the port of an address or URL host.
func portOf(t testing.TB, hostport string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(hostport)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantFault checks a fault's kind, reason and a part of its detail.
func wantFault(t *testing.T, err error, kind fault.Kind, reason, part string) {
	t.Helper()
	f := fault.Of(err)
	if f == nil {
		t.Fatalf("no error, want %s", kind)
	}
	if f.Kind != kind || f.Reason != reason || !strings.Contains(f.Detail, part) {
		t.Errorf("error %s/%s %q, want %s/%s with %q (cause %v)", f.Kind, f.Reason, f.Detail, kind, reason, part, f.Err)
	}
}

func TestOffered(t *testing.T) {
	for _, c := range []struct {
		name string
		id   pki.Identifier
		wild bool
		want []string
	}{
		{"A37 http-01 comes first", pki.Identifier{Type: pki.DNS, Value: "a.test"}, false, []string{HTTP01, DNS01, TLSALPN01}},
		{"A56 wildcards by DNS only", pki.Identifier{Type: pki.DNS, Value: "a.test"}, true, []string{DNS01}},
		{"A58 addresses never by DNS", pki.Identifier{Type: pki.IP, Value: "10.0.0.1"}, false, []string{HTTP01, TLSALPN01}},
		{"A58 no wildcard address", pki.Identifier{Type: pki.IP, Value: "10.0.0.1"}, true, nil},
		{"other types", pki.Identifier{Type: pki.Email, Value: "a@b.test"}, false, nil},
	} {
		if diff := cmp.Diff(c.want, Offered(c.id, c.wild)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestValidateRefusesWhatIsNotOffered(t *testing.T) {
	t.Parallel()
	v := newValidator(t, nil, nil)
	wild := task(HTTP01, "a.lab.test")
	wild.Wildcard = true
	_, err := v.Validate(context.Background(), wild)
	wantFault(t, err, fault.Malformed, "", "http-01 cannot validate *.a.lab.test")
	if id := fault.Of(err).Identifier; id.Value != "*.a.lab.test" {
		t.Errorf("the fault is about %+v", id)
	}
	_, err = v.Validate(context.Background(), task(DNS01, "10.0.0.1"))
	wantFault(t, err, fault.Malformed, "", "dns-01 cannot validate 10.0.0.1")
	_, err = v.Validate(context.Background(), task("dns-02", "a.lab.test"))
	wantFault(t, err, fault.Malformed, "", "dns-02 cannot")
}

func TestNewRefusesBadConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"port", Config{HTTPPort: 70000}, "http_port: 70000"},
		{"negative port", Config{TLSPort: -1}, "tls_port: -1"},
		{"timeout", Config{Timeout: -time.Second}, "negative"},
		{"caa", Config{CAA: "sometimes"}, `caa: "sometimes"`},
		{"identity", Config{CAAIdentities: []string{"ca example"}}, `"ca example" is not a domain name`},
		{"resolver", Config{Resolver: ":53"}, "not HOST:PORT"},
		{"everything", Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, "wider than"},
		{"never", Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}}, "never dialled"},
		{"no prefix", Config{AllowCIDRs: []netip.Prefix{{}}}, "not a prefix"},
		{"no deny prefix", Config{DenyCIDRs: []netip.Prefix{{}}}, "not a prefix"},
	} {
		_, err := New(c.cfg, nil, time.Now)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestValidateInterrupted(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.SetFault("_acme-challenge.a.lab.test", dnstest.Fault{Silent: true})
	v := newValidator(t, d, nil)
	ctx, cancel := context.WithCancel(context.Background())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	start := time.Now()
	_, err := v.Validate(ctx, task(DNS01, "a.lab.test"))
	wantFault(t, err, fault.Unavailable, "", "interrupted")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestRecordIsJSON(t *testing.T) {
	rec := Record{Type: HTTP01, At: testTime, CAA: caaNone, Hops: []Hop{{
		URL:      "http://a.lab.test/x",
		Resolved: []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")},
		Tried:    []netip.Addr{netip.MustParseAddr("::1")},
		Used:     netip.MustParseAddr("::1"),
	}}}
	data, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"http-01","at":"2026-03-04T05:06:07Z","hops":[{"url":"http://a.lab.test/x",` +
		`"resolved":["::1","127.0.0.1"],"tried":["::1"],"used":"::1"}],"caa":"none"}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                  `"plain"`,
		"a\"b\\c\x00\x1b[2Jé\n":  `"a?b?c??[2J??"`,
		strings.Repeat("x", 500): `"` + strings.Repeat("x", maxQuote) + `…"`,
		"\xff\xfe":               `"??"`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}
