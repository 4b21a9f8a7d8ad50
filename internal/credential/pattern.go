package credential

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Pattern is a set of names: "host.example.test" is that DNS name alone,
// "*.example.test" every DNS name below it at any depth, wildcards included,
// "192.0.2.7" one address and "10.0.0.0/8" a network of them.
type Pattern struct {
	prefix netip.Prefix // valid for addresses
	dns    string
	below  bool
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p != p.Masked() {
			return Pattern{}, fmt.Errorf("name pattern %q: the address has bits beyond its prefix length, did you mean %s", s, p.Masked())
		}
		return Pattern{prefix: p}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return Pattern{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	name, below := strings.CutPrefix(s, "*.")
	if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, "*/: ") ||
		strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return Pattern{}, fmt.Errorf(`name pattern %q: want a DNS name in lower case, "*." and a DNS name, an address, or a network such as 10.0.0.0/8`, s)
	}
	return Pattern{dns: name, below: below}, nil
}

// Match reports whether the set holds the name. Identifiers other than DNS names
// and addresses are in no set.
func (p Pattern) Match(id pki.Identifier) bool {
	switch id.Type {
	case pki.DNS:
		name := strings.TrimPrefix(id.Value, "*.")
		if p.below {
			// "*.example.test" is below example.test, and so is what it stands for.
			return strings.HasSuffix(name, "."+p.dns) || (name == p.dns && name != id.Value)
		}
		return !p.prefix.IsValid() && id.Value == p.dns
	case pki.IP:
		addr, err := netip.ParseAddr(id.Value)
		return err == nil && p.prefix.IsValid() && p.prefix.Contains(addr)
	default:
		return false
	}
}

// permit checks a profile and names against a key's scope; each name outside is
// a subproblem.
func permit(key *store.EABKey, profile string, names []pki.Identifier) error {
	if len(key.Profiles) > 0 && !slices.Contains(key.Profiles, profile) {
		return fault.New(fault.Denied, "the account's EAB key does not cover profile %q", profile).Because("eab_profile")
	}
	if len(key.Names) == 0 {
		return nil
	}
	patterns := make([]Pattern, 0, len(key.Names))
	for _, text := range key.Names {
		p, err := ParsePattern(text)
		if err != nil {
			return fmt.Errorf("read scope of EAB key %s: %w", key.KID, err)
		}
		patterns = append(patterns, p)
	}
	var outside []*fault.Error
	for _, id := range names {
		if !slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(id) }) {
			outside = append(outside, fault.New(fault.RejectedIdentifier, "the account's EAB key does not cover %s", id.Value).
				Because("eab_name").About(string(id.Type), id.Value))
		}
	}
	switch len(outside) {
	case 0:
		return nil
	case 1:
		return outside[0]
	}
	all := fault.New(fault.RejectedIdentifier, "the account's EAB key does not cover %d of the names", len(outside)).Because("eab_name")
	all.Sub = outside
	return all
}
