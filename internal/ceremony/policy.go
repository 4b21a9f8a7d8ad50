package ceremony

import (
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
		Optional: []string{"OU", "emailAddress"},
	}
}

// empty reports whether nothing is said, which stands for StrictNames.
func (p NamePolicy) empty() bool { return len(p.Match)+len(p.Supplied)+len(p.Optional) == 0 }

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
				return fmt.Errorf("name policy: %w", err)
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
				return refuse("name_policy", "subject: %s is not in the name policy", pki.AttributeName(a.OID))
			}
		}
	}
	return nil
}

func matches(name string, ours, theirs []string) error {
	if !slices.Equal(ours, theirs) {
		return refuse("name_policy", "subject: %s is %s, but the signing CA has %s", name, values(theirs), values(ours))
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

// refuse is the fault of an act that the rules of the ceremony forbid.
func refuse(reason, format string, args ...any) error {
	return fault.New(fault.Denied, format, args...).Because(reason)
}
