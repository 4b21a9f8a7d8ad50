package est

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

var (
	oidSAN        = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSerial     = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidChangeName = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36} // RFC 6402, section 2.8
)

// mayAsk judges whether a request is for the client that sends it, and returns
// the names to certify; nil are those of the request. Whether anybody may have
// these names is the profile's business.
func mayAsk(ep *endpoint, c *client, csr *pki.CSR, renew bool) ([]pki.Identifier, error) {
	switch {
	case renew:
		return mayRenew(ep, c, csr)
	case c.user != nil: // what it may have is said by the endpoint and its profile
		return nil, nil
	case c.shown.ra: // RFC 7030, section 3.7: who it is for is the RA's word
		return nil, nil
	}
	rule := ep.AnchorNames
	if c.shown.row != nil {
		rule = ep.OwnNames
	}
	if rule == NamesSame {
		return sameNames(c.shown.cert, csr)
	}
	if !mayLogIn(c.shown.cert) {
		return nil, refuseCertificate("usage", "it is not for TLS clients")
	}
	if rule == NamesSerial {
		return nil, sameSerial(c.shown.cert, csr)
	}
	return nil, nil
}

// mayRenew is RFC 7030, section 4.2.2: a renewal changes neither subject nor
// alternative names. Changing them by RFC 6402 is not allowed by any policy.
func mayRenew(ep *endpoint, c *client, csr *pki.CSR) ([]pki.Identifier, error) {
	if attribute(csr.Raw, oidChangeName) != nil {
		return nil, fault.New(fault.Denied, "the subject cannot be changed by a renewal").Because("subject_change")
	}
	same, ok := c.shown.cert.PublicKey.(publicKey)
	if !ok {
		return nil, refuseCertificate("key", "its kind of key is not known")
	}
	switch equal := same.Equal(csr.PublicKey); {
	case ep.RenewKey == RenewNew && equal:
		return nil, fault.New(fault.BadCSR, "certificate request: a renewal needs a new key here").Because("key_reused")
	case ep.RenewKey == RenewSame && !equal:
		return nil, fault.New(fault.BadCSR, "certificate request: a renewal keeps the key here").Because("key_changed")
	}
	return sameNames(c.shown.cert, csr)
}

// sameNames compares a request with a certificate, names as RFC 5280, section
// 7.1, compares them: clients write them with string types of their own (rule
// E13). A request without alternative names stands for those of the certificate.
func sameNames(cert *x509.Certificate, csr *pki.CSR) ([]pki.Identifier, error) {
	subject, err := pki.ParseNameDER(cert.RawSubject)
	if err != nil {
		return nil, refuseCertificate("subject", "its subject cannot be read")
	}
	if !subject.EqualRFC5280(csr.Subject) {
		return nil, fault.New(fault.Denied, "certificate request: its subject is %q, that of the client certificate %q", csr.Subject, subject).Because("subject_differs")
	}
	names, err := alternativeNames(cert)
	if err != nil {
		return nil, refuseCertificate("names", "its alternative names cannot be read")
	}
	if len(csr.Names) > 0 && !slices.Equal(sorted(names), sorted(csr.Names)) {
		return nil, fault.New(fault.Denied, "certificate request: its alternative names are not those of the client certificate").Because("names_differ")
	}
	return names, nil
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
		return fault.New(fault.Denied, "certificate request: its subject must have the serialNumber of the client certificate, %q", serial).Because("serial_differs")
	}
	return nil
}

// alternativeNames reads those of a certificate; never nil.
func alternativeNames(cert *x509.Certificate) ([]pki.Identifier, error) {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSAN) {
			return pki.ParseSAN(e.Value)
		}
	}
	return []pki.Identifier{}, nil
}

func sorted(names []pki.Identifier) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = string(n.Type) + ":" + n.Value
	}
	slices.Sort(all)
	return all
}
