package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// CrossSpec says what certificate another CA is to have from this one.
type CrossSpec struct {
	Years       int      // calendar years; default 10
	PathLen     int      // CAs that may follow below it
	ExtKeyUsage []string // none leaves it free within what the signer may
	Policies    []string
	// NameConstraints bounds every name below; nil leaves them free.
	NameConstraints *profile.NameConstraints
	Locations       issuer.Locations
}

var oidSubjectKeyID = asn1.ObjectIdentifier{2, 5, 29, 14}

// CrossSign signs a second certificate for a CA that exists elsewhere: its name,
// key and key identifier as its self-signed certificate has them, octet for
// octet, so that all that it has issued verifies under both. The self-signature
// proves that somebody holds the key; for a CA below a root csr does. The name
// policy does not bind: the name is given.
func CrossSign(
	ctx context.Context, ca CA, other *x509.Certificate, csr *pki.CSR, spec CrossSpec,
) (*x509.Certificate, error) {
	if err := checkCrossed(other, csr); err != nil {
		return nil, fmt.Errorf("cross-sign: %w", err)
	}
	request := pki.EncodeChain(other.Raw)
	if csr != nil {
		request = requestPEM(csr)
	}
	c, err := ca.certify(ctx, spec.Locations, request, func(chain []*x509.Certificate) (*profile.Template, error) {
		return spec.template(chain, other, ca)
	})
	if err != nil {
		return nil, fmt.Errorf("cross-sign: %w", err)
	}
	return c, nil
}

func checkCrossed(other *x509.Certificate, csr *pki.CSR) error {
	switch {
	case !other.BasicConstraintsValid || !other.IsCA:
		return refuse("not_a_ca", "%s is not the certificate of a CA", other.Subject)
	case len(other.SubjectKeyId) == 0:
		return refuse("not_a_ca", "%s has no subject key identifier", other.Subject)
	case csr == nil && pki.CertifiedBy(other, other) != nil:
		return refuse("possession", "%s is not signed by its own key: give a certificate request of that key too",
			other.Subject)
	case csr == nil:
		return nil
	}
	key, err := pki.HashKey(other.PublicKey)
	if err != nil {
		return err
	}
	if key != csr.KeyHash || !bytes.Equal(other.RawSubject, csr.RawSubject) {
		return refuse("possession", "the certificate request is not for the name and key of %s", other.Subject)
	}
	return calaw.CheckRequest(csr)
}

func (s CrossSpec) template(chain []*x509.Certificate, other *x509.Certificate, ca CA) (*profile.Template, error) {
	t, err := calaw.Wanted{
		RawSubject: other.RawSubject, PublicKey: other.PublicKey, Years: s.Years, PathLen: s.PathLen,
		ExtKeyUsage: s.ExtKeyUsage, Policies: s.Policies, NameConstraints: s.NameConstraints,
	}.Template(chain, ca.Now())
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(other.SubjectKeyId)
	if err != nil {
		return nil, fmt.Errorf("key identifier: %w", err)
	}
	t.Extra = append(t.Extra, pkix.Extension{Id: oidSubjectKeyID, Value: id})
	return t, nil
}
