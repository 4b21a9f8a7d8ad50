package challenge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
)

// Dialer connects to addresses that strangers name. A host is resolved once,
// every address is vetted, and the vetted address is dialled, so that a second
// DNS answer cannot lead elsewhere (RFC 8555, section 10.4). It never uses a
// proxy. It is safe for concurrent use.
type Dialer struct {
	guard     *guard
	dns       *resolver
	localhost bool
	timeout   time.Duration
	try       int // which of a host's addresses is the first
	dials     *atomic.Int64
}

// NewDialer returns a Dialer that keeps to cfg's resolver and address lists
// and never connects to own.
func NewDialer(cfg Config, own []netip.AddrPort) (*Dialer, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	g, err := newGuard(cfg, own)
	if err != nil {
		return nil, err
	}
	r, err := newResolver(cfg, g)
	if err != nil {
		return nil, err
	}
	return &Dialer{
		guard: g, dns: r, localhost: cfg.LocalhostIsLoopback, timeout: cfg.Timeout, dials: new(atomic.Int64),
	}, nil
}

// at returns the Dialer as it dials at the given attempt, counted from 0: another
// address each time, and another name server.
func (d *Dialer) at(try int) *Dialer {
	c := *d
	c.try, c.dns = try, d.dns.at(try)
	return &c
}

// DialContext connects to address, HOST:PORT, over TCP. It has the form that
// net/http asks for. Of a host with several addresses those that may not be
// dialled are left out, and one IPv6 and one IPv4 address are tried: others at each
// call.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fault.New(fault.Connection, "network %s is not dialled", network)
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.Wrap(fault.Connection, err, "the address is not HOST:PORT")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fault.Wrap(fault.Connection, err, "the port is not a number")
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var hop Hop
	return d.at(int(d.dials.Add(1)-1)).connect(ctx, strings.ToLower(host), uint16(port), true, &hop, nil)
}

// Client returns an HTTP client over the Dialer, for webhooks and the like. It
// follows no redirects and reads no proxy from the environment.
func (d *Dialer) Client(config *tls.Config, timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:            d.DialContext,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// connect resolves host, notes everything in hop and connects: to an IPv6 address,
// and only if that cannot be connected to and fallback is set, to an IPv4 address
// (A54). admit, unless nil, may refuse an address.
func (d *Dialer) connect(
	ctx context.Context, host string, port uint16, fallback bool, hop *Hop, admit func(netip.Addr) bool,
) (net.Conn, error) {
	if err := d.resolve(ctx, host, port, hop); err != nil {
		return nil, err
	}
	candidates := d.choose(hop.Resolved, hop.Refused, fallback)
	var first error
	for i, ip := range candidates {
		if admit != nil && !admit(ip) {
			return nil, fault.New(fault.Unavailable,
				"%s is at the address %s, at which too many validations are under way", host, ip).Because(reasonBusy)
		}
		hop.Tried = append(hop.Tried, ip)
		conn, err := d.dial(ctx, netip.AddrPortFrom(ip, port), len(candidates)-i)
		if err == nil {
			hop.Used = ip
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// resolve fills hop with the addresses of host. It fails unless at least one
// may be dialled.
func (d *Dialer) resolve(ctx context.Context, host string, port uint16, hop *Hop) error {
	addrs, err := d.lookup(ctx, host)
	if err != nil {
		return err
	}
	hop.Resolved = addrs
	var why error
	for _, ip := range addrs {
		if err := d.guard.vet(netip.AddrPortFrom(ip, port)); err != nil {
			hop.Refused = append(hop.Refused, ip)
			why = err
		}
	}
	if len(hop.Refused) == len(addrs) {
		return fault.New(fault.Connection, "%s may not be connected to: %s", host, why.Error()).
			Because("address_refused")
	}
	return nil
}

// choose returns one usable IPv6 address and one usable IPv4 address, in that order;
// without both, one of all. Each attempt has others, as long as there are some:
// they are sorted, because name servers change the order as they like.
func (d *Dialer) choose(addrs, refused []netip.Addr, both bool) (chosen []netip.Addr) {
	var six, four []netip.Addr
	for _, ip := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		switch {
		case slices.Contains(refused, ip):
		case ip.Is6():
			six = append(six, ip)
		default:
			four = append(four, ip)
		}
	}
	families := [][]netip.Addr{six, four}
	if !both {
		families = [][]netip.Addr{append(six, four...)}
	}
	for _, f := range families {
		if len(f) > 0 {
			chosen = append(chosen, f[d.try%len(f)])
		}
	}
	return chosen
}

// lookup returns the addresses of host, which may be an address itself.
func (d *Dialer) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if d.localhost && isLocalhost(host) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	return d.dns.addresses(ctx, host)
}

// dial connects to one address. It vets it again, so that no path leads around
// the guard. left counts the addresses still to try, this one included: each
// gets its share of the time.
func (d *Dialer) dial(ctx context.Context, to netip.AddrPort, left int) (net.Conn, error) {
	if err := d.guard.vet(to); err != nil {
		return nil, fault.New(fault.Connection, "%s", err.Error()).Because("address_refused")
	}
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	var n net.Dialer
	conn, err := n.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fault.Wrap(fault.Connection, err, "connect to "+to.String()+": "+netReason(err))
	}
	return conn, nil
}

// netReason puts a network error into a few words without local addresses.
func netReason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "failed"
	}
}

// addresses returns the IPv6 and IPv4 addresses of a name. A family whose
// lookup fails counts as empty as long as the other has addresses.
func (r *resolver) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	type result struct {
		found
		err error
	}
	six := make(chan result, 1)
	go func() {
		f, err := r.lookup(ctx, name, dns.TypeAAAA)
		six <- result{f, err}
	}()
	v4, err4 := r.lookup(ctx, name, dns.TypeA)
	v6 := <-six
	all := append(addrsOf(v6.rrs), addrsOf(v4.rrs)...)
	switch {
	case len(all) > 0:
		return all, nil
	case err4 != nil:
		return nil, err4
	case v6.err != nil:
		return nil, v6.err
	default:
		return nil, fault.New(fault.DNS, "%s has no A and no AAAA record", v4.in(name)).Because("no_address")
	}
}

func addrsOf(rrs []dns.RR) []netip.Addr {
	var out []netip.Addr
	for _, rr := range rrs {
		var ip netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			ip, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			ip, _ = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if len(out) == maxAddresses {
			break
		}
		if ip.IsValid() && !slices.Contains(out, ip) {
			out = append(out, ip)
		}
	}
	return out
}
