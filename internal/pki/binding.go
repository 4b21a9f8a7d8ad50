package pki

import (
	"errors"
	"fmt"
	"slices"
)

// Binding is which names a credential may have certified. The zero one holds none.
type Binding struct {
	// Subject, in RFC 4514 form, is the only one; empty leaves it to the names.
	Subject string `json:"subject,omitempty"`
	// Names are texts of NamePattern.
	Names []string `json:"names,omitempty"`
	// AnyName is set where an operator said so: alternative names are not looked at,
	// nor is the subject, unless there is Subject.
	AnyName bool `json:"any_name,omitempty"`
	// Old is set for credentials of the time before bindings, which have AnyName
	// without that anybody said so.
	Old bool `json:"-"`
}

// maxPatterns is how many names one binding may have.
const maxPatterns = 256

// Check says what is wrong with a binding that is to be made, and which part of it:
// "scope", "any_name", "subject" or "name_pattern". It puts the subject into canonical
// form.
func (b *Binding) Check() (part string, err error) {
	switch {
	case len(b.Names) > maxPatterns:
		return "scope", fmt.Errorf("more than %d names", maxPatterns)
	case b.AnyName && len(b.Names) > 0:
		return "any_name", errors.New("names and any name exclude each other")
	}
	if b.Subject != "" {
		p, err := ParseNamePattern(b.Subject)
		if err == nil && len(p.subject) == 0 {
			err = fmt.Errorf("%q: want attributes such as CN=router-7,O=Example", clip(b.Subject))
		}
		if err != nil {
			return "subject", fmt.Errorf("the subject: %w", err)
		}
		b.Subject = p.subject.String()
	}
	for _, text := range b.Names {
		if _, err := ParseNamePattern(text); err != nil {
			return "name_pattern", err
		}
	}
	return "", nil
}

// Binds reports whether anything is said of names.
func (b Binding) Binds() bool { return b.AnyName || b.Subject != "" || len(b.Names) > 0 }

// HasSubject reports whether a subject is within the binding. The common names and
// mailboxes in it are names like others, also where a pattern of a subject has * for
// them and there are patterns of names; any further attribute needs a pattern of a
// subject.
func (b Binding) HasSubject(n Name) bool {
	patterns := b.patterns()
	if b.Subject == "" && (b.AnyName || within(patterns, nil, slices.Concat(n...))) {
		return true
	}
	subjects := patterns
	if b.Subject != "" {
		subjects = parsePatterns(b.Subject)
	}
	bound := slices.ContainsFunc(patterns, func(p NamePattern) bool { return p.kind != "" })
	return slices.ContainsFunc(subjects, func(p NamePattern) bool {
		free, ok := p.MatchSubject(n)
		return ok && (!bound || within(patterns, []NamePattern{p}, nameLike(free)))
	})
}

// Outside returns the canonical names that the binding does not hold. A name that
// its subject spells out is within.
func (b Binding) Outside(names []Identifier) (outside []Identifier) {
	if b.AnyName {
		return nil
	}
	patterns := b.patterns()
	for _, id := range names {
		if !slices.ContainsFunc(patterns, func(p NamePattern) bool { return p.Match(id) || p.spells(id) }) {
			outside = append(outside, id)
		}
	}
	return outside
}

func (b Binding) patterns() []NamePattern {
	all := parsePatterns(b.Names...)
	if b.Subject != "" {
		all = append(all, parsePatterns(b.Subject)...)
	}
	return all
}

// parsePatterns leaves out what cannot be read, which earlier releases took and
// which holds no name.
func parsePatterns(texts ...string) []NamePattern {
	all := make([]NamePattern, 0, len(texts))
	for _, text := range texts {
		if p, err := ParseNamePattern(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// nameLike are the attributes that clients take for a host or a mailbox.
func nameLike(attributes []Attribute) []Attribute {
	return slices.DeleteFunc(slices.Clone(attributes), func(a Attribute) bool {
		return !a.OID.Equal(OIDCommonName) && !a.OID.Equal(OIDEmailAddress)
	})
}

// within reports whether each attribute is a name that a pattern holds.
func within(patterns, subjects []NamePattern, attributes []Attribute) bool {
	for _, a := range attributes {
		if !slices.ContainsFunc(readings(a), func(id Identifier) bool {
			return slices.ContainsFunc(patterns, func(p NamePattern) bool { return p.Match(id) }) ||
				slices.ContainsFunc(subjects, func(p NamePattern) bool { return p.spells(id) })
		}) {
			return false
		}
	}
	return true
}

// spells reports whether a subject has the name as the value of an attribute.
func (p NamePattern) spells(id Identifier) bool {
	for _, rdn := range p.subject {
		for _, a := range rdn {
			if a.Value != anyValue && slices.Contains(readings(a), id) {
				return true
			}
		}
	}
	return false
}

// readings are the canonical names that an attribute can be taken for.
func readings(a Attribute) (all []Identifier) {
	types := []IdentifierType{DNS, IP, Email, URI, UPN}
	switch {
	case a.OID.Equal(OIDEmailAddress):
		types = []IdentifierType{Email}
	case !a.OID.Equal(OIDCommonName):
		return nil
	}
	for _, t := range types {
		if id, err := (Identifier{t, a.Value}).Canonical(); err == nil {
			all = append(all, id)
		}
	}
	return all
}
