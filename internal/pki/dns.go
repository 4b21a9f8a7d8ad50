package pki

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"

	"github.com/privyseal/privyseal/internal/fault"
)

// DNSRules says which DNS names beyond the plain ones are welcome. The zero
// value takes only fully qualified names of two labels or more.
type DNSRules struct {
	Wildcard    bool // "*" as the whole leftmost label
	SingleLabel bool // names such as "printer", and wildcards right below one ("*.internal")
	Underscore  bool // "_" in any label
}

// anyDNS is the syntax alone: every policy question is answered with yes.
var anyDNS = DNSRules{Wildcard: true, SingleLabel: true, Underscore: true}

// ianaLabels validates and encodes internationalised labels as a registry does:
// IDNA2008 without any mapping, so that a label has exactly one spelling.
var ianaLabels = idna.Registration

// CheckDNSName returns the canonical form (lower case) of a DNS name in A-label
// form, or a fault: Malformed where it is no such name, RejectedIdentifier where
// the rules refuse it (rule A34).
func CheckDNSName(name string, rules DNSRules) (string, error) {
	canonical := strings.ToLower(name)
	malformed := func(why string) error {
		return fault.New(fault.Malformed, "DNS name %q: %s", clip(name), why).
			Because("dns_name").About(string(DNS), clip(name))
	}
	rejected := func(why string) error {
		return fault.New(fault.RejectedIdentifier, "DNS name %q: %s", clip(name), why).
			Because("dns_name").About(string(DNS), clip(name))
	}
	if why := dnsSyntax(canonical); why != "" {
		return "", malformed(why)
	}
	base, wildcard := strings.CutPrefix(canonical, "*.")
	switch {
	case wildcard && !rules.Wildcard:
		return "", rejected("wildcards are not allowed here")
	case !rules.SingleLabel && !strings.Contains(base, "."):
		return "", rejected("a name of a single label is not allowed here")
	case !rules.Underscore && strings.Contains(base, "_"):
		return "", rejected("underscores are not allowed here")
	}
	return canonical, nil
}

// dnsSyntax says what is wrong with a lower-case name, or "".
func dnsSyntax(name string) string {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > 253:
		return "longer than 253 octets"
	case strings.HasSuffix(name, "."):
		return "a trailing dot"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "this is an IP address; ask for type ip"
	}
	labels := strings.Split(name, ".")
	if labels[0] == "*" && len(labels) > 1 {
		labels = labels[1:]
	}
	for _, l := range labels {
		if why := labelSyntax(l); why != "" {
			return why
		}
	}
	// A last label of digits alone would be read as part of an address by many
	// programs, and no top-level domain can have one (RFC 3696, section 2).
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "the last label is a number"
	}
	return ""
}

func labelSyntax(l string) string {
	switch {
	case l == "":
		return "an empty label"
	case len(l) > 63:
		return "a label longer than 63 octets"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "a label begins or ends with a hyphen"
	}
	for i := range len(l) {
		c := l[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '*':
			return "a wildcard is only possible as the whole leftmost label"
		case c >= 0x80:
			return "not ASCII; send the A-label (xn--…)"
		default:
			return "a character other than letters, digits and hyphens"
		}
	}
	if len(l) < 4 || l[2:4] != "--" {
		return ""
	}
	if l[:2] != "xn" {
		return "a label with hyphens in the third and fourth place is reserved" // RFC 5890, section 2.3.1
	}
	u, err := ianaLabels.ToUnicode(l)
	if err != nil {
		return "a label that is not valid IDNA2008"
	}
	if back, err := ianaLabels.ToASCII(u); err != nil || back != l || u == l {
		return "a label that is not valid IDNA2008"
	}
	return ""
}

// clip shortens a stranger's text for an error message.
func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}
