package hierarchy

import (
	"crypto/x509"

	"github.com/privyseal/privyseal/internal/pki"
)

// Describe returns an existing certificate as the Child that it was, so that
// certificates on record can be checked again.
func Describe(c *x509.Certificate) (Child, error) {
	child := Child{
		CA: c.IsCA, MaxPathLen: PathLen(c), NotBefore: c.NotBefore, NotAfter: c.NotAfter, RawSubject: c.RawSubject,
	}
	var err error
	if child.EKU, err = usages(c); err != nil {
		return child, err
	}
	if value, ok := pki.Extension(c.Extensions, pki.OIDSubjectAltName); ok {
		child.Names, err = pki.ParseSAN(value)
	}
	return child, err
}
