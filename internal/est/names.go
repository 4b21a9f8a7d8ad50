package est

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
)

var (
	oidSerial     = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidChangeName = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36} // RFC 6402, section 2.8
)

// mayAsk judges whether a request is for the client that sends it, and returns
// what is asked for: for the names of its certificate where it may have no others.
// Whether anybody may have these names is the profile's business.
func (s *Server) mayAsk(ep *endpoint, c *client, csr *pki.CSR, renew bool) (issuance.Request, error) {
	ask := issuance.Request{CSR: csr, Profile: c.profile(ep, renew)}
	switch {
	case renew:
		if err := mayRenew(ep, c, csr); err != nil {
			return ask, err
		}
		return s.Enrolment.Renewal(c.presented.holder, csr)
	case c.user != nil: // what it may have is said by the endpoint and its profile
		return ask, nil
	case c.presented.ra: // RFC 7030, section 3.7: who it is for is the RA's word
		return ask, nil
	}
	rule, line := ep.AnchorNames, ""
	if c.presented.holder != nil {
		rule, line = ep.OwnNames, c.presented.holder.Line()
	}
	var err error
	switch {
	case rule == NamesSame && c.presented.holder != nil && c.presented.holder.Row.Profile == ask.Profile:
		return s.Enrolment.Renewal(c.presented.holder, csr)
	case rule == NamesSame:
		ask, err = s.Enrolment.Again(c.presented.cert, csr, ask.Profile)
	case !mayLogIn(c.presented.cert):
		err = refuseCertificate("usage", "it is not for TLS clients")
	case rule == NamesSerial:
		err = sameSerial(c.presented.cert, csr)
	}
	ask.Lineage = line
	return ask, err
}

// mayRenew is RFC 7030, section 4.2.2: a renewal changes neither subject nor
// alternative names. Changing them by RFC 6402 is not allowed by any policy.
func mayRenew(ep *endpoint, c *client, csr *pki.CSR) error {
	if attribute(csr.Raw, oidChangeName) != nil {
		return fault.New(fault.Denied, "the subject cannot be changed by a renewal").Because("subject_change")
	}
	same, ok := c.presented.cert.PublicKey.(publicKey)
	if !ok {
		return refuseCertificate("key", "its kind of key is not known")
	}
	switch equal := same.Equal(csr.PublicKey); {
	case ep.RenewKey == RenewNew && equal:
		return fault.New(fault.BadCSR, "certificate request: a renewal needs a new key here").Because("key_reused")
	case ep.RenewKey == RenewSame && !equal:
		return fault.New(fault.BadCSR, "certificate request: a renewal keeps the key here").Because("key_changed")
	}
	return nil
}

func sameSerial(cert *x509.Certificate, csr *pki.CSR) error {
	subject, err := pki.ParseNameDER(cert.RawSubject)
	if err != nil {
		return refuseCertificate("subject", "its subject cannot be read")
	}
	serial := subject.Values(oidSerial)
	if len(serial) == 0 {
		return refuseCertificate("serial", "its subject has no serialNumber to be known by")
	}
	if !slices.Equal(serial, csr.Subject.Values(oidSerial)) {
		return fault.New(fault.Denied, "certificate request: its subject must have the serialNumber of the client "+
			"certificate, %q", serial).Because("serial_differs")
	}
	return nil
}
