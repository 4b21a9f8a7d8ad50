package issuance

import (
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Bound is the credential by which something is asked, and what it is good for.
type Bound struct {
	Kind     string   `json:"kind"`               // begins the reasons of refusals, such as "est_user"
	Profiles []string `json:"profiles,omitempty"` // empty is any
	pki.Binding
}

// boundEAB is the kind of EAB keys, whose reasons are older than the others.
const boundEAB = "eab"

var boundWords = map[string]string{
	boundEAB: "account's EAB key", "est_user": "EST user", "scep_challenge": "SCEP challenge",
	"scep_endpoint": "challenge of the SCEP endpoint",
}

// Check refuses what the credential does not hold. A nil subject is not judged: none
// is known yet; nor is an empty one in ACME, where a subject is one of the names or
// nothing. A nil Bound holds everything.
//
// Faults: Denied because of KIND_wrong_profile or KIND_wrong_subject;
// RejectedIdentifier because of KIND_wrong_name, with a Sub for each of several
// names. Of EAB keys these are eab_profile, eab_wrong_subject and eab_name.
func (b *Bound) Check(profileName string, subject *pki.Name, names []pki.Identifier) error {
	if b == nil {
		return nil
	}
	what := boundWords[b.Kind]
	if len(b.Profiles) > 0 && !slices.Contains(b.Profiles, profileName) {
		return fault.New(fault.Denied, "the %s does not cover profile %q", what, profileName).
			Because(b.reason("profile"))
	}
	if outside := b.Outside(names); len(outside) > 0 {
		return b.refuseNames(what, outside)
	}
	if subject == nil || b.Kind == boundEAB && len(*subject) == 0 || b.HasSubject(*subject) {
		return nil
	}
	if b.Subject != "" {
		return fault.New(fault.Denied, "the %s is for another subject", what).Because(b.Kind + "_wrong_subject")
	}
	return fault.New(fault.Denied, "the %s does not cover the subject %q: ask for one of its names, "+
		"or have it bound to a subject", what, *subject).Because(b.Kind + "_wrong_subject")
}

func (b *Bound) reason(of string) string {
	if b.Kind == boundEAB {
		return b.Kind + "_" + of
	}
	return b.Kind + "_wrong_" + of
}

func (b *Bound) refuseNames(what string, outside []pki.Identifier) error {
	reason := b.reason("name")
	subs := make([]*fault.Error, len(outside))
	for i, id := range outside {
		subs[i] = fault.New(fault.RejectedIdentifier, "the %s does not cover %s", what, id.Value).
			Because(reason).About(string(id.Type), id.Value)
	}
	if len(outside) == 1 {
		return subs[0]
	}
	all := fault.New(fault.RejectedIdentifier, "the %s does not cover %d of the names, the first: %s",
		what, len(outside), outside[0].Value).Because(reason)
	all.Sub = subs
	return all
}

// checkBound judges what would be signed: the names that the profile has made of the
// request, and what it leaves of the subject that was asked for. What a profile fixes
// is the operator's word already; a subject that is within as it was asked for is so
// with less. A renewal is asked by the power of a certificate.
func (r *Request) checkBound(t *profile.Template) error {
	if r.Bound == nil || r.Lineage != "" {
		return nil
	}
	err := r.Bound.Check(r.Profile, &t.Asked, t.Names)
	if err == nil || len(r.Bound.Outside(t.Names)) > 0 {
		return err
	}
	subject := r.Subject
	if subject == nil && r.CSR != nil {
		subject = &r.CSR.Subject
	}
	if subject == nil {
		return err
	}
	return r.Bound.Check(r.Profile, subject, t.Names)
}
