package challenge

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// block is a range that is not dialled unless opened. open says whether an
// entry of AllowCIDRs inside the range may do so; the others carry other
// addresses inside them, or reach what no certificate is for.
type block struct {
	prefix netip.Prefix
	name   string
	open   bool
}

// blocks is looked through in order; the first match counts. From IANA's
// special-purpose address registries (RFC 6890).
var blocks = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified", false},
	{netip.MustParsePrefix("10.0.0.0/8"), "private", true},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT", true},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback", true},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local", false}, // cloud metadata services live here
	{netip.MustParsePrefix("172.16.0.0/12"), "private", true},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments", false},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation", true},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112", false},
	{netip.MustParsePrefix("192.52.193.0/24"), "AMT", false},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay", false},
	{netip.MustParsePrefix("192.168.0.0/16"), "private", true},
	{netip.MustParsePrefix("192.175.48.0/24"), "AS112", false},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking", true},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation", true},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation", true},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast", false},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved", false},
	{netip.MustParsePrefix("::/128"), "unspecified", false},
	{netip.MustParsePrefix("::1/128"), "loopback", true},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped", false},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible", false},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "IPv4-translated", false},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64", false},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64", false},
	{netip.MustParsePrefix("100::/64"), "discard-only", false},
	{netip.MustParsePrefix("2001::/23"), "protocol assignments", false}, // Teredo among them
	{netip.MustParsePrefix("2001:db8::/32"), "documentation", true},
	{netip.MustParsePrefix("2002::/16"), "6to4", false},
	{netip.MustParsePrefix("3fff::/20"), "documentation", true},
	{netip.MustParsePrefix("fc00::/7"), "unique local", true},
	{netip.MustParsePrefix("fe80::/10"), "link-local", false},
	{netip.MustParsePrefix("fec0::/10"), "site-local", false},
	{netip.MustParsePrefix("ff00::/8"), "multicast", false},
}

// metadata are the addresses at which clouds hand secrets to whoever asks from inside,
// where no block closes them for good: link-local 169.254.0.0/16 (169.254.169.254 of
// most, 169.254.170.2 and .23 of AWS, 169.254.0.23 of Tencent, 169.254.42.42 of
// Scaleway) and 192.0.0.192 (Oracle) are closed by theirs. An entry of AllowCIDRs opens
// one if it lies inside the prefix here. docs/divergences/validation.md has the sources.
var metadata = []block{
	{netip.MustParsePrefix("fd00:ec2::/32"), "AWS", true}, // ::254 of EC2, ::23 of EKS
	{netip.MustParsePrefix("fd20:ce::254/128"), "Google Cloud", true},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure", true}, // a public address
	{netip.MustParsePrefix("100.100.100.200/32"), "Alibaba Cloud", true},
	{netip.MustParsePrefix("fd00:100::100:200/128"), "Alibaba Cloud", true},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), "Oracle Cloud", true},
	{netip.MustParsePrefix("fd00:42::42/128"), "Scaleway", true},
	{netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"), "Akamai", true},
}

// globalUnicast is all of IPv6 that is allocated for public use.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// guard knows which addresses may be dialled (A55).
type guard struct {
	allow, deny []netip.Prefix
	named       []netip.Prefix // of allow, those that name metadata and nothing else
	own         map[netip.AddrPort]bool
	ownPorts    map[uint16]bool // listeners on an unspecified address
	local       func() ([]net.Addr, error)
}

func newGuard(cfg Config, own []netip.AddrPort) (*guard, error) {
	g := &guard{own: map[netip.AddrPort]bool{}, ownPorts: map[uint16]bool{}, local: net.InterfaceAddrs}
	for _, p := range cfg.AllowCIDRs {
		if err := checkAllow(p); err != nil {
			return nil, err
		}
		g.allow = append(g.allow, p.Masked())
		if namesMetadata(p) {
			g.named = append(g.named, p.Masked())
		}
	}
	for _, p := range cfg.DenyCIDRs {
		if !p.IsValid() {
			return nil, fmt.Errorf("deny_cidrs: an entry is not a prefix")
		}
		g.deny = append(g.deny, p.Masked())
	}
	for _, a := range own {
		a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
		if a.Addr().IsUnspecified() {
			g.ownPorts[a.Port()] = true
		}
		g.own[a] = true
	}
	return g, nil
}

func namesMetadata(p netip.Prefix) bool {
	return slices.ContainsFunc(metadata, func(m block) bool {
		return m.prefix.Contains(p.Addr()) && p.Bits() >= m.prefix.Bits()
	})
}

// checkAllow refuses an entry that would open a range nobody may open, or that
// spans several ranges: 0.0.0.0/0 is a mistake more often than a wish.
func checkAllow(p netip.Prefix) error {
	if !p.IsValid() {
		return fmt.Errorf("allow_cidrs: an entry is not a prefix")
	}
	p = p.Masked()
	for _, b := range blocks {
		if !b.prefix.Overlaps(p) {
			continue
		}
		if p.Bits() < b.prefix.Bits() {
			return fmt.Errorf("allow_cidrs: %s is wider than the %s range %s: list that range itself", p, b.name,
				b.prefix)
		}
		if !b.open {
			return fmt.Errorf("allow_cidrs: %s lies in %s (%s), which is never dialled", p, b.prefix, b.name)
		}
		return nil
	}
	return nil
}

// vet returns nil if a may be dialled, or says why not.
func (g *guard) vet(a netip.AddrPort) error {
	ip := a.Addr()
	if !ip.IsValid() || ip.Zone() != "" {
		return fmt.Errorf("%s is not an address to connect to", ip)
	}
	if g.isOwn(a) {
		return fmt.Errorf("%s is this server itself", a)
	}
	if contains(g.deny, ip) {
		return fmt.Errorf("%s is excluded by deny_cidrs", ip)
	}
	for _, m := range metadata {
		if m.prefix.Contains(ip) && !contains(g.named, ip) {
			return fmt.Errorf("%s is where %s keeps metadata, and allow_cidrs does not name it alone", ip, m.name)
		}
	}
	for _, b := range blocks {
		if !b.prefix.Contains(ip) {
			continue
		}
		if b.open && contains(g.allow, ip) {
			return nil
		}
		if b.open {
			return fmt.Errorf("%s is a %s address and not in allow_cidrs", ip, b.name)
		}
		return fmt.Errorf("%s is a %s address", ip, b.name)
	}
	if ip.Is6() && !globalUnicast.Contains(ip) {
		return fmt.Errorf("%s is not a global unicast address", ip)
	}
	return nil
}

// isOwn reports whether a is one of our listeners.
func (g *guard) isOwn(a netip.AddrPort) bool {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if g.own[a] {
		return true
	}
	if !g.ownPorts[a.Port()] {
		return false
	}
	if a.Addr().IsLoopback() {
		return true
	}
	addrs, err := g.local()
	if err != nil {
		return true // not known, so not dialled
	}
	for _, l := range addrs {
		n, ok := l.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a.Addr() {
			return true
		}
	}
	return false
}

// contains reports whether a prefix of list contains ip. netip holds mapped
// addresses apart from IPv4, so no prefix can open ::ffff:10.0.0.1.
func contains(list []netip.Prefix, ip netip.Addr) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
