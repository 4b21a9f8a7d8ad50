package challenge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/dnstest"
)

const wellKnown = "/.well-known/acme-challenge/" + testToken

// webServer serves h on a loopback address and returns the port.
func webServer(t testing.TB, host string, h http.HandlerFunc) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("cannot listen on %s: %v", host, err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return portOf(t, l.Addr().String())
}

// tlsServer is webServer with TLS.
func tlsServer(t *testing.T, h http.HandlerFunc) int {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return portOf(t, s.Listener.Addr().String())
}

func TestACME_A52_Request(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	var got *http.Request
	port := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "application/octet-stream") // ignored
		_, _ = fmt.Fprint(w, testKeyAuth+" \r\n\t\n")
	})
	v := newValidator(t, d, func(c *Config) { c.HTTPPort = port })
	rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	if err != nil {
		t.Fatalf("Validate: %v", err)
	}
	if got.Method != "GET" || got.URL.Path != wellKnown || got.Host != "a.lab.test" || got.Header.Get("Accept") != "*/*" {
		t.Errorf("request %s %s, Host %q, Accept %q", got.Method, got.URL, got.Host, got.Header.Get("Accept"))
	}
	if got.Header.Get("Accept-Encoding") != "" || got.Header.Get("Cookie") != "" || got.Header.Get("Authorization") != "" {
		t.Errorf("request carries %v", got.Header)
	}
	local := netip.MustParseAddr("127.0.0.1")
	want := Record{Type: HTTP01, At: testTime, CAA: caaSkipped, Hops: []Hop{{
		URL: "http://a.lab.test" + wellKnown, Resolved: []netip.Addr{local}, Tried: []netip.Addr{local}, Used: local,
	}}}
	if diff := cmp.Diff(want, rec, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestACME_A52_WrongAnswers(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   fault.Kind
		reason string
		part   string
	}{
		{"other body", text(200, "<html>no secrets\x1b[31m</html>"), fault.IncorrectResponse, "wrong_key_authorization", `but "<html>no secrets?[31m</html>"`},
		{"nothing", text(200, ""), fault.IncorrectResponse, "wrong_key_authorization", `but ""`},
		{"white space in front", text(200, " "+testKeyAuth), fault.IncorrectResponse, "wrong_key_authorization", ""},
		{"key authorization and more", text(200, testKeyAuth+"x"), fault.IncorrectResponse, "wrong_key_authorization", ""},
		{"part of it", text(200, testKeyAuth[:50]), fault.IncorrectResponse, "wrong_key_authorization", ""},
		{"not found", text(404, testKeyAuth), fault.IncorrectResponse, "http_status", "status 404, want 200"},
		{"created", text(201, testKeyAuth), fault.IncorrectResponse, "http_status", "status 201"},
		{"too long", text(200, testKeyAuth+strings.Repeat(" ", maxBody)), fault.IncorrectResponse, "body_too_long", "longer than 512"},
		{"long header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
		}, fault.Connection, "", "header is too long"},
		{"hangs up", hangUp(""), fault.Connection, "", "closed without an answer"},
		{"not HTTP", hangUp("SSH-2.0-OpenSSH_9.2\r\n\r\n"), fault.Connection, "", "not HTTP"},
		{"short body", hangUp("HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\nabc"), fault.Connection, "", "read the answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := webServer(t, "127.0.0.1", c.answer)
			v := newValidator(t, d, func(cfg *Config) { cfg.HTTPPort = port })
			rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
			wantFault(t, err, c.kind, c.reason, c.part)
			if len(rec.Hops) != 1 {
				t.Errorf("record has %d hops, want the one that failed", len(rec.Hops))
			}
			if len(fault.Of(err).Detail) > 400 {
				t.Errorf("detail has %d characters", len(fault.Of(err).Detail))
			}
		})
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

// hangUp writes raw octets and closes the connection.
func hangUp(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte(raw))
			_ = conn.Close()
		}
	}
}

func TestACME_A52_Deadline(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	release := make(chan struct{})
	slow := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	trickle := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		for {
			_, _ = fmt.Fprint(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-release:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { close(release) })
	for name, port := range map[string]int{"no answer": slow, "an answer without end": trickle} {
		t.Run(name, func(t *testing.T) {
			v := newValidator(t, d, func(c *Config) { c.HTTPPort, c.Timeout = port, 300*time.Millisecond })
			start := time.Now()
			_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
			wantFault(t, err, fault.Connection, "", "timeout")
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestACME_A53_Redirects(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	var mu sync.Mutex
	var hosts []string
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hosts = append(hosts, r.Host)
		if r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("a redirected request carries %v", r.Header)
		}
	}
	secure := tlsServer(t, func(w http.ResponseWriter, r *http.Request) {
		note(r)
		_, _ = fmt.Fprint(w, testKeyAuth)
	})
	plain := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		note(r)
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		switch r.Host {
		case "a.lab.test":
			http.Redirect(w, r, "http://B.lab.test:80/here#part", http.StatusMovedPermanently)
		case "b.lab.test:80", "b.lab.test":
			if r.URL.Path == "/here" {
				http.Redirect(w, r, "there", http.StatusTemporaryRedirect)
				return
			}
			http.Redirect(w, r, "https://c.lab.test"+wellKnown, http.StatusPermanentRedirect)
		}
	})
	v := newValidator(t, d, func(c *Config) { c.HTTPPort, c.TLSPort = plain, secure })
	rec, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	if err != nil {
		t.Fatalf("Validate: %v", err)
	}
	var urls []string
	for _, h := range rec.Hops {
		urls = append(urls, h.URL)
	}
	want := []string{"http://a.lab.test" + wellKnown, "http://b.lab.test:80/here", "http://b.lab.test:80/there", "https://c.lab.test" + wellKnown}
	if diff := cmp.Diff(want, urls); diff != "" {
		t.Errorf("hops (-want +got):\n%s", diff)
	}
	if len(hosts) != 4 || hosts[3] != "c.lab.test" {
		t.Errorf("hosts %q", hosts)
	}
}

func TestACME_A53_RefusedRedirects(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	for _, c := range []struct {
		name, location string
		status         int
		kind           fault.Kind
		reason, part   string
	}{
		{"303", "http://a.lab.test/x", 303, fault.IncorrectResponse, "http_status", "status 303"},
		{"300", "http://a.lab.test/x", 300, fault.IncorrectResponse, "http_status", "status 300"},
		{"nowhere", "", 302, fault.Connection, "redirects", "without saying where"},
		{"other port", "http://a.lab.test:8080/", 302, fault.Connection, "redirects", `:8080/": only ports 80 and 443`},
		{"https on the http port", "https://a.lab.test:80/", 302, fault.Connection, "redirects",
			`:80/": only ports 80 and 443`},
		{"ftp", "ftp://a.lab.test/", 302, fault.Connection, "redirects", "only http and https"},
		{"file", "file:///etc/passwd", 302, fault.Connection, "redirects", "only http and https"},
		{"user", "http://user:pw@a.lab.test/", 302, fault.Connection, "redirects", "user names"},
		{"zone", "http://[fe80::1%25eth0]/", 302, fault.Connection, "redirects", "neither a domain name"},
		{"space", "http://a%20b.lab.test/", 302, fault.Connection, "redirects", ""},
		{"trailing dot", "http://a.lab.test./", 302, fault.Connection, "redirects", "neither a domain name"},
		{"no host", "http:///x", 302, fault.Connection, "redirects", "neither a domain name"},
		{"long", "http://a.lab.test/" + strings.Repeat("x", maxURI), 302, fault.Connection, "redirects", "longer than 2000"},
		{"long fragment", "http://a.lab.test/#" + strings.Repeat("x", maxURI), 302, fault.Connection, "redirects",
			"longer than 2000"},
		{"long once escaped", "http://a.lab.test/" + strings.Repeat(`"`, maxURI/2), 302, fault.Connection,
			"redirects", "longer than 2000"},
		{"circle", "http://a.lab.test" + wellKnown, 302, fault.Connection, "redirects", "circle"},
		{"to a refused address", "http://169.254.169.254/latest/meta-data", 302, fault.Connection, "address_refused", "link-local"},
		{"to an unlisted address", "http://10.1.2.3/", 302, fault.Connection, "address_refused", "not in allow_cidrs"},
		{"to a number", "http://2130706433/", 302, fault.DNS, "nxdomain", "NXDOMAIN"},
		{"to a name that leads inside", "http://inside.lab.test/", 302, fault.Connection, "address_refused", "10.9.9.9"},
		{"to a name that is none", "http://nowhere.example/", 302, fault.DNS, "nxdomain", "NXDOMAIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			port := webServer(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) {
				if c.location != "" {
					w.Header().Set("Location", c.location)
				}
				w.WriteHeader(c.status)
			})
			v := newValidator(t, d, func(cfg *Config) { cfg.HTTPPort = port })
			_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
			wantFault(t, err, c.kind, c.reason, c.part)
		})
	}
	d.Add(t, "inside.lab.test. IN A 10.9.9.9")
}

func TestACME_A53_TenRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	for _, last := range []int{maxRedirects, maxRedirects + 1} {
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			t.Parallel()
			n := 0
			port := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				if n++; n <= last {
					http.Redirect(w, r, fmt.Sprintf("/%d", n), http.StatusFound)
					return
				}
				_, _ = fmt.Fprint(w, testKeyAuth)
			})
			v := newValidator(t, d, func(cfg *Config) { cfg.HTTPPort = port })
			_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
			if last == maxRedirects {
				if err != nil {
					t.Errorf("%d redirects: %v", last, err)
				}
				return
			}
			wantFault(t, err, fault.Connection, "redirects", "more than 10")
		})
	}
}

func TestACME_A53_HTTPSFaults(t *testing.T) {
	t.Parallel()
	d := dnstest.Start(t)
	notTLS := webServer(t, "127.0.0.1", text(200, testKeyAuth))
	plain := webServer(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://a.lab.test/", http.StatusFound)
	})
	v := newValidator(t, d, func(cfg *Config) { cfg.HTTPPort, cfg.TLSPort = plain, notTLS })
	_, err := v.Validate(context.Background(), task(HTTP01, "a.lab.test"))
	wantFault(t, err, fault.TLS, "", "does not speak TLS")
}
