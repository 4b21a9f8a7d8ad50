package challenge

import (
	"context"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"golang.org/x/net/publicsuffix"
)

// Words for Record.CAA where no record set decided.
const (
	caaSkipped = "skipped"
	caaNone    = "none"
)

// checkCAA climbs from the name to its top-level domain, takes the first CAA
// record set there is and asks whether it lets us issue (RFC 8659, section 3).
// It returns what goes into the record.
func (v *Validator) checkCAA(
	ctx context.Context, id pki.Identifier, wildcard bool, accounts []string, method string,
) (string, error) {
	if id.Type != pki.DNS || !v.caaApplies(id.Value) {
		return caaSkipped, nil
	}
	for name := id.Value; name != ""; _, name, _ = strings.Cut(name, ".") {
		f, err := v.dns.lookup(ctx, name, dns.TypeCAA)
		if err != nil && !isNXDomain(err) {
			return "", err
		}
		if len(f.rrs) == 0 {
			continue
		}
		set := caaSet{name: name, elsewhere: f.alias != ""}
		for _, rr := range f.rrs {
			if caa, ok := rr.(*dns.CAA); ok {
				set.properties = append(set.properties, property{caa.Flag, strings.ToLower(caa.Tag), caa.Value})
			}
		}
		return name, set.permits(v.cfg.CAAIdentities, wildcard, accounts, method)
	}
	return caaNone, nil
}

// caaApplies reports whether CAA is looked up for a name.
func (v *Validator) caaApplies(name string) bool {
	switch {
	case v.cfg.LocalhostIsLoopback && isLocalhost(name):
		return false
	case v.cfg.CAA == CAANever:
		return false
	case v.cfg.CAA == CAAAlways:
		return true
	default:
		return isPublic(name)
	}
}

// isPublic reports whether a name lies under a top-level domain of the public
// root. The public suffix list knows them; it also lists home.arpa, which is
// for homes (RFC 8375).
func isPublic(name string) bool {
	if name == "home.arpa" || strings.HasSuffix(name, ".home.arpa") {
		return false
	}
	tld := name[strings.LastIndexByte(name, '.')+1:]
	_, icann := publicsuffix.PublicSuffix(tld)
	return icann && tld != "onion"
}

// property is one CAA record.
type property struct {
	flags uint8
	tag   string // lower case
	value string
}

// caaSet is the record set that decides for a name.
type caaSet struct {
	name       string
	elsewhere  bool // an alias led to it: what it says is another's
	properties []property
}

// knownTags are the property tags that we understand; those besides issue and
// issuewild say nothing about certificates for hosts.
var knownTags = []string{"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"}

// critical reports whether a property must be understood. Bit 0 of RFC 8659 is
// the value 128; some zones set the value 1 and mean the same.
func (p property) critical() bool { return p.flags&(128|1) != 0 }

// permits returns nil if the set lets an issuer with one of our identities
// issue for an account that was validated by method.
func (s caaSet) permits(identities []string, wildcard bool, accounts []string, method string) error {
	for _, p := range s.properties {
		if p.critical() && !slices.Contains(knownTags, p.tag) {
			tag := quote(p.tag)
			if s.elsewhere {
				tag = "(of where an alias leads)"
			}
			return fault.New(fault.CAA, "the CAA records of %s hold the critical property %s, which is not known here",
				s.name, tag).Because("caa_critical")
		}
	}
	relevant := s.tagged("issue")
	if wild := s.tagged("issuewild"); wildcard && len(wild) > 0 {
		relevant = wild
	}
	if len(relevant) == 0 {
		return nil
	}
	named := false
	for _, p := range relevant {
		value, err := parseIssueValue(p.value)
		if err != nil || !names(value.domain, identities) {
			continue
		}
		named = true
		if value.permits(accounts, method) {
			return nil
		}
	}
	if named {
		return fault.New(fault.CAA, "the CAA records of %s name this issuer, but not for this account and %s", s.name,
			method).
			Because("caa_parameters")
	}
	if len(identities) == 0 {
		return fault.New(fault.CAA, "the CAA records of %s forbid issuance, and this server has no issuer domain name "+
			"of its own", s.name).
			Because("caa_forbids")
	}
	return fault.New(fault.CAA, "the CAA records of %s do not name this issuer (%s)", s.name,
		strings.Join(identities, ", ")).
		Because("caa_forbids")
}

func (s caaSet) tagged(tag string) []property {
	var out []property
	for _, p := range s.properties {
		if p.tag == tag {
			out = append(out, p)
		}
	}
	return out
}

// names reports whether a record's issuer domain is one of ours. Domain names
// are compared without regard to case.
func names(domain string, identities []string) bool {
	return domain != "" && slices.ContainsFunc(identities, func(id string) bool {
		return strings.EqualFold(strings.TrimSuffix(id, "."), domain)
	})
}
