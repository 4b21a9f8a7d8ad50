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
// unfragmented everywhere); a larger one is asked for again over TCP, where a message
// has 64 KiB at most.
const (
	udpSize      = 1232
	maxAddresses = 256 // of one name and family; more are not looked at
	maxAliases   = 10  // CNAMEs followed for one question
	dnsTimeout   = 2500 * time.Millisecond
	dnsTries     = 2 // of one question, or one for each server
	maxServers   = 4 // that are asked one question
	maxResolvers = 16
	resolvConf   = "/etc/resolv.conf"
)

// resolver asks recursive name servers, or those of the zones themselves. It caches
// nothing, since a client sets a record and asks for validation within a second (A56).
type resolver struct {
	fixed []string // HOST:PORT; empty reads conf
	conf  string
	try   int // which server is the first to be asked
	zones *zones
}

func newResolver(cfg Config, g *guard) (*resolver, error) {
	r := &resolver{conf: resolvConf}
	list := cfg.Resolvers
	if cfg.Resolver != "" {
		list = append([]string{cfg.Resolver}, list...)
	}
	if len(list) > maxResolvers {
		return nil, fmt.Errorf("resolvers: %d, at most %d", len(list), maxResolvers)
	}
	for _, address := range list {
		host, port, err := net.SplitHostPort(address)
		if err != nil { // no port, or a bare IPv6 address
			host, port = strings.Trim(address, "[]"), "53"
		}
		if host == "" || port == "" || port == "0" {
			return nil, fmt.Errorf("resolver %q is not HOST:PORT", address)
		}
		r.fixed = append(r.fixed, net.JoinHostPort(host, port))
	}
	if cfg.Authoritative {
		r.zones = &zones{guard: g, port: 53}
	}
	return r, nil
}

// at returns the resolver as it asks at the given attempt.
func (r *resolver) at(try int) *resolver {
	c := *r
	c.try = try
	return &c
}

// servers returns the name servers to ask. The system's list is read each
// time: a laptop changes networks while the server runs.
func (r *resolver) servers() ([]string, error) {
	if len(r.fixed) > 0 {
		return r.fixed, nil
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

// found is what a lookup found.
type found struct {
	rrs   []dns.RR
	alias string // what the name is an alias of, without trailing dot; "" if it is none
	more  bool   // that is an alias in turn
}

// in puts what a text has to say of aliases behind a name. Only what stands at the
// name itself is told: where an alias leads on stands elsewhere, and may be nobody's
// business.
func (f found) in(name string) string {
	name = strings.TrimSuffix(name, ".")
	switch {
	case f.alias == "":
		return name
	case f.more:
		return fmt.Sprintf("%s, an alias (CNAME) of %s, which is an alias of another name", name, quote(f.alias))
	}
	return fmt.Sprintf("%s, an alias (CNAME) of %s", name, quote(f.alias))
}

// lookup returns the records of one type at a name, CNAMEs followed; none and
// no error where the name exists without such records. Faults are of kind DNS
// with one of the reasons nxdomain, servfail, refused, timeout, bad_answer.
func (r *resolver) lookup(ctx context.Context, name string, typ uint16) (f found, err error) {
	question := strings.ToLower(dns.Fqdn(name))
	if _, ok := dns.IsDomainName(question); !ok || len(question) > 254 {
		return f, fault.New(fault.DNS, "%s is not a name that DNS can hold", quote(name)).Because("bad_name")
	}
	for aliases := 0; ; {
		msg, err := r.ask(ctx, question, typ)
		if err != nil {
			return f, f.blame(name, typ, err)
		}
		final, n := f.follow(msg.Answer, question)
		if aliases += n; aliases > maxAliases {
			what := fmt.Sprintf("more than %d CNAME records in a row", maxAliases)
			return f, dnsFault(f.in(name), typ, "bad_answer", what, nil)
		}
		f.rrs = recordsAt(msg.Answer, final, typ)
		if len(f.rrs) > 0 {
			return f, nil
		}
		if err := f.rcode(name, typ, msg.Rcode); err != nil {
			return f, err
		}
		if final == question { // nothing there, or nothing more to follow
			return f, nil
		}
		question = final
	}
}

// follow walks the CNAME records of an answer from name and returns where they
// lead and how many there were. It stops after too many.
func (f *found) follow(answer []dns.RR, name string) (string, int) {
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
		if f.alias == "" {
			f.alias = strings.TrimSuffix(next, ".")
		} else {
			f.more = true
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

// ask sends one question to a name server that answers it.
func (r *resolver) ask(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	if r.zones != nil {
		return r.zones.ask(ctx, r, name, typ)
	}
	return r.recursive(ctx, name, typ)
}

func (r *resolver) recursive(ctx context.Context, name string, typ uint16) (*dns.Msg, error) {
	servers, err := r.servers()
	if err != nil {
		return nil, fault.Wrap(fault.DNS, err, "no name server is configured").Because("no_resolver")
	}
	return askInTurn(ctx, servers, r.try, query{name, typ, true})
}

// askInTurn asks one server after the other, from the one at start on. What fails on
// the way is tried once more, with the next server if there is one. An answer is final,
// unless it says that this server does not know and another may.
func askInTurn(ctx context.Context, servers []string, start int, q query) (*dns.Msg, error) {
	var msg *dns.Msg
	var last error
	for i := range max(dnsTries, min(len(servers), maxServers)) {
		answered := msg != nil || errors.Is(last, errBadAnswer)
		if ctx.Err() != nil || i >= len(servers) && answered {
			break
		}
		got, err := exchange(ctx, servers[(start+i)%len(servers)], q)
		switch {
		case err == nil && !asksForAnother(got, q):
			return got, nil
		case err == nil:
			msg = got
		default:
			last = err
		}
	}
	if msg != nil && msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
		return msg, nil
	}
	if msg != nil {
		last = fmt.Errorf("%w: not authoritative for %s", errBadAnswer, q.name)
	}
	return nil, q.failed(ctx, last)
}

// asksForAnother reports whether another server may know better.
func asksForAnother(m *dns.Msg, q query) bool {
	switch m.Rcode {
	case dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeFormatError, dns.RcodeNotAuth:
		return true
	}
	return !q.recursive && !m.Authoritative
}

// failed is the fault of a question that no server has answered.
func (q query) failed(ctx context.Context, last error) error {
	switch {
	case errors.Is(last, errBadAnswer):
		return dnsFault(q.name, q.typ, "bad_answer", "the name server's answer is not usable", last)
	case netReason(last) == "timeout" || ctx.Err() != nil:
		return dnsFault(q.name, q.typ, "timeout", "timeout", last)
	}
	return dnsFault(q.name, q.typ, "unreachable", "the name server could not be asked", last)
}

// rcode turns a failed answer into a fault.
func (f found) rcode(name string, typ uint16, rcode int) error {
	switch rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNameError:
		what := "NXDOMAIN, the name does not exist"
		if f.alias != "" {
			what = "NXDOMAIN, the alias leads to a name that does not exist"
		}
		return dnsFault(f.in(name), typ, "nxdomain", what, nil)
	case dns.RcodeServerFailure:
		what := "SERVFAIL, the name server failed (a DNSSEC fault is a common cause)"
		return dnsFault(f.in(name), typ, "servfail", what, nil)
	case dns.RcodeRefused:
		return dnsFault(f.in(name), typ, "refused", "REFUSED by the name server", nil)
	default:
		text := dns.RcodeToString[rcode]
		if text == "" {
			text = fmt.Sprintf("response code %d", rcode)
		}
		return dnsFault(f.in(name), typ, "bad_answer", text, nil)
	}
}

// blame says the fault of a question to which aliases led as one about the name that
// was asked for.
func (f found) blame(name string, typ uint16, err error) error {
	if f.alias == "" {
		return err
	}
	cause := fault.Of(err)
	what := map[string]string{
		"timeout": "timeout", "bad_answer": "the name server's answer is not usable",
		"unreachable": "the name server could not be asked",
	}[cause.Reason]
	if what == "" {
		what = "the name servers of where the alias leads cannot be found or asked"
	}
	return dnsFault(f.in(name), typ, cause.Reason, what, err)
}

// dnsFault is a fault about a name, which may have more words behind it.
func dnsFault(name string, typ uint16, reason, what string, err error) *fault.Error {
	detail := fmt.Sprintf("look up %s of %s: %s", dns.TypeToString[typ], strings.TrimSuffix(name, "."), what)
	return fault.Wrap(fault.DNS, err, detail).Because(reason)
}

// isNXDomain reports whether a lookup failed because the name does not exist.
func isNXDomain(err error) bool {
	return err != nil && fault.Of(err).Reason == "nxdomain"
}
