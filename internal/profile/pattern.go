package profile

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
)

// A matcher is one compiled pattern over canonical values.
type matcher func(value string) bool

// rule is the compiled rule of one SAN type.
type rule struct {
	allow, deny []matcher // empty allow means any
	min, max    int       // max 0 means no bound
	extra       func(value string) error
}

// check returns a reason and a sentence, or "" if the value passes.
func (r *rule) check(value string) (reason, why string) {
	if r.extra != nil {
		if err := r.extra(value); err != nil {
			return "name_form", err.Error()
		}
	}
	for _, m := range r.deny {
		if m(value) {
			return "name_denied", "the profile denies this name"
		}
	}
	if len(r.allow) == 0 {
		return "", ""
	}
	for _, m := range r.allow {
		if m(value) {
			return "", ""
		}
	}
	return "name_not_allowed", "no pattern of the profile allows this name"
}

// compileDNS compiles a pattern for DNS names: exact, "*.x" (one label more),
// "**.x" (one or more), "**".
func compileDNS(pattern string) (matcher, error) {
	if pattern == "**" {
		return func(string) bool { return true }, nil
	}
	depth, base := 0, pattern
	if b, ok := strings.CutPrefix(pattern, "**."); ok {
		depth, base = 2, b
	} else if b, ok := strings.CutPrefix(pattern, "*."); ok {
		depth, base = 1, b
	}
	base, err := pki.CheckDNSName(base, pki.DNSRules{SingleLabel: true, Underscore: true})
	if err != nil {
		return nil, fmt.Errorf("pattern %q: want a DNS name, *.NAME, **.NAME or **", pattern)
	}
	return func(name string) bool {
		if depth == 0 {
			return name == base
		}
		labels, ok := strings.CutSuffix(name, "."+base)
		return ok && (depth == 2 || !strings.Contains(labels, "."))
	}, nil
}

// denyDNS compiles a pattern for the deny list, where a wildcard name is also
// caught if it covers the very name that the pattern spells out.
func denyDNS(pattern string) (matcher, error) {
	m, err := compileDNS(pattern)
	if err != nil || strings.HasPrefix(pattern, "*") {
		return m, err
	}
	_, parent, _ := strings.Cut(strings.ToLower(pattern), ".")
	return func(name string) bool { return m(name) || name == "*."+parent }, nil
}

// compileMailbox compiles LOCAL@DOMAIN; LOCAL is "*" or exact.
func compileMailbox(pattern string) (matcher, error) {
	if pattern == "**" {
		return func(string) bool { return true }, nil
	}
	local, domain, ok := strings.Cut(pattern, "@")
	if !ok || local == "" || (local != "*" && strings.Contains(local, "*")) {
		return nil, fmt.Errorf("pattern %q: want NAME@DOMAIN, *@DOMAIN or **", pattern)
	}
	host, err := compileDNS(domain)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: the part after @ is no DNS pattern", pattern)
	}
	return func(value string) bool {
		l, d, _ := strings.Cut(value, "@")
		// Servers tell local parts apart by case, people and deny lists do not.
		return (local == "*" || strings.EqualFold(l, local)) && host(d)
	}, nil
}

// compileNetwork compiles a CIDR or a single address.
func compileNetwork(pattern string) (matcher, error) {
	prefix, err := netip.ParsePrefix(pattern)
	if err != nil {
		a, addrErr := netip.ParseAddr(pattern)
		if addrErr != nil || a.Zone() != "" {
			return nil, fmt.Errorf("pattern %q: want a network such as 10.0.0.0/8, or an address", pattern)
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	if prefix.Addr().Is4In6() || prefix != prefix.Masked() {
		return nil, fmt.Errorf("pattern %q: bits are set behind the prefix, or it is an IPv4-mapped network", pattern)
	}
	return func(value string) bool {
		a, err := netip.ParseAddr(value)
		return err == nil && prefix.Contains(a)
	}, nil
}

// compileGlob compiles a text pattern: "*" is any run without "/", "**" any run.
func compileGlob(pattern string) (matcher, error) {
	if pattern == "" || len(pattern) > 512 || strings.Contains(pattern, "***") || strings.Count(pattern, "*") > 16 {
		return nil, fmt.Errorf("pattern %q: want a text with at most eight * or **", pattern)
	}
	return func(value string) bool { return glob(pattern, value) }, nil
}

// glob matches without recursion on anything but the latest two stars, so that
// its time is bounded by the product of the lengths.
func glob(pattern, value string) bool {
	// reach[i] says that pattern[:p] matches value[:i].
	reach := make([]bool, len(value)+1)
	reach[0] = true
	for p := 0; p < len(pattern); p++ {
		next := make([]bool, len(value)+1)
		if pattern[p] != '*' {
			for i := range len(value) {
				next[i+1] = reach[i] && value[i] == pattern[p]
			}
			reach = next
			continue
		}
		deep := p+1 < len(pattern) && pattern[p+1] == '*'
		if deep {
			p++
		}
		for i := range next {
			next[i] = reach[i] || i > 0 && next[i-1] && (deep || value[i-1] != '/')
		}
		reach = next
	}
	return reach[len(value)]
}

// checkSPIFFE reports why a URI is no SPIFFE ID of a workload: trust domain of
// lower-case letters, digits, ".", "-", "_"; a path of segments from letters,
// digits and the same marks; nothing else (SPIFFE-ID, section 2).
func checkSPIFFE(uri string) error {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	domain, path, _ := strings.Cut(rest, "/")
	if !ok || domain == "" || len(domain) > 255 || path == "" {
		return fmt.Errorf("not a SPIFFE ID such as spiffe://example.org/service")
	}
	mark := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || strings.IndexByte(".-_", c) >= 0
	}
	for i := range len(domain) {
		if !mark(domain[i]) {
			return fmt.Errorf("a trust domain with the character %q", domain[i])
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("an empty or relative segment in the path")
		}
		for i := range len(segment) {
			if c := segment[i]; !mark(c) && (c < 'A' || c > 'Z') {
				return fmt.Errorf("a path with the character %q", c)
			}
		}
	}
	return nil
}
