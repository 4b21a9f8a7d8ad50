package challenge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
)

// Limits of DNS. A UDP answer has at most udpSize octets (the size that passes
// unfragmented everywhere); a larger one is asked for again over TCP.
const (
	udpSize    = 1232
	maxAnswers = 256 // records in one answer
	maxAliases = 10  // CNAMEs followed for one question
	dnsTimeout = 2500 * time.Millisecond
	dnsTries   = 2
	resolvConf = "/etc/resolv.conf"
)

// resolver asks recursive name servers. It caches nothing, since a client sets
// a record and asks for validation within a second (A56).
type resolver struct {
	fixed string // HOST:PORT; empty reads conf
	conf  string
}

func newResolver(address string) (*resolver, error) {
	if address == "" {
		return &resolver{conf: resolvConf}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil { // no port, or a bare IPv6 address
		host, port = strings.Trim(address, "[]"), "53"
	}
	if host == "" || port == "" || port == "0" {
		return nil, fmt.Errorf("resolver %q is not HOST:PORT", address)
	}
	return &resolver{fixed: net.JoinHostPort(host, port)}, nil
}

// servers returns the name servers to ask. The system's list is read each
// time: a laptop changes networks while the server runs.
func (r *resolver) servers() ([]string, error) {
	if r.fixed != "" {
		return []string{r.fixed}, nil
	}
	conf, err := dns.ClientConfigFromFile(r.conf)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.conf, err)
	}
	if len(conf.Servers) == 0 {
		return nil, fmt.Errorf("%s names no name server", r.conf)
	}
	var list []string
	for _, s := range conf.Servers {
		list = append(list, net.JoinHostPort(s, conf.Port))
	}
	return list, nil
}

// lookup returns the records of one type at a name, CNAMEs followed; none and
// no error where the name exists without such records. Faults are of kind DNS
// with one of the reasons nxdomain, servfail, refused, timeout, bad_answer.
func (r *resolver) lookup(ctx context.Context, name string, typ uint16) ([]dns.RR, error) {
	question := strings.ToLower(dns.Fqdn(name))
	if _, ok := dns.IsDomainName(question); !ok || len(question) > 254 {
		return nil, fault.New(fault.DNS, "%s is not a name that DNS can hold", quote(name)).Because("bad_name")
	}
	for aliases := 0; ; {
		msg, err := r.ask(ctx, question, typ)
		if err != nil {
			return nil, err
		}
		final, n := follow(msg.Answer, question)
		if aliases += n; aliases > maxAliases {
			return nil, dnsFault(name, typ, "bad_answer", fmt.Sprintf("more than %d CNAME records in a row", maxAliases), nil)
		}
		found := recordsAt(msg.Answer, final, typ)
		if len(found) > 0 {
			return found, nil
		}
		if err := rcodeFault(name, typ, msg.Rcode); err != nil {
			return nil, err
		}
		if final == question { // nothing there, or nothing more to follow
			return nil, nil
		}
		question = final
	}
}

// follow walks the CNAME records of an answer from name and returns where they
// lead and how many there were. It stops after too many.
func follow(answer []dns.RR, name string) (string, int) {
	for n := 0; ; n++ {
		next := ""
		for _, rr := range answer {
			if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(c.Hdr.Name, name) {
				next = strings.ToLower(c.Target)
				break
			}
		}
		if next == "" || n > maxAliases {
			return name, n
		}
		name = next
	}
}

func recordsAt(answer []dns.RR, name string, typ uint16) []dns.RR {
	var found []dns.RR
	for _, rr := range answer {
		h := rr.Header()
		if h.Rrtype == typ && h.Class == dns.ClassINET && strings.EqualFold(h.Name, name) {
			found = append(found, rr)
		}
	}
	return found
}

// ask sends one question. What fails on the way is tried once more, with the
// next name server if there is one; an answer, whatever it says, is final.
func (r *resolver) ask(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, fault.Wrap(fault.DNS, err, "no name server is configured").Because("no_resolver")
	}
	var last error
	for i := range dnsTries {
		msg, err := exchange(ctx, servers[i%len(servers)], name, typ)
		if err == nil {
			return msg, nil
		}
		last = err
		if ctx.Err() != nil || errors.Is(err, errBadAnswer) {
			break
		}
	}
	if errors.Is(last, errBadAnswer) {
		return nil, dnsFault(name, typ, "bad_answer", "the name server's answer is not usable", last)
	}
	if netReason(last) == "timeout" || ctx.Err() != nil {
		return nil, dnsFault(name, typ, "timeout", "timeout", last)
	}
	return nil, dnsFault(name, typ, "unreachable", "the name server could not be asked", last)
}

var errBadAnswer = errors.New("bad answer")

// exchange asks one server, by UDP and, if the answer is cut short, by TCP.
func exchange(ctx context.Context, server, name string, typ uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	q := new(dns.Msg).SetQuestion(name, typ)
	q.SetEdns0(udpSize, false)
	msg, err := roundTrip(ctx, "udp", server, q)
	if err == nil && msg.Truncated {
		msg, err = roundTrip(ctx, "tcp", server, q)
	}
	if err != nil {
		return nil, err
	}
	if !msg.Response || len(msg.Question) != 1 || !strings.EqualFold(msg.Question[0].Name, name) ||
		msg.Question[0].Qtype != typ {
		return nil, fmt.Errorf("%w: not to our question", errBadAnswer)
	}
	if msg.Truncated || len(msg.Answer) > maxAnswers {
		return nil, fmt.Errorf("%w: too large", errBadAnswer)
	}
	return msg, nil
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

// rcodeFault turns a failed answer into a fault.
func rcodeFault(name string, typ uint16, rcode int) error {
	switch rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNameError:
		return dnsFault(name, typ, "nxdomain", "NXDOMAIN, the name does not exist", nil)
	case dns.RcodeServerFailure:
		return dnsFault(name, typ, "servfail", "SERVFAIL, the name server failed (a DNSSEC fault is a common cause)", nil)
	case dns.RcodeRefused:
		return dnsFault(name, typ, "refused", "REFUSED by the name server", nil)
	default:
		text := dns.RcodeToString[rcode]
		if text == "" {
			text = fmt.Sprintf("response code %d", rcode)
		}
		return dnsFault(name, typ, "bad_answer", text, nil)
	}
}

func dnsFault(name string, typ uint16, reason, what string, err error) *fault.Error {
	detail := fmt.Sprintf("look up %s of %s: %s", dns.TypeToString[typ], strings.TrimSuffix(name, "."), what)
	return fault.Wrap(fault.DNS, err, detail).Because(reason)
}

// isNXDomain reports whether a lookup failed because the name does not exist.
func isNXDomain(err error) bool {
	return err != nil && fault.Of(err).Reason == "nxdomain"
}
