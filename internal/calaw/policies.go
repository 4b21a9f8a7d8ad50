package calaw

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
)

// policyState is what path validation knows of certificate policies after the CAs
// of a chain (RFC 5280, section 6.1). Policies that are mapped to others are not
// followed.
type policyState struct {
	any      bool       // every policy is valid still
	valid    []x509.OID // those that are valid; with any, in addition
	explicit int        // certificates until a valid policy is demanded; 0: it is
	inhibit  int        // certificates until anyPolicy stops to count; 0: it has
	broken   *x509.Certificate
}

var anyPolicy = mustOID("2.5.29.32.0")

func mustOID(s string) x509.OID {
	oid, err := x509.ParseOID(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return oid
}

// policiesOf follows the policies of a chain (issuer first) from the root down. The
// root is a trust anchor, whose policies do not count.
func policiesOf(chain []*x509.Certificate) policyState {
	never := len(chain) + 1
	s := policyState{any: true, explicit: never, inhibit: never}
	for i := len(chain) - 2; i >= 0; i-- {
		c := chain[i]
		selfIssued := pki.SameName(c.RawSubject, c.RawIssuer)
		s.assert(c.Policies, s.inhibit > 0 || selfIssued)
		if s.explicit == 0 && s.none() && s.broken == nil {
			s.broken = c
		}
		if !selfIssued {
			s.explicit, s.inhibit = max(s.explicit-1, 0), max(s.inhibit-1, 0)
		}
		if c.RequireExplicitPolicy > 0 || c.RequireExplicitPolicyZero {
			s.explicit = min(s.explicit, c.RequireExplicitPolicy)
		}
		if c.InhibitAnyPolicy > 0 || c.InhibitAnyPolicyZero {
			s.inhibit = min(s.inhibit, c.InhibitAnyPolicy)
		}
	}
	return s
}

func (s *policyState) none() bool { return !s.any && len(s.valid) == 0 }

// assert takes the policies of the next certificate; anyCounts is whether anyPolicy
// means anything in it.
func (s *policyState) assert(policies []x509.OID, anyCounts bool) {
	all := slices.ContainsFunc(policies, anyPolicy.Equal) && anyCounts
	var valid []x509.OID
	for _, p := range policies {
		if !p.Equal(anyPolicy) && (s.any || slices.ContainsFunc(s.valid, p.Equal)) {
			valid = append(valid, p)
		}
	}
	for _, p := range s.valid {
		if all && !slices.ContainsFunc(valid, p.Equal) {
			valid = append(valid, p)
		}
	}
	s.any, s.valid = s.any && all, valid
}

// CheckPolicies refuses an end entity's policies that no verifier would accept
// below a chain (issuer first, root last) with the reason explicit_policy: one of
// the CAs demands a policy that all certificates have in common.
func CheckPolicies(chain []*x509.Certificate, policies []asn1.ObjectIdentifier) error {
	s := policiesOf(chain)
	own := make([]x509.OID, 0, len(policies))
	for _, p := range policies {
		oid, err := x509.ParseOID(p.String())
		if err != nil {
			return refuse("explicit_policy", "the policy %s cannot be read", p)
		}
		own = append(own, oid)
	}
	allowed := s.list()
	s.assert(own, s.inhibit > 0)
	// The last certificate counts too (section 6.1.5, a).
	if s.explicit > 1 || !s.none() {
		return nil
	}
	return refuse("explicit_policy",
		"a CA above demands that certificates have a policy in common with it, and this one would have none: "+
			"give the profile one of the policies %s", allowed)
}

func (s *policyState) list() string {
	if s.any {
		return "of your own"
	}
	names := make([]string, len(s.valid))
	for i, p := range s.valid {
		names[i] = p.String()
	}
	if len(names) == 0 {
		return "(there is none that fits)"
	}
	return strings.Join(names, ", ")
}

// policies says what the chain's policies mean for what the CA signs.
func (j *judged) policies() {
	for i, c := range j.chain {
		switch {
		case len(c.PolicyMappings) > 0 && !j.root(i):
			add(&j.NoSigning, "policy_mapping",
				"%s maps policies to those of another organisation, which is not followed here: "+
					"certificates would mean something else than they say; have it certified without", c.Subject)
		case j.root(i) && (c.RequireExplicitPolicy > 0 || c.RequireExplicitPolicyZero):
			add(&j.Warnings, "explicit_policy",
				"the root %s demands policies in all certificates below it: RFC 5280 does not look at that in a "+
					"root, some verifiers do; give profiles a policy that all CAs of the chain have", c.Subject)
		}
	}
	s := policiesOf(j.chain)
	switch {
	case s.broken != nil:
		add(&j.NoSigning, "explicit_policy",
			"a CA above %s demands a policy that all below have in common, and it has none: verifiers refuse it; "+
				"have it certified with that policy", s.broken.Subject)
	case s.explicit <= 1 && s.none():
		add(&j.NoSigning, "explicit_policy",
			"the chain of %s demands that certificates have a policy in common with every CA of it, and there is no "+
				"such policy: verifiers refuse whatever it signs; have it certified with a policy, or without the "+
				"demand",
			j.chain[0].Subject)
	case s.explicit <= 1:
		add(&j.Warnings, "explicit_policy",
			"the chain of %s demands policies: profiles that sign below it need one of the policies %s, "+
				"and requests by others are refused", j.chain[0].Subject, s.list())
	}
}
