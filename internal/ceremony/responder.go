package ceremony

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// ResponderSpec says what OCSP responder certificate is to be signed.
type ResponderSpec struct {
	Days      int // of life; default 180, as long as a list
	Locations issuer.Locations
}

// maxResponderDays is the two years that no leaf may exceed.
const maxResponderDays = 730

// SignResponder signs the certificate of an OCSP responder that answers for this
// CA with a key of its own, which lives online (RFC 6960, section 4.2.2.2). It is
// the one certificate of an end entity that an offline CA signs. It says
// ocsp-nocheck and so cannot be revoked: its life is short.
func SignResponder(ctx context.Context, ca CA, csr *pki.CSR, spec ResponderSpec) (*x509.Certificate, error) {
	c, err := ca.certify(ctx, spec.Locations, requestPEM(csr),
		func(chain []*x509.Certificate) (*profile.Template, error) {
			return spec.template(chain, csr, ca.Now())
		})
	if err != nil {
		return nil, fmt.Errorf("sign OCSP responder: %w", err)
	}
	return c, nil
}

func (s ResponderSpec) template(chain []*x509.Certificate, csr *pki.CSR, now time.Time) (*profile.Template, error) {
	if s.Days == 0 {
		s.Days = crlDays
	}
	if s.Days < 1 || s.Days > maxResponderDays {
		return nil, refuse("validity", "validity: %d days: want 1 to %d", s.Days, maxResponderDays)
	}
	if isCA, _, err := calaw.AsksForCA(csr); err != nil || isCA {
		return nil, refuse("not_a_responder", "the request asks for CA:TRUE: an OCSP responder is no CA")
	}
	config := profile.BuiltIn()["ocsp-signing"]
	config.Validity.Max = profile.Duration(maxResponderDays * profile.Day)
	p, err := profile.Compile("ocsp-signing", config)
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	t, err := p.Apply(profile.Request{CSR: csr, NotBefore: now, NotAfter: now.AddDate(0, 0, s.Days).Add(-time.Second)},
		now)
	if err != nil {
		return nil, err
	}
	if err := hierarchy.Check(chain, hierarchy.Child{
		NotBefore: t.NotBefore, NotAfter: t.NotAfter, RawSubject: t.RawSubject, EKU: t.ExtKeyUsage,
	}); err != nil {
		return nil, fmt.Errorf("check hierarchy: %w", err)
	}
	return t, nil
}
