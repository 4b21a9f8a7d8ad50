package web

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// whoAmI answers with the address that limits and logs would show.
var whoAmI = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, Client(r).String())
})

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// say sends octets from an address of this machine and returns what is answered.
func say(t *testing.T, b bench, from string, octets ...[]byte) string {
	t.Helper()
	c := dialFrom(t, b, from)
	defer c.Close()
	for _, o := range octets {
		if _, err := c.Write(o); err != nil {
			t.Fatal(err)
		}
	}
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func dialFrom(t *testing.T, b bench, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func proxyHeader(t *testing.T, version byte, source string) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)),
		net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.80:80")))
	if strings.HasPrefix(source, "[") {
		h.TransportProtocol = proxyproto.TCPv6
		h.DestinationAddr = &net.TCPAddr{IP: net.ParseIP("2001:db8::80"), Port: 80}
	}
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

var ask = []byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

// TestFR20_PROXY: a balancer that is listed says who the client is, and has to;
// nobody else may.
func TestFR20_PROXY(t *testing.T) {
	t.Parallel()
	b := serve(t, whoAmI, func(c *Config) {
		c.Proxies = Proxies{PROXY: prefixes("127.0.0.1/32")}
		c.Limits.ReadHeader = 10 * time.Second
	})
	four, six := "198.51.100.7:4711", "[2001:db8::7]:4711"
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	for what, c := range map[string]struct {
		from string
		sent [][]byte
		want string // "" is closed without an answer
	}{
		"version 2":                     {"127.0.0.1", [][]byte{proxyHeader(t, 2, four), ask}, "198.51.100.7"},
		"version 2, IPv6":               {"127.0.0.1", [][]byte{proxyHeader(t, 2, six), ask}, "2001:db8::7"},
		"version 1":                     {"127.0.0.1", [][]byte{proxyHeader(t, 1, four), ask}, "198.51.100.7"},
		"the balancer's own":            {"127.0.0.1", [][]byte{local, ask}, "127.0.0.1"},
		"without a header":              {"127.0.0.1", [][]byte{ask}, ""},
		"a broken header":               {"127.0.0.1", [][]byte{local[:12], []byte("\x3f\x00\x00\x00"), ask}, ""},
		"two headers":                   {"127.0.0.1", [][]byte{local, local, ask}, "400 Bad Request"},
		"not listed":                    {"127.0.0.2", [][]byte{proxyHeader(t, 2, four), ask}, ""},
		"not listed, version 1":         {"127.0.0.2", [][]byte{proxyHeader(t, 1, four), ask}, ""},
		"not listed and not pretending": {"127.0.0.2", [][]byte{ask}, "127.0.0.2"},
	} {
		got := say(t, b, c.from, c.sent...)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: answered %q, want %q", what, got, c.want)
		}
	}
	seen := map[any]bool{}
	for _, l := range b.lines(t) {
		if l["msg"] == "connection refused" {
			seen[l["remote"]] = true
		}
		if l["msg"] == "request" && l["remote"] == "198.51.100.7" {
			seen["the client"] = true
		}
	}
	if !seen["127.0.0.1"] || !seen["127.0.0.2"] || !seen["the client"] {
		t.Errorf("the log shows %v", seen)
	}
}

func TestFR20_PROXYBeforeTLS(t *testing.T) {
	t.Parallel()
	var pair Pair
	pair.Set(certificate(t, 1))
	b := serve(t, whoAmI, func(c *Config) {
		c.TLS, c.Proxies = pair.Config(), Proxies{PROXY: prefixes("127.0.0.0/8")}
	})
	c := dialFrom(t, b, "127.0.0.1")
	defer c.Close()
	if _, err := c.Write(proxyHeader(t, 2, "198.51.100.7:4711")); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whose it is does not matter
	if _, err := secured.Write(ask); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(secured), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "198.51.100.7" {
		t.Errorf("the client is %s", body)
	}
}

// TestFR20_Forwarded: what trusted proxies wrote is followed from its end, and what
// stands left of it is not.
func TestFR20_Forwarded(t *testing.T) {
	t.Parallel()
	trusted := prefixes("127.0.0.1/32", "10.0.0.0/8", "2001:db8:1::/48")
	for header, cases := range map[string]map[string]string{
		XForwardedFor: {
			"":                                     "127.0.0.1",
			"198.51.100.7":                         "198.51.100.7",
			"203.0.113.9, 198.51.100.7":            "198.51.100.7",
			"198.51.100.7, 10.1.2.3":               "198.51.100.7",
			"10.9.9.9 ,10.1.2.3":                   "10.9.9.9",
			"198.51.100.7:4711,10.1.2.3:1":         "198.51.100.7",
			"[2001:db8::7]:4711":                   "2001:db8::7",
			"[2001:db8::7]":                        "2001:db8::7",
			"2001:db8::7, 2001:db8:1::1":           "2001:db8::7",
			"::ffff:198.51.100.7":                  "198.51.100.7",
			"nonsense":                             "127.0.0.1",
			"198.51.100.7, unknown, 10.1.2.3":      "10.1.2.3",
			"198.51.100.7,":                        "127.0.0.1",
			strings.Repeat("10.0.0.1,", 500) + "x": "127.0.0.1",
		},
		Forwarded: {
			"for=198.51.100.7": "198.51.100.7",
			`For="[2001:db8::7]:4711";proto=https;by=10.0.0.1`:      "2001:db8::7",
			`by="a,b;for=1.2.3.4" ; for=198.51.100.7, for=10.0.0.1`: "198.51.100.7",
			`for=203.0.113.9, for="198.51.100.7:80"`:                "198.51.100.7",
			`for=", for=198.51.100.7`:                               "198.51.100.7", // a quote left open by a stranger
			`for="x, for="[2001:db8::7]"`:                           "2001:db8::7",
			"for=unknown":                                           "127.0.0.1", "for=_hidden": "127.0.0.1", "proto=http": "127.0.0.1",
		},
	} {
		b := serve(t, whoAmI, func(c *Config) { c.Proxies = Proxies{Forwarded: trusted, Header: header} })
		for value, want := range cases {
			head := []byte("GET / HTTP/1.0\r\n" + header + ": " + value + "\r\n\r\n")
			for from, want := range map[string]string{"127.0.0.1": want, "127.0.0.2": "127.0.0.2"} {
				got := say(t, b, from, head)
				if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != want {
					t.Errorf("%s: %s from %s: %s, want %s", header, value, from, body, want)
				}
			}
		}
	}
	b := serve(t, whoAmI, nil)
	got := say(t, b, "127.0.0.1", []byte("GET / HTTP/1.0\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n"))
	if !strings.HasSuffix(got, "127.0.0.1") {
		t.Errorf("a header is believed that nobody asked for: %s", got)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := Source(netip.MustParseAddr(in)); got != want {
			t.Errorf("Source(%s) = %s, want %s", in, got, want)
		}
	}
}

// FuzzForwarded: a header is followed only through trusted proxies, and what stands
// left of a trusted proxy's word changes nothing.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"", "1.2.3.4", `for="[::1]:1";by=x, for=_a`, `for=",`, "10.0.0.1, 10.0.0.2"} {
		f.Add(seed)
	}
	peer := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, header string) {
		for name, own := range map[string]string{XForwardedFor: "198.51.100.7", Forwarded: `for="198.51.100.7"`} {
			p := Proxies{Forwarded: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Header: name}
			if got := p.client(peer, header); !got.IsValid() {
				t.Errorf("%s: %q has no client", name, header)
			}
			if got := p.client(peer, header+", "+own); got.String() != "198.51.100.7" {
				t.Errorf("%s: a stranger's %q made a proxy's word %s", name, header, got)
			}
		}
	})
}

// FuzzPROXY: nothing that a peer sends stops a listener or takes another peer's place
// unasked.
func FuzzPROXY(f *testing.F) {
	f.Add([]byte("PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\nGET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x00\x01\x00\x02"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := proxyproto.NewConn(octets{bytes.NewReader(sent)}, proxyproto.WithPolicy(proxyproto.REJECT))
		if _, err := c.Read(nil); err == nil && c.ProxyHeader() != nil {
			t.Error("a header of somebody who is not trusted is taken")
		}
		c = proxyproto.NewConn(octets{bytes.NewReader(sent)}, proxyproto.WithPolicy(proxyproto.REQUIRE))
		if _, err := c.Read(nil); err == nil && c.ProxyHeader() == nil {
			t.Error("no header, and the connection goes on")
		} else if h := c.ProxyHeader(); h != nil {
			_ = address(h.SourceAddr)
		}
	})
}

// octets is a connection that says what is given to it.
type octets struct{ *bytes.Reader }

func (octets) Write(p []byte) (int, error)      { return len(p), nil }
func (octets) Close() error                     { return nil }
func (octets) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (octets) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (octets) SetDeadline(time.Time) error      { return nil }
func (octets) SetReadDeadline(time.Time) error  { return nil }
func (octets) SetWriteDeadline(time.Time) error { return nil }
