package web

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"testing"
)

// connections counts what a listener tells of its connections.
type connections struct {
	mu     sync.Mutex
	counts map[ConnectionEvent]int
	why    map[string]int
}

func (n *connections) observe(c Connection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counts == nil {
		n.counts, n.why = map[ConnectionEvent]int{}, map[string]int{}
	}
	n.counts[c.What]++
	n.why[c.Reason]++
}

func (n *connections) of(why string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.why[why]
}

// idleClient is a connection that has had one answer and is kept.
func idleClient(t *testing.T, b bench, from string) net.Conn {
	t.Helper()
	c := dialFrom(t, b, from)
	t.Cleanup(func() { _ = c.Close() })
	if !answered(t, c) {
		t.Fatalf("%s is not answered", from)
	}
	return c
}

func answered(t *testing.T, c net.Conn) bool {
	t.Helper()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// TestFS14_Bounds: a listener has so many connections, and an address so many of them.
// Who only waits makes room; who is served, or has not asked yet, does not.
func TestFS14_Bounds(t *testing.T) {
	t.Parallel()
	var seen connections
	release, held := make(chan struct{}), make(chan struct{}, 8)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			held <- struct{}{}
			<-release
		}
	})
	b := serve(t, h, func(c *Config) {
		c.Bounds, c.ObserveConnection = Bounds{Total: 4, PerSource: 2}, seen.observe
	})
	hold := func(from string) net.Conn {
		c := dialFrom(t, b, from)
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write([]byte("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		<-held
		return c
	}
	first := idleClient(t, b, "127.0.0.1")
	second := idleClient(t, b, "127.0.0.1")
	third := idleClient(t, b, "127.0.0.1") // takes the place of the first
	if answered(t, first) || !answered(t, second) || !answered(t, third) {
		t.Error("of one address the longest idle connection has to go, and no other")
	}
	hold("127.0.0.2")
	hold("127.0.0.2")
	if c := dialFrom(t, b, "127.0.0.2"); answered(t, c) {
		t.Error("a third connection of an address whose two are served")
	}
	if seen.of("source_full") == 0 || seen.of("listener_full") != 0 {
		t.Errorf("told: %v", seen.why)
	}
	hold("127.0.0.3") // in the places of the idle ones
	hold("127.0.0.3")
	if answered(t, second) || answered(t, third) {
		t.Error("idle connections are kept in a full listener")
	}
	if c := dialFrom(t, b, "127.0.0.4"); answered(t, c) || seen.of("listener_full") == 0 {
		t.Errorf("a fifth connection of four: %v", seen.why)
	}
	close(release)
}

// TestFS14_ASourceThatIsFullPushesNobodyOut: where a listener is full, a connection of
// somebody who has all that one source may have does not end another's idle one before
// it is refused.
func TestFS14_ASourceThatIsFullPushesNobodyOut(t *testing.T) {
	t.Parallel()
	var seen connections
	release, held := make(chan struct{}), make(chan struct{}, 8)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			held <- struct{}{}
			<-release
		}
	})
	b := serve(t, h, func(c *Config) {
		c.Bounds, c.ObserveConnection = Bounds{Total: 4, PerSource: 2}, seen.observe
	})
	defer close(release)
	first, second := idleClient(t, b, "127.0.0.1"), idleClient(t, b, "127.0.0.1")
	for range 2 {
		c := dialFrom(t, b, "127.0.0.2")
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write([]byte("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		<-held
	}
	for range 3 {
		if c := dialFrom(t, b, "127.0.0.2"); answered(t, c) {
			t.Error("a third connection of an address whose two are served")
		}
	}
	if !answered(t, first) || !answered(t, second) || seen.of("source_full") != 3 {
		t.Errorf("others' idle connections went first: %v", seen.why)
	}
}

// TestFS14_ClientsBehindABalancer are counted one by one.
func TestFS14_ClientsBehindABalancer(t *testing.T) {
	t.Parallel()
	b := serve(t, whoAmI, func(c *Config) {
		c.Bounds = Bounds{PerSource: 1}
		c.Proxies = Proxies{PROXY: prefixes("127.0.0.1/32")}
	})
	open := func(client string) net.Conn {
		c := dialFrom(t, b, "127.0.0.1")
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(proxyHeader(t, 2, client+":1")); err != nil {
			t.Fatal(err)
		}
		if !answered(t, c) {
			t.Fatalf("%s is not answered", client)
		}
		return c
	}
	one, two := open("198.51.100.1"), open("198.51.100.2")
	again := open("198.51.100.1")
	if answered(t, one) || !answered(t, two) || !answered(t, again) {
		t.Error("the first client has one connection, its newest; the second has its own")
	}
}
