package challenge

import (
	"errors"
	"slices"
	"strings"
)

// issueValue is the value of an issue or issuewild property.
type issueValue struct {
	domain     string // empty: nobody may issue
	parameters []parameter
}

type parameter struct{ tag, value string }

var errIssueValue = errors.New("not an issue value of RFC 8659")

// parseIssueValue reads the grammar of RFC 8659, section 4.2:
//
//	*WSP [domain *WSP] [";" *WSP [parameters *WSP]]
//
// What does not fit the grammar names nobody; it is not mended by guesses.
func parseIssueValue(s string) (issueValue, error) {
	domain, rest, more := strings.Cut(s, ";")
	domain = trimWSP(domain)
	if domain != "" && !isIssuerDomain(domain) {
		return issueValue{}, errIssueValue
	}
	v := issueValue{domain: domain}
	if rest = trimWSP(rest); !more || rest == "" {
		return v, nil
	}
	for part := range strings.SplitSeq(rest, ";") {
		tag, value, ok := strings.Cut(part, "=")
		tag, value = trimWSP(tag), trimWSP(value)
		if !ok || !isTag(tag) || strings.ContainsFunc(value, notValue) {
			return issueValue{}, errIssueValue
		}
		v.parameters = append(v.parameters, parameter{strings.ToLower(tag), value})
	}
	return v, nil
}

func trimWSP(s string) string { return strings.Trim(s, " \t") }

// notValue reports whether r cannot stand in a parameter's value.
func notValue(r rune) bool { return r < 0x21 || r > 0x7e || r == ';' }

// isIssuerDomain reports whether s is labels of letters, digits and inner
// hyphens, joined by dots.
func isIssuerDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	return !slices.ContainsFunc(strings.Split(s, "."), func(label string) bool {
		return len(label) > 63 ||
			!isTag(label)
	})
}

// isTag reports whether s is letters, digits and inner hyphens.
func isTag(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// permits applies the parameters of RFC 8657: accounturi is compared octet by
// octet with the account's URL and its former ones, validationmethods lists
// the methods allowed. One of them given twice can never be satisfied. Others
// are left alone.
func (v issueValue) permits(accounts []string, method string) bool {
	if uris := v.values("accounturi"); len(uris) > 1 || len(uris) == 1 &&
		(uris[0] == "" || !slices.Contains(accounts, uris[0])) {
		return false
	}
	methods := v.values("validationmethods")
	if len(methods) == 0 {
		return true
	}
	if len(methods) > 1 {
		return false
	}
	list := strings.Split(methods[0], ",")
	if slices.ContainsFunc(list, func(label string) bool { return !isMethod(label) }) {
		return false
	}
	return slices.Contains(list, method)
}

// isMethod reports whether s is a label of RFC 8657, section 4.
func isMethod(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func (v issueValue) values(tag string) []string {
	var out []string
	for _, p := range v.parameters {
		if p.tag == tag {
			out = append(out, p.value)
		}
	}
	return out
}
