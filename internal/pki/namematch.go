package pki

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// EqualRFC5280 reports whether two names match as RFC 5280, section 7.1, means
// it: string type, case and the amount of space do not count; order does,
// except inside a multi-valued relative name.
func (n Name) EqualRFC5280(m Name) bool {
	return len(n) == len(m) && n.Within(m)
}

// SameName compares two DER names as EqualRFC5280 does; one that cannot be read
// is the same as its own octets only.
func SameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, err := ParseNameDER(a)
	y, err2 := ParseNameDER(b)
	return err == nil && err2 == nil && x.EqualRFC5280(y)
}

// Within reports whether the name lies in the subtree under base: base is a
// prefix of it, compared as EqualRFC5280 does.
func (n Name) Within(base Name) bool {
	if len(n) < len(base) {
		return false
	}
	for i, rdn := range base {
		if !n[i].match(rdn) {
			return false
		}
	}
	return true
}

// Folded returns a text that is the same for two names if and only if
// EqualRFC5280 holds for them.
func (n Name) Folded() string {
	rdns := make([]string, len(n))
	for i, rdn := range n {
		pairs := make([]string, len(rdn))
		for j, a := range rdn {
			pairs[j] = fmt.Sprintf("%s=%q%x", a.OID, fold(a.Value), a.Raw)
		}
		slices.Sort(pairs)
		rdns[i] = strings.Join(pairs, "+")
	}
	return strings.Join(rdns, ",")
}

func (r RDN) match(s RDN) bool {
	if len(r) != len(s) {
		return false
	}
	taken := make([]bool, len(s))
next:
	for _, a := range r {
		for i, b := range s {
			if !taken[i] && a.OID.Equal(b.OID) && fold(a.Value) == fold(b.Value) && bytes.Equal(a.Raw, b.Raw) {
				taken[i] = true
				continue next
			}
		}
		return false
	}
	return true
}

// fold prepares a value for comparison in the manner of RFC 4518: compatibility
// form, case folded, runs of space as one.
func fold(s string) string {
	if allASCII(s) {
		return strings.Join(strings.Fields(strings.ToLower(s)), " ")
	}
	return strings.Join(strings.Fields(norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))), " ")
}
