package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// applySubject returns the subject that the rules leave of the requested one, after
// the fixed part, which has the given number of relative names.
func (p *Profile) applySubject(r Request) (subject pki.Name, fixed int, err error) {
	var asked pki.Name
	switch {
	case r.RawSubject != nil:
		if asked, err = pki.ParseNameDER(r.RawSubject); err != nil {
			return nil, 0, refuseCSR("subject", "%v", err)
		}
	case r.Subject != nil:
		asked = *r.Subject
	case r.CSR != nil:
		asked = r.CSR.Subject
	}
	for _, f := range p.fields {
		if f.fixed != "" {
			subject = append(subject, pki.RDN{{OID: f.oid, Value: f.fixed}})
		}
	}
	fixed = len(subject)
	for _, rdn := range asked {
		var kept pki.RDN
		for _, a := range rdn {
			if a.Value == "" && a.Raw == nil { // says nothing
				continue
			}
			keep, err := p.judge(a)
			if err != nil {
				return nil, 0, err
			}
			if keep {
				kept = append(kept, a)
			}
		}
		if len(kept) > 0 {
			subject = append(subject, kept)
		}
	}
	for _, f := range p.fields {
		n := len(subject.Values(f.oid))
		switch name := pki.AttributeName(f.oid); {
		case f.required && n == 0:
			return nil, 0, refuseCSR("subject_required", "the profile %s wants %s in the subject", p.name, name)
		case n > f.max:
			return nil, 0, refuseCSR("subject_count", "%s stands %d times in the subject, %d at most", name, n, f.max)
		}
	}
	return subject, fixed, nil
}

// judge says whether a requested attribute goes into the certificate.
func (p *Profile) judge(a pki.Attribute) (keep bool, err error) {
	name := pki.AttributeName(a.OID)
	i := slices.IndexFunc(p.fields, func(f field) bool { return f.oid.Equal(a.OID) })
	if i < 0 {
		if p.dropSubject {
			return false, nil
		}
		return false, refuseCSR("subject_attribute", "the profile %s does not take %s in the subject", p.name, name)
	}
	f := p.fields[i]
	switch {
	case f.forbidden:
		return false, refuseCSR("subject_attribute", "the profile %s forbids %s in the subject", p.name, name)
	case f.fixed != "":
		one := pki.SingleName(pki.Attribute{OID: f.oid, Value: f.fixed})
		if !p.dropSubject && !one.EqualRFC5280(pki.SingleName(a)) {
			return false, refuseCSR("subject_fixed", "%s must be %q or absent", name, f.fixed)
		}
		return false, nil // it is there already
	case len(f.match) > 0 && !slices.ContainsFunc(f.match, func(m matcher) bool { return m(a.Value) }):
		return false, refuseCSR("subject_value", "%s %q: no pattern of the profile %s allows it", name, a.Value, p.name)
	}
	return true, nil
}

// applyNames returns the alternative names, canonical, each checked.
func (p *Profile) applyNames(r Request, subject pki.Name) ([]pki.Identifier, error) {
	asked := r.Names
	var fromCSR []pki.Identifier
	if r.CSR != nil {
		fromCSR = r.CSR.Names
	}
	if asked == nil {
		asked = fromCSR
		if cn := subject.CommonName(); len(asked) == 0 && p.cnInSAN && cn != "" {
			if id, ok := p.commonNameAsSAN(cn); ok {
				asked = []pki.Identifier{id} // old devices know no SAN (rule A41)
			}
		}
	}
	var names []pki.Identifier
	var bad []*fault.Error
	seen, allowed := make(map[pki.Identifier]bool, len(asked)), make(map[string]bool, len(asked))
	for _, id := range asked {
		c, err := p.checkName(id)
		if err != nil {
			bad = append(bad, err)
		} else if !seen[c] {
			seen[c], allowed[c.Folded()] = true, true
			names = append(names, c)
		}
	}
	if r.Names != nil {
		for _, id := range fromCSR {
			if c, err := id.Canonical(); err != nil || !allowed[c.Folded()] {
				bad = append(bad, about(fault.RejectedIdentifier, id, "not_authorised", "this name was not authorised"))
			}
		}
	}
	if len(bad) > 0 {
		return nil, refuseNames(bad)
	}
	return names, p.countNames(names)
}

func about(kind fault.Kind, id pki.Identifier, reason, why string) *fault.Error {
	return fault.New(kind, "%s %q: %s", id.Type, id.Value, why).Because(reason).About(string(id.Type), id.Value)
}

// refuseNames makes one fault of those of the single names.
func refuseNames(bad []*fault.Error) error {
	bad = fault.Distinct(bad)
	first := *bad[0]
	f := fault.New(fault.RejectedIdentifier, "%s", first.Detail).Because(first.Reason)
	if len(bad) > 1 {
		f = fault.New(fault.RejectedIdentifier, "%d names are refused, the first: %s", len(bad), first.Detail).
			Because(first.Reason)
	} else {
		f.Identifier = first.Identifier
	}
	f.Sub = bad
	return f
}

// checkName judges one name and returns its canonical form.
func (p *Profile) checkName(id pki.Identifier) (pki.Identifier, *fault.Error) {
	c, err := id.Canonical()
	if err != nil {
		return c, fault.Of(err)
	}
	r := p.san[c.Type]
	if r == nil {
		return c, about(fault.RejectedIdentifier, c, "san_type",
			fmt.Sprintf("the profile %s takes no names of this type", p.name))
	}
	if c.Type == pki.DNS {
		if _, err := pki.CheckDNSName(c.Value, p.dns); err != nil {
			return c, fault.Of(err)
		}
	}
	if reason, why := r.check(c.Value); why != "" {
		return c, about(fault.RejectedIdentifier, c, reason, why)
	}
	return c, nil
}

// CheckName judges one name by itself, as a front-end does before it lets
// anybody prove it; the fault is the one that Apply would report.
func (p *Profile) CheckName(id pki.Identifier) (pki.Identifier, error) {
	c, f := p.checkName(id)
	if f != nil {
		return pki.Identifier{}, f
	}
	return c, nil
}

func (p *Profile) countNames(names []pki.Identifier) error {
	counts := map[pki.IdentifierType]int{}
	for _, id := range names {
		counts[id.Type]++
	}
	if n := len(names); n < p.minSAN || n > p.maxSAN {
		return refuseCSR("san_count", "%d alternative names, the profile %s wants %d to %d", n, p.name, p.minSAN,
			p.maxSAN)
	}
	for t, r := range p.san {
		if n := counts[t]; n < r.min || r.max > 0 && n > r.max {
			most := r.max
			if most == 0 {
				most = p.maxSAN
			}
			return refuseCSR("san_count", "%d names of type %s, the profile %s wants %d to %d", n, t, p.name, r.min,
				most)
		}
	}
	return nil
}

// commonNameAsSAN reads a common name as the first type of name that fits.
func (p *Profile) commonNameAsSAN(cn string) (pki.Identifier, bool) {
	for _, t := range []pki.IdentifierType{pki.IP, pki.DNS, pki.Email} {
		if c, err := (pki.Identifier{Type: t, Value: cn}).Canonical(); err == nil && p.san[t] != nil {
			return c, true
		}
	}
	return pki.Identifier{}, false
}

// matchCommonName demands that each CN is one of the names (rule X5), writes it
// in their spelling, and takes out an address, which belongs into the SAN alone
// (rule A58), and a name that is too long for a CN.
func (p *Profile) matchCommonName(subject pki.Name, names []pki.Identifier) (pki.Name, error) {
	var out pki.Name
	for _, rdn := range subject {
		var kept pki.RDN
		for _, a := range rdn {
			if !a.OID.Equal(pki.OIDCommonName) {
				kept = append(kept, a)
				continue
			}
			id, ok := sameName(a.Value, names)
			if !ok {
				return nil, refuseCSR("common_name", "its common name %q is not one of its alternative names", a.Value).
					About(string(pki.DNS), a.Value)
			}
			same := pki.Attribute{OID: a.OID, Value: id.Value}
			if id.Type != pki.IP && pki.SingleName(same).Check() == nil {
				kept = append(kept, same)
			}
		}
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out, nil
}

// sameName finds the DNS name, address or mailbox that a common name repeats.
func sameName(cn string, names []pki.Identifier) (pki.Identifier, bool) {
	for _, id := range names {
		if id.Type != pki.DNS && id.Type != pki.IP && id.Type != pki.Email {
			continue
		}
		c, err := (pki.Identifier{Type: id.Type, Value: cn}).Canonical()
		if err == nil && (c == id || id.Type == pki.Email && strings.EqualFold(c.Value, id.Value)) {
			return id, true
		}
	}
	return pki.Identifier{}, false
}
