package challenge

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
)

// maxZoneServers is how many name servers of a zone are looked up.
const maxZoneServers = 8

// zones asks the name servers of the zone in which a name stands, which know a record
// as soon as it is there. Which they are is asked of the resolvers. Their addresses are
// a stranger's choice like any other, so the guard has its say. Of a name that no zone
// with name servers holds the resolvers are asked.
type zones struct {
	guard *guard
	port  uint16
}

// ask sends a question to the zone's name servers. Of the answer it keeps what stands
// at the name itself: of other names only their own zones can tell.
func (z *zones) ask(ctx context.Context, r *resolver, name string, typ uint16) (*dns.Msg, error) {
	apex, names, err := z.find(ctx, r, name)
	if err != nil {
		return nil, err
	}
	if names == nil {
		return r.recursive(ctx, name, typ)
	}
	servers, err := z.addresses(ctx, r, apex, names)
	if err != nil {
		return nil, err
	}
	msg, err := askInTurn(ctx, servers, r.try, query{name: name, typ: typ})
	if err != nil {
		return nil, err
	}
	msg.Answer = slices.DeleteFunc(msg.Answer, func(rr dns.RR) bool {
		return !strings.EqualFold(rr.Header().Name, name)
	})
	if len(msg.Answer) > 0 { // the code may be that of where an alias leads (RFC 6604)
		msg.Rcode = dns.RcodeSuccess
	}
	return msg, nil
}

// find climbs from a name to the first that has NS records, if there is one.
func (z *zones) find(ctx context.Context, r *resolver, name string) (apex string, servers []string, err error) {
	for apex = name; apex != "."; apex = parent(apex) {
		msg, err := r.recursive(ctx, apex, dns.TypeNS)
		if err != nil {
			return "", nil, err
		}
		if msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
			return "", nil, found{}.rcode(apex, dns.TypeNS, msg.Rcode)
		}
		for _, rr := range recordsAt(msg.Answer, apex, dns.TypeNS) {
			if ns, ok := rr.(*dns.NS); ok {
				servers = append(servers, strings.ToLower(ns.Ns))
			}
		}
		if len(servers) > 0 {
			slices.Sort(servers) // resolvers change the order as they like
			return apex, servers[:min(len(servers), maxZoneServers)], nil
		}
	}
	return "", nil, nil
}

func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	if rest == "" {
		return "."
	}
	return rest
}

// addresses returns where the name servers of a zone may be asked.
func (z *zones) addresses(ctx context.Context, r *resolver, apex string, names []string) ([]string, error) {
	plain := r.at(r.try)
	plain.zones = nil
	var servers []string
	var why error
	for _, name := range names {
		addrs, err := plain.addresses(ctx, strings.TrimSuffix(name, "."))
		if err != nil {
			why = err
			continue
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		for _, ip := range addrs {
			to := netip.AddrPortFrom(ip, z.port)
			if refused := z.guard.vet(to); refused != nil {
				why = refused
				continue
			}
			servers = append(servers, to.String())
		}
	}
	if len(servers) == 0 {
		return nil, fault.Wrap(fault.DNS, why, "none of the name servers of "+strings.TrimSuffix(apex, ".")+
			" has an address that may be asked").Because("zone_servers")
	}
	return servers, nil
}
