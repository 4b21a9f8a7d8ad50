package pki

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NamePattern is a set of names, in the words of those who bind a credential:
//
//	host.example.test         that DNS name
//	*.example.test            every DNS name below it at any depth, wildcards included
//	192.0.2.7, 10.0.0.0/8     an address, a network
//	a@example.test            a mailbox; *@example.test and *@*.example.test are all of a host or of those below
//	spiffe://example.test/a   a URI; at the end /* stands for all below, in plain segments
//	CN=router-7,O=Example     a subject; the value * stands for any one value
//	upn:a@example.test        so too permanent-identifier:, hardware-module: and dirname:, by value
//
// It holds names of the kind that it is of, and no others.
type NamePattern struct {
	kind    IdentifierType // empty for a subject
	value   string         // canonical: DNS base, host of a mailbox, URI or what stands before its star, other value
	local   string         // of a mailbox or UPN; "*" is any
	below   bool           // value stands for what is below it
	prefix  netip.Prefix
	subject Name
}

// maxPattern is the longest text of a pattern, in octets.
const maxPattern = 1024

// anyValue stands for any value of an attribute, or for any local part.
const anyValue = "*"

// ParseNamePattern reads a pattern.
func ParseNamePattern(s string) (NamePattern, error) {
	if len(s) > maxPattern {
		return NamePattern{}, badPattern(s, "longer than %d octets", maxPattern)
	}
	if p, ok, err := networkPattern(s); ok {
		return p, err
	}
	kind, value, typed := strings.Cut(s, ":")
	switch first := strings.IndexAny(s, "=:"); {
	case first >= 0 && s[first] == '=':
		return subjectPattern(s)
	case strings.Contains(s, "://") || kind == "urn":
		return uriPattern(s)
	case typed:
		return typedPattern(s, IdentifierType(kind), value)
	case strings.Contains(s, "@"):
		return mailPattern(s, Email, s)
	}
	return hostPattern(s)
}

func badPattern(s, format string, args ...any) error {
	return fmt.Errorf("name pattern %q: %s", clip(s), fmt.Sprintf(format, args...))
}

func networkPattern(s string) (p NamePattern, ok bool, err error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return p, false, nil //nolint:nilerr // it is no network, and perhaps a name
		}
		prefix = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		if a.Zone() != "" {
			return p, true, badPattern(s, "an address with a zone is in no certificate")
		}
	}
	switch {
	case prefix.Addr().Is4In6():
		return p, true, badPattern(s, "an IPv4-mapped address is in no certificate, write the IPv4 address")
	case prefix != prefix.Masked():
		return p, true, badPattern(s, "the address has bits beyond its prefix length, did you mean %s", prefix.Masked())
	}
	return NamePattern{kind: IP, prefix: prefix}, true, nil
}

func subjectPattern(s string) (NamePattern, error) {
	n, err := ParseName(s)
	if err != nil {
		return NamePattern{}, badPattern(s, "%v", err)
	}
	return NamePattern{subject: n}, nil
}

func uriPattern(s string) (NamePattern, error) {
	text, below := strings.CutSuffix(s, "/*")
	id, err := Identifier{URI, text}.Canonical()
	if err != nil || strings.Contains(text, "*") || below && strings.ContainsAny(text, "?#") {
		return NamePattern{}, badPattern(s, "want a URI, which may end in /* for all below")
	}
	return NamePattern{kind: URI, value: id.Value, below: below}, nil
}

func typedPattern(s string, kind IdentifierType, value string) (NamePattern, error) {
	switch kind {
	case UPN:
		return mailPattern(s, UPN, value)
	case PermanentID, HardwareID, DirName:
		id, err := Identifier{kind, value}.Canonical()
		if err != nil {
			return NamePattern{}, badPattern(s, "%v", err)
		}
		return NamePattern{kind: kind, value: id.Folded()}, nil
	}
	return NamePattern{}, badPattern(s,
		"want a name, or one after upn:, permanent-identifier:, hardware-module: or dirname:")
}

func mailPattern(s string, kind IdentifierType, value string) (NamePattern, error) {
	local, host, _ := strings.Cut(value, "@")
	host, below := strings.CutPrefix(host, "*.")
	id, err := Identifier{kind, strings.Replace(local, anyValue, "a", 1) + "@" + host}.Canonical()
	if err != nil || strings.Contains(local, "*") && local != anyValue || strings.Contains(host, "*") {
		return NamePattern{}, badPattern(s, "want NAME@HOST, where NAME may be * and HOST may be *. and a name")
	}
	host = id.Value[strings.LastIndex(id.Value, "@")+1:] // in canonical form
	return NamePattern{kind: kind, local: local, value: host, below: below}, nil
}

func hostPattern(s string) (NamePattern, error) {
	base, below := strings.CutPrefix(s, "*.")
	name, err := CheckDNSName(base, DNSRules{SingleLabel: true, Underscore: true})
	if err != nil || name != base {
		return NamePattern{}, badPattern(s, `want a DNS name in lower case (A-labels), "*." and a DNS name, `+
			"an address, a network such as 10.0.0.0/8, a mailbox, a URI, or a subject such as CN=router-7")
	}
	return NamePattern{kind: DNS, value: name, below: below}, nil
}

// Match reports whether the set holds a canonical name.
func (p NamePattern) Match(id Identifier) bool {
	if p.kind == "" || id.Type != p.kind {
		return false
	}
	switch p.kind {
	case DNS:
		return p.matchHost(id.Value)
	case IP:
		a, err := netip.ParseAddr(id.Value)
		return err == nil && p.prefix.Contains(a)
	case Email, UPN:
		at := strings.LastIndex(id.Value, "@")
		return at >= 0 && (p.local == anyValue || p.local == id.Value[:at]) && p.matchHost(id.Value[at+1:])
	case URI:
		if !p.below {
			return p.value == id.Value
		}
		rest, ok := strings.CutPrefix(id.Value, p.value+"/")
		return ok && plainPath(rest)
	}
	return p.value == id.Folded()
}

// matchHost compares a host or, in a DNS name, a wildcard: "*.example.test" is below
// example.test, and so is what it stands for.
func (p NamePattern) matchHost(host string) bool {
	if !p.below {
		return host == p.value
	}
	name := strings.TrimPrefix(host, "*.")
	return strings.HasSuffix(name, "."+p.value) || name == p.value && name != host
}

// plainPath reports whether segments lead nowhere else: none is empty, relative or
// escaped, and no query follows.
func plainPath(rest string) bool {
	return !strings.ContainsAny(rest, "?#%") && !slices.ContainsFunc(strings.Split(rest, "/"), func(s string) bool {
		return s == "" || s == "." || s == ".."
	})
}

// MatchSubject reports whether the set holds a subject, compared as RFC 5280,
// section 7.1, does. The free ones are the attributes for which the pattern has *.
func (p NamePattern) MatchSubject(n Name) (free []Attribute, ok bool) {
	if p.kind != "" || len(p.subject) == 0 || len(n) != len(p.subject) {
		return nil, false
	}
	for i, rdn := range p.subject {
		some, ok := matchFree(rdn, n[i])
		if !ok {
			return nil, false
		}
		free = append(free, some...)
	}
	return free, true
}

// matchFree compares a relative name with one that has * for some values; what is
// spelled out is compared first.
func matchFree(pattern, rdn RDN) (free []Attribute, ok bool) {
	left := slices.Clone(rdn)
	for _, spelled := range []bool{true, false} {
		for _, want := range pattern {
			if (want.Value != anyValue) != spelled {
				continue
			}
			i := slices.IndexFunc(left, func(a Attribute) bool {
				return a.OID.Equal(want.OID) && (!spelled || fold(a.Value) == fold(want.Value))
			})
			if i < 0 {
				return nil, false
			}
			if !spelled {
				free = append(free, left[i])
			}
			left = slices.Delete(left, i, i+1)
		}
	}
	return free, len(left) == 0
}
