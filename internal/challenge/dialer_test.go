package challenge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/dnstest"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestACME_A54_SixFirst(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "a.lab.test. IN AAAA ::1", "a.lab.test. IN A 127.0.0.1", "a.lab.test. IN A 127.0.0.2")
	six, four := netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")
	t.Run("IPv6 answers", func(t *testing.T) {
		port := webServer(t, "::1", text(200, testKeyAuth))
		v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
		rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
		if err != nil {
			t.Fatal(err)
		}
		if h := rec.Hops[0]; h.Used != six || len(h.Resolved) != 3 {
			t.Errorf("hop %+v", h)
		}
	})
	t.Run("one fallback when IPv6 refuses", func(t *testing.T) {
		port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
		v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
		rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]netip.Addr{six, four}, rec.Hops[0].Tried, cmpAddr); diff != "" || rec.Hops[0].Used != four {
			t.Errorf("tried (-want +got):\n%s used %s", diff, rec.Hops[0].Used)
		}
	})
	t.Run("no third address", func(t *testing.T) {
		port := webServer(t, "127.0.0.2", text(200, testKeyAuth))
		v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
		rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
		wantFault(t, err, fault.Connection, "", "connect to [::1]:")
		wantFault(t, err, fault.Connection, "", "connection refused")
		if len(rec.Hops[0].Tried) != 2 || rec.Hops[0].Used.IsValid() {
			t.Errorf("hop %+v", rec.Hops[0])
		}
	})
}

func TestACME_A54_NoFallbackAfterAnHTTPError(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "a.lab.test. IN AAAA ::1", "a.lab.test. IN A 127.0.0.1")
	asked := false
	six := webServer(t, "::1", text(500, "no"))
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", six))
	if err != nil {
		t.Skip("the port is taken on 127.0.0.1")
	}
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		_, _ = fmt.Fprint(w, testKeyAuth)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = six })
	_, err = v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "http_status", "status 500")
	if asked {
		t.Error("IPv4 was asked although IPv6 had answered")
	}
}

func TestACME_A54_NoFallbackOnALaterHop(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "b.lab.test. IN AAAA ::1", "b.lab.test. IN A 127.0.0.1")
	port := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "a.lab.test" {
			http.Redirect(w, r, "http://b.lab.test/", http.StatusFound)
			return
		}
		_, _ = fmt.Fprint(w, testKeyAuth)
	})
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.Connection, "", "connect to [::1]:")
}

func TestACME_A54_OneFamilyFails(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.SetFault("a.lab.test", dnstest.Fault{Type: dns.TypeAAAA, Rcode: dns.RcodeServerFailure})
	port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	if _, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test")); err != nil {
		t.Errorf("IPv4 is there, but: %v", err)
	}
	d.SetFault("a.lab.test", dnstest.Fault{Rcode: dns.RcodeServerFailure})
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.DNS, "servfail", "look up A of a.lab.test: SERVFAIL")
}

// TestACME_A55_Addresses goes through every range of the registries.
func TestACME_A55_Addresses(t *testing.T) {
	public := []string{"8.8.8.8", "1.0.0.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00::1", "2001:400::1"}
	openable := []string{
		"10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "172.16.0.1", "172.31.255.255",
		"192.168.1.1", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
		"::1", "2001:db8::1", "3fff::1", "fc00::1", "fdff::1",
	}
	never := []string{
		"0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "192.0.0.170", "192.88.99.1", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "255.255.255.255", "::", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::7f00:1", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:20::1", "2002:7f00:1::", "fe80::1", "febf::1", "fec0::1",
		"ff02::1", "5f00::1", "4000::1", "fe80::1%lo",
	}
	closed, err := newGuard(Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []netip.Prefix
	for _, b := range blocks {
		if b.open {
			all = append(all, b.prefix)
		}
	}
	open, err := newGuard(Config{AllowCIDRs: all}, nil)
	if err != nil {
		t.Fatal(err)
	}
	check := func(g *guard, addr string, want bool) {
		t.Helper()
		err := g.vet(netip.AddrPortFrom(netip.MustParseAddr(addr), 80))
		if (err == nil) != want {
			t.Errorf("%s: error %v, want allowed %t", addr, err, want)
		}
	}
	for _, a := range public {
		check(closed, a, true)
		check(open, a, true)
	}
	for _, a := range openable {
		check(closed, a, false)
		check(open, a, true)
	}
	for _, a := range never {
		check(closed, a, false)
		check(open, a, false)
	}
	if open.vet(netip.AddrPort{}) == nil {
		t.Error("the zero address is allowed")
	}
}

func TestACME_A55_AllowLessDeny(t *testing.T) {
	g, err := newGuard(Config{
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("fd12::/16")},
		DenyCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.9.0/24"), netip.MustParsePrefix("8.8.8.0/24")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, part := range map[string]string{
		"10.1.0.1": "", "10.1.255.1": "", "fd12::1": "",
		"10.2.0.1": "not in allow_cidrs", "10.1.9.5": "deny_cidrs", "8.8.8.8": "deny_cidrs", "fd13::1": "not in allow_cidrs",
	} {
		err := g.vet(netip.AddrPortFrom(netip.MustParseAddr(addr), 80))
		if (part == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%s: error %v, want %q", addr, err, part)
		}
	}
}

func TestACME_A55_OwnListeners(t *testing.T) {
	g, err := newGuard(Config{AllowCIDRs: []netip.Prefix{loopback4, loopback6, netip.MustParsePrefix("10.0.0.0/8")}}, []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:8443"), netip.MustParseAddrPort("[::]:9090"), netip.MustParseAddrPort("[::ffff:10.0.0.1]:80"),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.local = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.ParseIP("10.0.0.7"), Mask: net.CIDRMask(24, 32)}}, nil
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:8443": false, "127.0.0.1:5002": true, "10.0.0.7:8443": true,
		"10.0.0.7:9090": false, "127.0.0.1:9090": false, "[::1]:9090": false, "10.0.0.8:9090": true,
		"10.0.0.1:80": false, "10.0.0.1:443": true,
	} {
		if err := g.vet(netip.MustParseAddrPort(addr)); (err == nil) != want {
			t.Errorf("%s: error %v, want allowed %t", addr, err, want)
		}
	}
	g.local = func() ([]net.Addr, error) { return nil, io.ErrUnexpectedEOF }
	if g.vet(netip.MustParseAddrPort("10.0.0.8:9090")) == nil {
		t.Error("an address is dialled although our own are not known")
	}
}

// TestACME_A55_EveryAddressIsVetted mixes good and refused addresses.
func TestACME_A55_EveryAddressIsVetted(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	d.Add(t, "a.lab.test. IN AAAA ::ffff:7f00:1", "a.lab.test. IN A 169.254.169.254", "a.lab.test. IN A 127.0.0.1",
		"b.lab.test. IN A 10.0.0.1", "b.lab.test. IN AAAA fe80::1")
	port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	if err != nil {
		t.Fatal(err)
	}
	h := rec.Hops[0]
	if !slices.Contains(h.Refused, netip.MustParseAddr("169.254.169.254")) || len(h.Refused) != 2 || len(h.Tried) != 1 {
		t.Errorf("hop %+v", h)
	}
	rec, err = v.Validate(context.Background(), task(HTTP01, "b.lab.test"))
	wantFault(t, err, fault.Connection, "address_refused", "b.lab.test may not be connected to")
	if len(rec.Hops[0].Tried) != 0 {
		t.Errorf("tried %v", rec.Hops[0].Tried)
	}
}

// TestACME_A55_ResolvedOnce has a name that changes its address after the
// first answer: the vetted one is dialled.
func TestACME_A55_ResolvedOnce(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	if _, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test")); err != nil {
		t.Fatal(err)
	}
	if a, aaaa := d.Count("a.lab.test", dns.TypeA), d.Count("a.lab.test", dns.TypeAAAA); a != 1 || aaaa != 1 {
		t.Errorf("asked %d times for A and %d times for AAAA, want once each", a, aaaa)
	}
}

func TestACME_A55_ProxiesAreIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	d := dnstest.Start(t)
	port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	if _, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test")); err != nil {
		t.Fatal(err)
	}
}

func TestLocalhostIsLoopback(t *testing.T) {
	t.Parallel()
	port := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	d := dnstest.Start(t, "localhost")
	dev := newValidator(t, d, func(c *Config) { c.HTTPPort, c.LocalhostIsLoopback, c.CAA = port, true, CAAAlways })
	for _, name := range []string{"localhost", "a.b.localhost"} {
		rec, err := dev.Validate(context.Background(), task(HTTP01, name))
		if err != nil || rec.CAA != caaSkipped {
			t.Errorf("%s: %v, CAA %q", name, err, rec.CAA)
		}
	}
	if n := d.Count("localhost", dns.TypeA) + d.Count("a.b.localhost", dns.TypeCAA); n != 0 {
		t.Errorf("DNS was asked %d times", n)
	}
	if isLocalhost("notlocalhost") {
		t.Error("notlocalhost counts as localhost")
	}
	serve := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	if _, err := serve.Validate(context.Background(), task(HTTP01, "a.localhost")); err != nil {
		t.Errorf("outside of dev: %v", err)
	}
	if d.Count("a.localhost", dns.TypeA) != 1 {
		t.Error("outside of dev localhost is an ordinary name, but DNS was not asked")
	}
}

func TestDialContext(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	port := webServer(t, "127.0.0.1", text(200, "x"))
	dialer := newValidator(t, d, nil).Dialer()
	conn, err := dialer.DialContext(context.Background(), "tcp", fmt.Sprintf("A.lab.test:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	for _, c := range []struct{ network, address, part string }{
		{"udp", "a.lab.test:80", "network udp"},
		{"unix", "/run/x.sock", "network unix"},
		{"tcp", "a.lab.test", "not HOST:PORT"},
		{"tcp", "a.lab.test:http", "not a number"},
		{"tcp", "a.lab.test:65536", "not a number"},
		{"tcp", "169.254.169.254:80", "link-local"},
		{"tcp", "127.0.0.1:1", "connection refused"},
	} {
		_, err := dialer.DialContext(context.Background(), c.network, c.address)
		f := fault.Of(err)
		if f == nil || f.Kind != fault.Connection || !strings.Contains(f.Detail, c.part) {
			t.Errorf("%s %s: %v, want %q", c.network, c.address, err, c.part)
		}
	}
	if _, err := dialer.dial(context.Background(), netip.MustParseAddrPort("10.0.0.1:80"), 1); fault.Of(err).Reason != "address_refused" {
		t.Errorf("dial does not vet: %v", err)
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	port := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://10.0.0.1/", http.StatusFound)
	})
	client := newValidator(t, d, nil).Dialer().Client(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, 5*time.Second)
	t.Cleanup(client.CloseIdleConnections)
	resp, err := client.Get(fmt.Sprintf("https://hook.lab.test:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusFound {
		t.Errorf("status %d: the redirect was followed", resp.StatusCode)
	}
	if _, err := client.Get("http://10.0.0.1/"); err == nil || !strings.Contains(err.Error(), "allow_cidrs") {
		t.Errorf("a refused address: %v", err)
	}
}

// TestFirstAddressLeavesTime has an IPv6 address that swallows the connection:
// half of the time is left for IPv4.
func TestDialSharesTheTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d := newValidator(t, nil, nil).Dialer()
	port := webServer(t, "127.0.0.1", text(200, "x"))
	conn, err := d.dial(ctx, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), 2)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	expired, stop := context.WithTimeout(context.Background(), time.Nanosecond)
	defer stop()
	<-expired.Done()
	_, err = d.dial(expired, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), 2)
	wantFault(t, err, fault.Connection, "", "timeout")
}
