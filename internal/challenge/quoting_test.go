package challenge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/dnstest"
)

// twoHosts serves the identifier's host on 127.0.0.1 and an internal one on 127.0.0.2,
// at one port.
func twoHosts(t *testing.T, own, internal http.HandlerFunc) int {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		port := portOf(t, l.Addr().String())
		first, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = l.Close()
			continue
		}
		for l, h := range map[net.Listener]http.HandlerFunc{first: own, l: internal} {
			s := httptest.NewUnstartedServer(h)
			_ = s.Listener.Close()
			s.Listener = l
			s.Start()
			t.Cleanup(s.Close)
		}
		return port
	}
	t.Fatal("no port is free on both addresses")
	return 0
}

// TestFS11_NothingOfAnotherHostIsQuoted: neither its page nor its Location, nor what
// comes of following that.
func TestFS11_NothingOfAnotherHostIsQuoted(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	d := dnstest.Start(t)
	d.Add(t, "wiki.lab.test. IN A 127.0.0.2", "s3cret.lab.test. IN A 127.0.0.2")
	d.SetFault("gone-s3cret.lab.test", dnstest.Fault{Rcode: 3})
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}
	}
	for name, internal := range map[string]http.HandlerFunc{
		"page":               text(200, "the password is "+secret),
		"long page":          text(200, secret+strings.Repeat("x", maxBody)),
		"Location, no URL":   to("http://%zz/" + secret),
		"Location, scheme":   to("ldap://" + secret + ".lab.test/"),
		"Location, port":     to("http://" + secret + ".lab.test:8443/"),
		"Location, user":     to("http://u:" + secret + "@wiki.lab.test/"),
		"Location, host":     to("http://" + secret + "@!/"),
		"Location, no name":  to("http://gone-" + secret + ".lab.test/"),
		"Location, refused":  to("http://169.254.169.254/" + secret),
		"Location, followed": to("/login?session=" + secret),
		"Location, circle":   to("/" + wellKnown[1:] + "?" + secret),
		"Location, and back": to("http://a.lab.test/" + secret),
		"Location, TLS":      to("https://" + secret + ".lab.test/"),
		"status":             text(403, secret),
		"not HTTP":           hangUp(secret + "\r\n\r\n"),
		"header of the answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-"+secret, strings.Repeat("x", 2*maxHeader))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := twoHosts(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == wellKnown {
					http.Redirect(w, r, "http://wiki.lab.test"+wellKnown, http.StatusFound)
					return
				}
				http.Error(w, "own: "+r.URL.Path, http.StatusTeapot)
			}, internal)
			v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
			rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
			f := fault.Of(err)
			if f == nil || strings.Contains(f.Detail, secret) || !strings.Contains(f.Detail, "wiki.lab.test") {
				t.Errorf("%v", f)
			}
			if len(rec.Hops) < 2 || rec.Hops[1].Used != netip.MustParseAddr("127.0.0.2") {
				t.Errorf("the other host was not asked: %+v", rec.Hops)
			}
			if name == "Location, no name" && !strings.Contains(f.Error(), secret) {
				t.Errorf("the log does not tell the cause: %s", f.Error())
			}
		})
	}
}

// TestFS11_OwnPageIsQuoted wherever a redirect leads at the identifier's own address.
func TestFS11_OwnPageIsQuoted(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	port := twoHosts(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "a.lab.test" {
			http.Redirect(w, r, "http://www.lab.test/here", http.StatusFound)
			return
		}
		_, _ = fmt.Fprint(w, "own page")
	}, text(200, "x"))
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.IncorrectResponse, "wrong_key_authorization", `"http://www.lab.test/here" at 127.0.0.1`)
	wantFault(t, err, fault.IncorrectResponse, "wrong_key_authorization", `"own page"`)
}

// TestFS11_Metadata: no range opens the addresses at which clouds keep secrets.
func TestFS11_Metadata(t *testing.T) {
	t.Parallel()
	ranges := []netip.Prefix{
		netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("168.63.129.0/24"), netip.MustParsePrefix("fd00:ec2::/31"),
		netip.MustParsePrefix("100.100.100.192/28"),
	}
	wide, err := newGuard(Config{AllowCIDRs: ranges}, nil)
	if err != nil {
		t.Fatal(err)
	}
	vet := func(g *guard, addr string) error { return g.vet(netip.AddrPortFrom(netip.MustParseAddr(addr), 80)) }
	for _, addr := range []string{
		"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "fd00:100::100:200",
		"fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1",
	} {
		if err := vet(wide, addr); err == nil || !strings.Contains(err.Error(), "metadata") {
			t.Errorf("%s in a range: %v", addr, err)
		}
		ip := netip.MustParseAddr(addr)
		named, err := newGuard(Config{AllowCIDRs: append(ranges, netip.PrefixFrom(ip, ip.BitLen()))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := vet(named, addr); err != nil {
			t.Errorf("%s by its name: %v", addr, err)
		}
		denied, err := newGuard(Config{
			AllowCIDRs: []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())},
			DenyCIDRs:  []netip.Prefix{netip.PrefixFrom(ip, 16).Masked()},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if vet(denied, addr) == nil {
			t.Errorf("%s is denied and dialled", addr)
		}
	}
	for _, addr := range []string{"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.23",
		"169.254.42.42", "192.0.0.192"} {
		if vet(wide, addr) == nil {
			t.Errorf("%s is dialled", addr)
		}
		if _, err := newGuard(Config{AllowCIDRs: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(addr), 32)}},
			nil); err == nil {
			t.Errorf("%s can be opened", addr)
		}
	}
	for _, addr := range []string{"fd00:ec3::1", "168.63.129.17", "100.100.100.201"} {
		if err := vet(wide, addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	// Webhooks have the same dialer.
	dialer, err := NewDialer(Config{AllowCIDRs: ranges}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := dialer.Client(nil, time.Second)
	t.Cleanup(client.CloseIdleConnections)
	if _, err := client.Get("http://100.100.100.200/"); err == nil || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("a webhook: %v", err)
	}
}
