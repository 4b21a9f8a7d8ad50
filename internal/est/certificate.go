package est

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"net/http"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// shown is a client certificate that counts at the endpoint: TLS, or the signature
// of a message, has proved that the client has its key.
type shown struct {
	cert *x509.Certificate
	row  *store.Certificate // nil if it is not ours but an anchor's
	ra   bool               // it may ask for others
	late bool               // it has expired and is within the grace
}

// shownEvidence is what the audit record keeps of a client certificate.
type shownEvidence struct {
	ID      string `json:"id,omitempty"` // of ours
	SHA256  string `json:"sha256"`
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	RA      bool   `json:"ra,omitempty"` // the names in the certificate are somebody else's
	Expired bool   `json:"expired,omitempty"`
}

func (c *shown) evidence() *shownEvidence {
	e := &shownEvidence{
		SHA256: pki.Fingerprint(c.cert.Raw), Subject: c.cert.Subject.String(), Issuer: c.cert.Issuer.String(), RA: c.ra, Expired: c.late,
	}
	if c.row != nil {
		e.ID = c.row.ID
	}
	return e
}

func (c *shown) identity() string {
	if c.row != nil {
		return "certificate:" + c.row.ID
	}
	return "certificate_sha256:" + pki.Fingerprint(c.cert.Raw)
}

// refuseCertificate is the fault of a certificate that does not count.
func refuseCertificate(reason, format string, args ...any) error {
	return fault.New(fault.Denied, "client certificate: "+format, args...).Because("certificate_" + reason)
}

// shown judges the client certificate of a connection; nil if there is none. The
// fault is Denied if the certificate does not count.
func (s *Server) shown(ctx context.Context, r *http.Request, ep *endpoint, renew bool) (*shown, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	return s.judge(ctx, ep, r.TLS.PeerCertificates, renew)
}

// judge says whether a certificate counts at the endpoint. What proves that the
// client has its key comes before.
func (s *Server) judge(ctx context.Context, ep *endpoint, chain []*x509.Certificate, renew bool) (*shown, error) {
	c := &shown{cert: chain[0]}
	row, err := s.Pipeline.Lookup(ctx, c.cert.Raw)
	switch {
	case err == nil:
		c.row = row
		err = s.own(ep, c, renew)
	case fault.Is(err, fault.NotFound):
		err = s.foreign(ctx, ep, chain)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Pipeline.CheckKey(ctx, c.cert.PublicKey); err != nil {
		if fault.Is(err, fault.BadPublicKey) {
			return nil, refuseCertificate("key_compromised", "its key is on the list of compromised keys")
		}
		return nil, err
	}
	return c, nil
}

// own judges a certificate of ours by what the store says of it: the row holds
// the same octets, so its signature needs no look.
func (s *Server) own(ep *endpoint, c *shown, renew bool) error {
	now := s.Now()
	late := now.Sub(c.row.NotAfter)
	switch {
	case c.row.Revocation != nil:
		return refuseCertificate("revoked", "it was revoked on %s", c.row.Revocation.RevokedAt.UTC().Format("2006-01-02"))
	case c.row.Status != "issued" && c.row.Status != "imported":
		return refuseCertificate("unknown", "it was not issued here")
	case now.Before(c.row.NotBefore):
		return refuseCertificate("not_yet_valid", "it is not valid yet")
	case late > 0 && !renew:
		return refuseCertificate("expired", "it has expired")
	case late > 0 && late > ep.Grace:
		return refuseCertificate("expired", "it has expired, and longer ago than can be renewed")
	case c.row.Endpoint != ep.Name && !slices.Contains(s.Pipeline.Rules().CAs.IDs(ep.Issuer), c.row.IssuerID):
		return refuseCertificate("other_issuer", "its issuer is not the one of this endpoint")
	case !ep.accepts(c.row.Profile):
		return refuseCertificate("other_profile", "certificates of the profile %s do not log in here", c.row.Profile)
	}
	c.late = late > 0
	c.ra = slices.Contains(ep.RAProfiles, c.row.Profile) && hasEKU(c.cert, oidCMCRA)
	return nil
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
		f := fault.Of(refuseCertificate("untrusted", "neither issued here nor by an anchor of this endpoint, or expired"))
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
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
