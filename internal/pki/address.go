package pki

import (
	"net/netip"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/privyseal/privyseal/internal/fault"
)

// CanonicalIP returns an address in its one text form: dotted decimal, or RFC
// 5952 for IPv6 (rule A58). Zones and IPv4-mapped addresses are refused: the
// latter would name one host in two ways that constraints tell apart.
func CanonicalIP(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return "", badName(IP, s, "not an IPv4 or IPv6 address")
	}
	return a.String(), nil
}

// badName is the fault of a name that is not well formed.
func badName(t IdentifierType, value, why string) *fault.Error {
	return fault.New(fault.Malformed, "%s %q: %s", t, clip(value), why).
		Because("name_syntax").About(string(t), clip(value))
}

// Canonical returns the identifier with its value in canonical form, or a
// Malformed fault. It knows syntax only: wildcards, single labels and
// underscores in DNS names pass here and are a profile's business.
func (id Identifier) Canonical() (Identifier, error) {
	var err error
	v := id.Value
	switch id.Type {
	case DNS:
		v, err = CheckDNSName(v, anyDNS)
	case IP:
		v, err = CanonicalIP(v)
	case Email:
		v, err = canonicalEmail(v)
	case URI:
		v, err = canonicalURI(v)
	case UPN:
		v, err = canonicalUPN(v)
	case PermanentID:
		_, _, err = splitPermanentID(v)
	case HardwareID:
		v, err = canonicalHardware(v)
	case DirName:
		var n Name
		if n, err = ParseName(v); err == nil {
			v = n.String()
			if len(n) == 0 {
				err = badName(id.Type, v, "an empty name")
			}
		}
	default:
		err = fault.New(fault.UnsupportedIdentifier, "identifier type %q is not known", clip(string(id.Type)))
	}
	if err != nil {
		return Identifier{}, err
	}
	return Identifier{id.Type, v}, nil
}

// atext are the characters of an unquoted local part besides letters and digits
// (RFC 5321, section 4.1.2). Quoted local parts are refused: nobody uses them,
// and they can hide a second "@".
const atext = "!#$%&'*+-/=?^_`{|}~."

func canonicalEmail(s string) (string, error) {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(local) > 64 || len(s) > 254 {
		return "", badName(Email, s, "not a mailbox such as name@example.com")
	}
	for i := range len(local) {
		c := local[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(atext, c) >= 0) {
			return "", badName(Email, s, "a character that a local part cannot hold")
		}
	}
	if local[0] == '.' || local[len(local)-1] == '.' || strings.Contains(local, "..") {
		return "", badName(Email, s, "misplaced dots in the local part")
	}
	host, err := CheckDNSName(domain, DNSRules{SingleLabel: true})
	if err != nil {
		return "", badName(Email, s, "the part after @ is not a DNS name")
	}
	return local + "@" + host, nil
}

func canonicalUPN(s string) (string, error) {
	if why := badText(s); why != "" {
		return "", badName(UPN, s, why)
	}
	user, suffix, ok := strings.Cut(s, "@")
	if !ok || user == "" || suffix == "" || strings.Contains(suffix, "@") || len(s) > 1024 {
		return "", badName(UPN, s, "not a principal such as name@example.com")
	}
	return user + "@" + strings.ToLower(suffix), nil
}

// canonicalURI takes absolute URIs and lowers scheme and host. User
// information is refused: it serves no purpose in a certificate but deception.
func canonicalURI(s string) (string, error) {
	if len(s) > 2048 {
		return "", badName(URI, s, "longer than 2048 octets")
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"<>\\^`{|}", s[i]) >= 0 {
			return "", badName(URI, s, "a character that a URI cannot hold")
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.User != nil {
		return "", badName(URI, s, "not an absolute URI without user information")
	}
	scheme, rest, _ := strings.Cut(s, ":")
	if strings.Trim(rest, "/") == "" {
		return "", badName(URI, s, "nothing after the scheme")
	}
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return strings.ToLower(scheme) + ":" + rest, nil
	}
	end := strings.IndexAny(authority, "/?#")
	if end < 0 {
		end = len(authority)
	}
	return strings.ToLower(scheme) + "://" + strings.ToLower(authority[:end]) + authority[end:], nil
}

// badText says why a text cannot stand in a name, or "" (rule X4): not UTF-8,
// control characters, space at an end, not in normal form C.
func badText(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "not UTF-8"
	case strings.TrimSpace(s) != s:
		return "space at the beginning or the end"
	case !norm.NFC.IsNormalString(s):
		return "not in Unicode normal form C"
	}
	if strings.ContainsFunc(s, deceptive) {
		return "a control or format character"
	}
	return ""
}

// deceptive reports whether a character is a control or a format character, such as
// the right-to-left override, which make a name look like another one.
func deceptive(r rune) bool {
	return unicode.IsControl(r) || r == unicode.ReplacementChar ||
		unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Noncharacter_Code_Point)
}
