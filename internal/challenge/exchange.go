package challenge

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

var errBadAnswer = errors.New("bad answer")

// query is one question.
type query struct {
	name      string // in lower case, with a trailing dot
	typ       uint16
	recursive bool // the server shall ask others
}

// exchange asks one server, by UDP and, if the answer is cut short, by TCP. A server
// that does not know EDNS is asked once more without it (RFC 6891, section 6.2.2).
func exchange(ctx context.Context, server string, q query) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	m := new(dns.Msg).SetQuestion(q.name, q.typ)
	m.RecursionDesired = q.recursive
	m.SetEdns0(udpSize, false)
	msg, err := byUDPOrTCP(ctx, server, m)
	if err == nil && refusesEDNS(msg) {
		m.Extra = nil
		msg, err = byUDPOrTCP(ctx, server, m)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	// A server that cannot read a question need not repeat it.
	if refusesEDNS(msg) && len(msg.Question) == 0 {
		return msg, nil
	}
	if !msg.Response || len(msg.Question) != 1 || !strings.EqualFold(msg.Question[0].Name, q.name) ||
		msg.Question[0].Qtype != q.typ {
		return nil, fmt.Errorf("%s: %w: not to our question", server, errBadAnswer)
	}
	if msg.Truncated {
		return nil, fmt.Errorf("%s: %w: larger than 64 KiB, or cut short by TCP too", server, errBadAnswer)
	}
	return msg, nil
}

// refusesEDNS reports whether a server answers so because of the OPT record.
func refusesEDNS(m *dns.Msg) bool {
	switch m.Rcode {
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		return m.Response
	}
	return false
}

func byUDPOrTCP(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	msg, err := roundTrip(ctx, "udp", server, m)
	if err == nil && msg.Truncated {
		return roundTrip(ctx, "tcp", server, m)
	}
	return msg, err
}

func roundTrip(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	c := &dns.Client{Net: network, UDPSize: udpSize, Timeout: dnsTimeout}
	conn, err := c.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	// The library minds the deadline of a context, but not its cancellation.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	msg, _, err := c.ExchangeWithConnContext(ctx, q, conn)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var parse *dns.Error
	switch {
	case err != nil && msg != nil && msg.Truncated && network == "udp":
		return msg, nil // cut inside a record: read no further, TCP will tell
	case errors.As(err, &parse):
		return nil, fmt.Errorf("%w: %w", errBadAnswer, err)
	}
	return msg, err
}
