package calaw

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// NamePolicy says how the name of a CA that asks for a certificate relates to
// the name of the CA that signs it. Attributes are given by short name or OID;
// one that no list names is refused.
type NamePolicy struct {
	Match    []string `yaml:"match,omitempty"`    // the same values as in the signer's name, or absent in both
	Supplied []string `yaml:"supplied,omitempty"` // must be there
	Optional []string `yaml:"optional,omitempty"` // may be there
}

// StrictNames is the policy for a CA of one's own organisation.
func StrictNames() NamePolicy {
	return NamePolicy{
		Match:    []string{"C", "ST", "O"},
		Supplied: []string{"CN"},
		Optional: []string{"OU"}, // a mailbox belongs into an alternative name (RFC 5280, section 4.1.2.6)
	}
}

// RootNames is the policy for roots, which nobody signs.
func RootNames() NamePolicy {
	return NamePolicy{
		Supplied: []string{"CN"},
		Optional: []string{"C", "ST", "L", "O", "OU", "DC", "serialNumber", "organizationIdentifier"},
	}
}

// ParseSubject reads the name of a CA that is to be, RFC 4514. Its fault is
// Malformed with the reason subject; which attributes it must have is Check's to
// say.
func ParseSubject(text string) (pki.Name, error) {
	name, err := pki.ParseName(text)
	if err == nil {
		err = name.Check()
	}
	if err != nil {
		return nil, fault.New(fault.Malformed, "subject: %w", err).Because("subject")
	}
	return name, nil
}

// empty reports whether nothing is said, which stands for the usual policy.
func (p NamePolicy) empty() bool { return len(p.Match)+len(p.Supplied)+len(p.Optional) == 0 }

// checkName refuses the name of a CA above, since two keys would speak, and sign
// lists, under one name; and what the policy forbids, unless any name may be.
func checkName(above []*x509.Certificate, rawSubject []byte, policy NamePolicy, anyName bool) error {
	subject, err := pki.ParseNameDER(rawSubject)
	if err != nil {
		return fault.New(fault.Malformed, "subject: %w", err).Because("subject")
	}
	var signer pki.Name
	for i := len(above) - 1; i >= 0; i-- {
		if signer, err = pki.ParseNameDER(above[i].RawSubject); err != nil {
			return fmt.Errorf("name of %s: %w", above[i].Subject, err)
		}
		if signer.EqualRFC5280(subject) {
			return refuse("name_taken", "subject: %s is the name of a CA above: take another one", subject)
		}
	}
	switch {
	case anyName:
		return nil
	case policy.empty() && len(above) == 0:
		policy = RootNames()
	case policy.empty():
		policy = StrictNames()
	}
	return policy.check(signer, subject)
}

// check compares a subject with the signer's name.
func (p NamePolicy) check(signer, subject pki.Name) error {
	known := make(map[string]bool)
	for _, rule := range []struct {
		names []string
		check func(name string, ours, theirs []string) error
	}{
		{p.Match, matches}, {p.Supplied, supplied}, {p.Optional, func(string, []string, []string) error { return nil }},
	} {
		for _, name := range rule.names {
			oid, err := pki.ParseAttributeType(name)
			if err != nil {
				return fault.New(fault.Malformed, "name policy: %w", err).Because("ca_terms")
			}
			known[oid.String()] = true
			if err := rule.check(name, signer.Values(oid), subject.Values(oid)); err != nil {
				return err
			}
		}
	}
	for _, rdn := range subject {
		for _, a := range rdn {
			if !known[a.OID.String()] {
				return refuse("name_policy",
					"subject: %s is not in the name policy: leave it out", pki.AttributeName(a.OID))
			}
		}
	}
	return nil
}

// matches compares octet for octet: RFC 5280 would let case and space differ, but
// a second spelling of one organisation is a mistake at best.
func matches(name string, ours, theirs []string) error {
	if !slices.Equal(ours, theirs) {
		return refuse("name_policy", "subject: %s is %s, but the signing CA has %s, which it must repeat as it stands",
			name, values(theirs), values(ours))
	}
	return nil
}

func supplied(name string, _, theirs []string) error {
	if len(theirs) == 0 {
		return refuse("name_policy", "subject: %s is missing", name)
	}
	return nil
}

func values(v []string) string {
	if len(v) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", strings.Join(v, ", "))
}
