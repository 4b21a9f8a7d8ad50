package enrolment

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Renewal is the request of a holder for its certificate once more: the same
// profile, the same names, octet by octet.
func (e *Enrolment) Renewal(h *Holder, csr *pki.CSR) (issuance.Request, error) {
	ask, err := e.Again(h.Certificate, csr, h.Row.Profile)
	if err != nil {
		return ask, err
	}
	ask.Lineage = h.Line()
	carried := profile.Request{PublicKey: csr.PublicKey, RawSubject: ask.RawSubject, Names: ask.Names}
	t, err := e.apply(ask.Profile, carried)
	if err != nil {
		return ask, err
	}
	san, err := marshalSAN(t.Names)
	if err != nil {
		return ask, err
	}
	had, _ := pki.Extension(h.Certificate.Extensions, pki.OIDSubjectAltName)
	if !bytes.Equal(t.RawSubject, h.Certificate.RawSubject) || !bytes.Equal(san, had) {
		return ask, fault.New(fault.Denied, "the profile %s does not give the certificate's names as they are any "+
			"more: "+
			"enrol anew", ask.Profile).Because("renewal_profile")
	}
	return ask, nil
}

// Again is the request for a certificate of the given profile with the names of a
// certificate, ours or not. What the client wrote is compared with them as RFC
// 5280, section 7.1, compares names, because clients write string types and case of
// their own; the certificate's own spelling is what is asked for. A request that
// the profile completes to those names, such as that of the first enrolment, or
// that has no alternative names, stands for them too.
func (e *Enrolment) Again(cert *x509.Certificate, csr *pki.CSR, profileName string) (issuance.Request, error) {
	ask := issuance.Request{CSR: csr, Profile: profileName, RawSubject: cert.RawSubject, Names: []pki.Identifier{}}
	subject, err := pki.ParseNameDER(cert.RawSubject)
	if err != nil {
		return ask, refuse("subject", "its subject cannot be read")
	}
	if san, ok := pki.Extension(cert.Extensions, pki.OIDSubjectAltName); ok {
		if ask.Names, err = pki.ParseSAN(san); err != nil {
			return ask, refuse("names", "its alternative names cannot be read")
		}
	}
	differs := compare(subject, ask.Names, csr.Subject, csr.Names)
	if differs == nil {
		return ask, nil
	}
	plain := profile.Request{PublicKey: csr.PublicKey, Subject: &csr.Subject}
	if len(csr.Names) > 0 {
		plain.Names = csr.Names
	}
	t, err := e.apply(profileName, plain)
	if err != nil {
		return ask, differs
	}
	completed, err := pki.ParseNameDER(t.RawSubject)
	if err != nil || compare(subject, ask.Names, completed, t.Names) != nil {
		return ask, differs
	}
	return ask, nil
}

// apply is what a profile makes of names. Extensions are judged when it is issued.
func (e *Enrolment) apply(name string, r profile.Request) (*profile.Template, error) {
	p := e.cfg.Pipeline.Rules().Profiles[name]
	if p == nil {
		return nil, fault.New(fault.InvalidProfile, "profile %q does not exist any more", name)
	}
	return p.Apply(r, e.cfg.Now())
}

func compare(subject pki.Name, names []pki.Identifier, asked pki.Name, askedNames []pki.Identifier) error {
	if !subject.EqualRFC5280(asked) {
		return fault.New(fault.Denied, "certificate request: its subject is %q, that of the client certificate %q",
			asked, subject).Because("subject_differs")
	}
	if len(askedNames) > 0 && !slices.Equal(folded(names), folded(askedNames)) {
		const what = "certificate request: its alternative names are not those of the client certificate"
		return fault.New(fault.Denied, what).Because("names_differ")
	}
	return nil
}

func marshalSAN(names []pki.Identifier) ([]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return pki.MarshalSAN(names)
}
