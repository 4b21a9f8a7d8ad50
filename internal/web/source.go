package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Client returns the address of who sent a request: its peer or, where that is a
// trusted proxy, the one that the proxy tells (see Proxies). It is what limits,
// records and logs show. It is not valid for a unix socket.
func Client(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	return peer.Addr().Unmap().WithZone("")
}

// Source returns the name under which an address is counted: the address, or
// its network of 64 bits for IPv6, which is what one customer gets.
func Source(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	if client.Is6() {
		if network, err := client.Prefix(64); err == nil {
			return network.String()
		}
	}
	return client.String()
}

// remote is the client's address for the log.
func remote(r *http.Request) string {
	if client := Client(r); client.IsValid() {
		return client.String()
	}
	return r.RemoteAddr
}

// Headers that tell for whom a proxy asks.
const (
	XForwardedFor = "x-forwarded-for"
	Forwarded     = "forwarded" // RFC 7239
)

// Proxies are those whose word is taken for who a client is. Nobody is by default.
type Proxies struct {
	PROXY     []netip.Prefix // have to begin each connection with a header of the PROXY protocol
	Forwarded []netip.Prefix // add an address to Header
	Header    string         // XForwardedFor (the default) or Forwarded
}

func within(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// address is the IP address of a connection's end, not valid for a unix socket.
func address(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// resolved replaces the peer of a request by the client for whom a trusted proxy
// asks.
func (p Proxies) resolved(next http.Handler) http.Handler {
	if len(p.Forwarded) == 0 {
		return next
	}
	name := http.CanonicalHeaderKey(XForwardedFor)
	if p.Header == Forwarded {
		name = http.CanonicalHeaderKey(Forwarded)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := Client(r)
		if client := p.client(peer, strings.Join(r.Header.Values(name), ",")); client != peer {
			r = r.WithContext(r.Context()) // a shallow copy
			r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		}
		next.ServeHTTP(w, r)
	})
}

// client follows a header from its end, where the nearest proxy has written, for as
// long as it was written by a trusted one. What stands further left anybody can have
// sent.
func (p Proxies) client(peer netip.Addr, header string) netip.Addr {
	for within(p.Forwarded, peer) && header != "" {
		var last string
		header, last = cutLast(header, ',')
		if p.Header == Forwarded {
			last = forValue(last)
		}
		next, ok := hop(last)
		if !ok {
			break
		}
		peer = next
	}
	return peer
}

// forValue returns the value of for= in an element of Forwarded (RFC 7239, section
// 4), without quotes; "" if there is none.
func forValue(element string) string {
	for element != "" {
		var pair string
		element, pair = cutLast(element, ';')
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// cutLast cuts a list at its last separator that is not between quotes. It reads from
// the end, so that a quote that somebody left open further left swallows nothing that
// a proxy wrote after it.
func cutLast(list string, separator byte) (rest, last string) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == separator && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return "", list
}

// hop reads an address that may have a port, and brackets if it is of IPv6.
func hop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}
