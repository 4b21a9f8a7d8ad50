// Package hierarchy holds the laws of a CA tree: path length, depth, nesting of
// validity and of extended key usages, and name constraints of every form.
// Check applies them to a certificate before it is signed; what becomes of a CA
// that exists is for calaw to say.
//
// The laws are stricter than path validation in two places, on purpose: a CA's
// path length must be strictly below that of every CA above it (verifiers
// notice a violation only when somebody uses the surplus), and a CA must end
// before its issuer does. The package is pure; crypto/x509's Verify is not used,
// since it does not know all forms of name constraints.
package hierarchy

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// MaxDepth is how many CAs a chain may have, root included. The end entity is
// not counted, as it is not in a path length.
const MaxDepth = 5

// Child is what the laws need to know of a certificate that is about to be
// signed.
type Child struct {
	CA         bool
	MaxPathLen int // of a CA; -1 is none
	// NotBefore and NotAfter are as they will be written, after any clamping.
	NotBefore, NotAfter time.Time
	Names               []pki.Identifier
	RawSubject          []byte
	EKU                 []asn1.ObjectIdentifier
}

// Check reports whether a chain (issuer first, root last) may issue the child.
// Its faults are Denied with the Reason path_length, max_depth,
// validity_nesting or eku_nesting, and RejectedIdentifier with the Reason
// name_constraints and one Sub for each bad name. The chain itself must have
// passed calaw.Foreign.
func Check(chain []*x509.Certificate, c Child) error {
	if len(chain) == 0 {
		return errors.New("check hierarchy: no chain")
	}
	for _, law := range []func([]*x509.Certificate, Child) error{
		checkDepth, checkPathLength, checkValidity, checkUsages, CheckNames,
	} {
		if err := law(chain, c); err != nil {
			return err
		}
	}
	return nil
}

// denied is the fault of a law.
func denied(reason, format string, args ...any) error {
	return fault.New(fault.Denied, format, args...).Because(reason)
}

func checkDepth(chain []*x509.Certificate, c Child) error {
	authorities := len(chain)
	if c.CA {
		authorities++
	}
	if authorities > MaxDepth {
		return denied("max_depth", "this would be CA number %d of its chain, %d at most are allowed", authorities,
			MaxDepth)
	}
	return nil
}

// PathLen returns the limit in a CA's certificate, -1 for none.
func PathLen(ca *x509.Certificate) int {
	if !ca.BasicConstraintsValid || ca.MaxPathLen < 0 || ca.MaxPathLen == 0 && !ca.MaxPathLenZero {
		return -1
	}
	return ca.MaxPathLen
}

// checkPathLength counts self-issued certificates too, which RFC 5280 lets
// pass: nobody is served by a tree whose depth depends on equal names.
func checkPathLength(chain []*x509.Certificate, c Child) error {
	for between, ca := range chain {
		limit := PathLen(ca)
		if limit < 0 {
			continue
		}
		left := limit - between // CAs that may still follow below the issuer
		switch {
		case left < 0:
			return denied("path_length", "the chain is already deeper than the path length %d of %s allows", limit,
				ca.Subject)
		case !c.CA:
		case left == 0:
			return denied("path_length", "%s with path length %d cannot have another CA below here", ca.Subject, limit)
		case c.MaxPathLen < 0 || c.MaxPathLen >= left:
			return denied("path_length", "the path length must be set and at most %d here, since %s has %d", left-1,
				ca.Subject, limit)
		}
	}
	return nil
}

// checkValidity demands that a certificate lies within the life of every CA
// above it, and that a CA ends before them (rule X3).
func checkValidity(chain []*x509.Certificate, c Child) error {
	if !c.NotAfter.After(c.NotBefore) {
		return denied("validity_nesting", "notAfter is not after notBefore")
	}
	for _, ca := range chain {
		switch {
		case c.NotBefore.Before(ca.NotBefore):
			return denied("validity_nesting", "begins before its issuer %s does", ca.Subject)
		case c.NotAfter.After(ca.NotAfter):
			return denied("validity_nesting", "ends after its issuer %s, at %s", ca.Subject,
				ca.NotAfter.UTC().Format(time.RFC3339))
		case c.CA && !c.NotAfter.Before(ca.NotAfter):
			return denied("validity_nesting", "a CA must end before its issuer %s does", ca.Subject)
		}
	}
	return nil
}

var (
	oidEKU             = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// usages reads the extended key usages of a certificate; nil where it has none.
func usages(c *x509.Certificate) ([]asn1.ObjectIdentifier, error) {
	value, ok := pki.Extension(c.Extensions, oidEKU)
	if !ok {
		return nil, nil
	}
	input := cryptobyte.String(value)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() || seq.Empty() {
		return nil, errors.New("extended key usage: not a sequence with an entry")
	}
	var list []asn1.ObjectIdentifier
	for !seq.Empty() {
		var oid asn1.ObjectIdentifier
		if !seq.ReadASN1ObjectIdentifier(&oid) {
			return nil, errors.New("extended key usage: not an object identifier")
		}
		list = append(list, oid)
	}
	return list, nil
}

// CheckUsages reports whether a chain (issuer first, root last) allows a
// certificate these extended key usages. Its fault is that of Check.
func CheckUsages(chain []*x509.Certificate, usages []asn1.ObjectIdentifier) error {
	return checkUsages(chain, Child{EKU: usages})
}

// checkUsages nests extended key usages (rule X8): what a CA does not have,
// nothing below it may have. No usage at all means every usage, and so does not
// fit under a CA that has some.
func checkUsages(chain []*x509.Certificate, c Child) error {
	for _, ca := range chain {
		allowed, err := usages(ca)
		if err != nil {
			return denied("eku_nesting", "%s: %v", ca.Subject, err)
		}
		if len(allowed) == 0 || slices.ContainsFunc(allowed, pki.AnyEKU.Equal) {
			continue
		}
		if len(c.EKU) == 0 {
			return denied("eku_nesting", "without extended key usages it would be more than its issuer %s may be",
				ca.Subject)
		}
		for _, u := range c.EKU {
			if !slices.ContainsFunc(allowed, u.Equal) {
				return denied("eku_nesting", "the extended key usage %s is not among those of its issuer %s",
					pki.EKUName(u), ca.Subject)
			}
		}
	}
	return nil
}
