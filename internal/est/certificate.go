package est

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"net/http"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// presented is a client certificate that counts at the endpoint: TLS, or the signature
// of a message, has proved that the client has its key.
type presented struct {
	cert   *x509.Certificate
	more   []*x509.Certificate // that came with it
	holder *enrolment.Holder   // nil if it is not ours but an anchor's
	ra     bool                // it may ask for others
	late   bool                // it has expired and is within the grace
}

// presentedEvidence is what the audit record keeps of a client certificate.
type presentedEvidence struct {
	ID      string `json:"id,omitempty"` // of ours
	SHA256  string `json:"sha256"`
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	RA      bool   `json:"ra,omitempty"` // the names in the certificate are somebody else's
	Expired bool   `json:"expired,omitempty"`
}

func (c *presented) evidence() *presentedEvidence {
	e := &presentedEvidence{
		SHA256: pki.Fingerprint(c.cert.Raw), Subject: c.cert.Subject.String(), Issuer: c.cert.Issuer.String(),
		RA: c.ra, Expired: c.late,
	}
	if c.holder != nil {
		e.ID = c.holder.Row.ID
	}
	return e
}

func (c *presented) identity() string {
	if c.holder != nil {
		return c.holder.Identity()
	}
	return enrolment.Foreign(c.cert)
}

func (c *presented) basis(renew bool) issuance.Basis {
	b := issuance.Basis{Renew: renew, RA: c.ra}
	if c.holder != nil {
		b.Holder = c.holder.Row.ID
		return b
	}
	for _, cert := range append([]*x509.Certificate{c.cert}, pki.Tried(c.more)...) {
		b.Chain = append(b.Chain, cert.Raw)
	}
	return b
}

// recheck judges once more what a request that waits rests on, as if it were asked
// now.
func (s *Server) recheck(ctx context.Context, row *store.Request, asked issuance.Request) error {
	ep := s.byName(row.Endpoint)
	if ep == nil {
		return enrolment.Gone(row.Endpoint)
	}
	if err := enrolment.Offered(row, ep.Profiles, ep.takes(row, asked.By)); err != nil {
		return err
	}
	for _, b := range asked.By {
		chain, err := s.Enrolment.Chain(ctx, b)
		if err != nil {
			return err
		}
		c, err := s.judge(ctx, ep, chain, b.Renew)
		if err == nil && b.RA && !c.ra {
			err = refuseCertificate("other_profile", "it is not that of a registration authority here any more")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takes reports whether the endpoint still takes what a request was asked by. A
// renewal is asked by a certificate at any.
func (ep *endpoint) takes(row *store.Request, by []issuance.Basis) bool {
	password := strings.HasPrefix(row.Identity, credential.KindEST+":")
	renewal := slices.ContainsFunc(by, func(b issuance.Basis) bool { return b.Renew })
	switch {
	case ep.Auth == AuthBoth:
		return password && len(by) > 0
	case password:
		return ep.Auth.basic()
	}
	return renewal || ep.Auth.certificate()
}

func (s *Server) byName(name string) *endpoint {
	for _, ep := range s.settings.Load().byLabel {
		if ep.Name == name {
			return ep
		}
	}
	return nil
}

// refuseCertificate is the fault of a certificate that does not count.
func refuseCertificate(reason, what string) error {
	return fault.New(fault.Denied, "client certificate: %s", what).Because("certificate_" + reason)
}

// presented judges the client certificate of a connection; nil if there is none. The
// fault is Denied if the certificate does not count.
func (s *Server) presented(ctx context.Context, r *http.Request, ep *endpoint, renew bool) (*presented, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	return s.judge(ctx, ep, r.TLS.PeerCertificates, renew)
}

// judge says whether a certificate counts at the endpoint. What proves that the
// client has its key comes before.
func (s *Server) judge(ctx context.Context, ep *endpoint, chain []*x509.Certificate, renew bool) (*presented, error) {
	c := &presented{cert: chain[0], more: chain[1:]}
	var err error
	switch c.holder, err = s.Enrolment.Holder(ctx, c.cert); {
	case err == nil:
		err = s.Enrolment.Check(ctx, ep.rules(), c.holder, renew)
	case fault.Is(err, fault.NotFound):
		if err = s.foreign(ctx, ep, chain); err == nil {
			err = s.Enrolment.CheckKey(ctx, c.cert.PublicKey)
		}
	}
	if err != nil {
		return nil, err
	}
	if c.holder != nil {
		c.late = s.Now().After(c.holder.Row.NotAfter)
		c.ra = slices.Contains(ep.RAProfiles, c.holder.Row.Profile) && hasEKU(c.cert, oidCMCRA)
	}
	return c, nil
}

// foreign judges a certificate that is not ours: an anchor has to certify it, by
// the intermediates that the client sent. Whether it was revoked, only its maker
// knows.
func (s *Server) foreign(ctx context.Context, ep *endpoint, chain []*x509.Certificate) error {
	if ep.anchors == nil {
		return refuseCertificate("unknown", "it was not issued here")
	}
	err := pki.VerifyChain(ctx, chain[0], chain[1:], ep.anchors, s.Now())
	if fault.Is(err, fault.Unavailable) {
		return err
	}
	if err != nil {
		f := fault.Of(refuseCertificate("untrusted",
			"neither issued here nor by an anchor of this endpoint, or expired"))
		f.Err = err
		return f
	}
	return nil
}

var oidCMCRA = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}

// IsRA reports whether an extended key usage is that of registration authorities
// and EST servers, cmcRA (RFC 6402, section 2.10).
func IsRA(eku asn1.ObjectIdentifier) bool { return eku.Equal(oidCMCRA) }

func hasEKU(c *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(c.UnknownExtKeyUsage, oid.Equal)
}

// mayLogIn reports whether a certificate may stand for its owner in TLS as a
// client. One that has no extended key usages may do anything.
func mayLogIn(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
