package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// Bounds are how many connections may be open at a time; 0 is without limit. One more
// takes the place of that which waits for its next request longest, or is refused.
type Bounds struct {
	Total     int // of a listener
	PerSource int // of one address, or IPv6 network of 64 bits; proxies apart
}

// Connection is something that happened to a connection, for metrics.
type Connection struct {
	Listener string
	What     ConnectionEvent
	Reason   string // of Refused and HandshakeFailed; one of a few words
}

// ConnectionEvent is what can happen to a connection.
type ConnectionEvent int

// What happens to connections. Each that is Opened is Closed.
const (
	Opened ConnectionEvent = iota
	Closed
	Refused
	HandshakeFailed
)

// Reasons why a connection is refused.
const (
	refusedFull       = "listener_full"
	refusedSourceFull = "source_full"
	refusedPROXY      = "proxy_header"
)

// gate is a listener that counts and bounds connections, finds out who is behind a
// proxy, and hands on what is ready for a request: TLS is established.
type gate struct {
	net.Listener
	cfg    Config
	ready  chan accepted
	ctx    context.Context //nolint:containedctx // of the connections that get ready
	cancel context.CancelFunc
	all    sync.WaitGroup
	told   teller

	mu       sync.Mutex
	open     int
	bySource map[string]int
	idle     list.List // of *conn between two requests, longest first
}

type accepted struct {
	net.Conn
	err error
}

func newGate(ln net.Listener, cfg Config) *gate {
	g := &gate{Listener: ln, cfg: cfg, ready: make(chan accepted), bySource: map[string]int{}}
	g.told.now = cfg.Now
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.all.Go(g.run)
	return g
}

// run takes connections until the listener is closed.
func (g *gate) run() {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			g.hand(accepted{err: err})
			var failed net.Error
			if !errors.As(err, &failed) || !failed.Temporary() { //nolint:staticcheck // as net/http asks
				return
			}
			continue
		}
		counted := g.enter(c)
		switch {
		case counted == nil:
		case g.cfg.TLS == nil && !g.behind():
			g.hand(accepted{Conn: counted})
		default:
			g.all.Go(func() { g.prepare(counted) })
		}
	}
}

// hand gives a connection to the server that serves, which closes it.
func (g *gate) hand(a accepted) {
	select {
	case g.ready <- a:
	case <-g.ctx.Done():
		if a.Conn != nil {
			_ = a.Close()
		}
	}
}

// Accept returns the next connection that is ready.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case a := <-g.ready:
		return a.Conn, a.err
	case <-g.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close stops taking connections. Those that are not ready are closed.
func (g *gate) Close() error {
	g.cancel()
	return g.Listener.Close()
}

// prepare does what a connection needs before its first request, in a time that the
// header of a request has.
func (g *gate) prepare(c *conn) {
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Limits.ReadHeader)
	defer cancel()
	if g.behind() && !(g.readPROXY(ctx, c) && g.admit(c)) {
		return
	}
	if g.cfg.TLS == nil {
		g.hand(accepted{Conn: c})
		return
	}
	secured := tls.Server(c, g.cfg.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		g.tellHandshake(c, err)
		_ = c.Close()
		return
	}
	g.hand(accepted{Conn: secured})
}

// behind reports whether a header of the PROXY protocol may say who a client is.
func (g *gate) behind() bool { return len(g.cfg.Proxies.PROXY) > 0 }

// readPROXY reads the header of the PROXY protocol, which a trusted peer has to send
// and nobody else may.
func (g *gate) readPROXY(ctx context.Context, c *conn) bool {
	policy := proxyproto.REJECT
	if within(g.cfg.Proxies.PROXY, c.client) {
		policy = proxyproto.REQUIRE
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	p := proxyproto.NewConn(c.Conn, proxyproto.WithPolicy(policy), proxyproto.SetReadHeaderTimeout(0))
	if _, err := p.Read(nil); err != nil {
		g.refuse(c.client, refusedPROXY, err)
		_ = c.Close()
		return false
	}
	c.Conn = p
	if h := p.ProxyHeader(); h != nil && !h.Command.IsLocal() {
		if client := address(h.SourceAddr); client.IsValid() {
			c.client, c.proxied = client, true
		}
	}
	return true
}

// enter takes a connection into those of its client, if that is known already, and into
// the total of the listener. It closes it and returns nil where there are enough. The
// client comes first: somebody who has all that one source may have must not push
// others' idle connections out of the total.
func (g *gate) enter(raw net.Conn) *conn {
	c := &conn{Conn: raw, raw: raw, gate: g, client: address(raw.RemoteAddr())}
	if !g.behind() && !g.admit(c) || !g.count(c) {
		return nil
	}
	return c
}

// count takes a connection into the total of the listener, or closes it.
func (g *gate) count(c *conn) bool {
	most := g.cfg.Bounds.Total
	fits := g.take(func(*conn) bool { return true }, func() bool {
		if most > 0 && g.open >= most {
			return false
		}
		g.open++
		c.counted = true
		return true
	})
	if !fits {
		g.refuse(c.client, refusedFull, nil)
		_ = c.Close()
		return false
	}
	g.observe(Opened, "")
	return true
}

// take calls try, with the lock held, until it succeeds, and closes an idle connection
// of those that may go before each further call. It reports whether try succeeded.
func (g *gate) take(mayGo func(*conn) bool, try func() bool) bool {
	for {
		g.mu.Lock()
		if try() {
			g.mu.Unlock()
			return true
		}
		var victim *conn
		for e := g.idle.Front(); e != nil && victim == nil; e = e.Next() {
			if c, ok := e.Value.(*conn); ok && mayGo(c) {
				victim = c
			}
		}
		g.mu.Unlock()
		if victim == nil {
			return false
		}
		_ = victim.Close()
	}
}

// state follows which connections wait for their next request.
func (g *gate) state(c net.Conn, state http.ConnState) {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	counted, ok := c.(*conn)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy(counted)
	if state == http.StateIdle && !counted.gone {
		counted.waits = g.idle.PushBack(counted)
	}
}

// busy takes a connection out of those that wait.
func (g *gate) busy(c *conn) {
	if c.waits != nil {
		g.idle.Remove(c.waits)
		c.waits = nil
	}
}

// admit takes a connection into those of its client, or closes it.
func (g *gate) admit(c *conn) bool {
	most, proxies := g.cfg.Bounds.PerSource, g.cfg.Proxies
	peer := address(c.raw.RemoteAddr())
	if most == 0 || !c.client.IsValid() || within(proxies.Forwarded, c.client) ||
		!c.proxied && within(proxies.PROXY, peer) {
		return true
	}
	source := Source(c.client)
	fits := g.take(func(other *conn) bool { return other.source == source }, func() bool {
		if g.bySource[source] >= most {
			return false
		}
		g.bySource[source]++
		c.source = source
		return true
	})
	if !fits {
		g.refuse(c.client, refusedSourceFull, nil)
		_ = c.Close()
	}
	return fits
}

func (g *gate) closed(c *conn) {
	g.mu.Lock()
	if c.counted {
		g.open--
	}
	g.busy(c)
	c.gone = true
	if c.source != "" {
		if g.bySource[c.source]--; g.bySource[c.source] == 0 {
			delete(g.bySource, c.source)
		}
	}
	g.mu.Unlock()
	if c.counted {
		g.observe(Closed, "")
	}
}

func (g *gate) observe(what ConnectionEvent, reason string) {
	if g.cfg.ObserveConnection != nil {
		g.cfg.ObserveConnection(Connection{Listener: g.cfg.Name, What: what, Reason: reason})
	}
}

// refuse tells of a connection that is closed unserved.
func (g *gate) refuse(client netip.Addr, reason string, err error) {
	g.observe(Refused, reason)
	level, attrs := slog.LevelWarn, []slog.Attr{slog.String("reason", reason)}
	if err != nil { // the client's doing
		level = slog.LevelInfo
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	g.tell(level, "connection refused", client, attrs...)
}

// tell writes a line about a client's connection, unless it wrote one of the kind a
// short time ago.
func (g *gate) tell(level slog.Level, what string, client netip.Addr, attrs ...slog.Attr) {
	if unsaid, ok := g.told.may(what + Source(client)); ok {
		attrs = append(attrs, slog.String("listener", g.cfg.Name), slog.String("remote", client.String()))
		if unsaid > 0 {
			attrs = append(attrs, slog.Int("not_logged_before", unsaid))
		}
		g.cfg.Log.LogAttrs(g.ctx, level, what, attrs...)
	}
}

// conn is a connection that is counted until it is closed.
type conn struct {
	net.Conn
	raw     net.Conn
	gate    *gate
	client  netip.Addr
	source  string // under which it is counted, if it is
	proxied bool   // a proxy has told who the client is
	once    sync.Once

	// Of the gate, guarded by its lock.
	counted bool // in the total
	waits   *list.Element
	gone    bool
}

// RemoteAddr is the client's address.
func (c *conn) RemoteAddr() net.Addr {
	if c.proxied {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.client, 0))
	}
	return c.raw.RemoteAddr()
}

func (c *conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// CloseWrite lets a client read an answer to its end before the connection is closed.
func (c *conn) CloseWrite() error {
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and counts it no more.
func (c *conn) Close() error {
	err := c.raw.Close()
	c.once.Do(func() { c.gate.closed(c) })
	if err != nil {
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}
