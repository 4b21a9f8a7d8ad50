package est

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

func (s *Server) simpleenroll(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	return s.enroll(w, r, ep, "simpleenroll", false)
}

func (s *Server) simplereenroll(w http.ResponseWriter, r *http.Request, ep *endpoint) error {
	return s.enroll(w, r, ep, "simplereenroll", true)
}

// enroll is RFC 7030, sections 4.2.1 and 4.2.2: a PKCS#10 in, exactly the one
// certificate out (rule E5). Who asks is found out before anything is parsed.
func (s *Server) enroll(w http.ResponseWriter, r *http.Request, ep *endpoint, operation string, renew bool) error {
	c, err := s.authenticate(r, ep, renew)
	if err != nil {
		return err
	}
	web.Note(r.Context(), slog.String("client", c.identity()))
	der, err := readBody(r, typePKCS10)
	if err != nil {
		return err
	}
	csr, err := pki.ParseCSR(r.Context(), der)
	if err != nil {
		return err
	}
	cert, err := s.certify(r, ep, c, csr, operation, renew)
	if err != nil {
		return err
	}
	return ep.replyCertificates(w, r, cert.DER)
}

// certify judges whether the client may ask for this and passes the request on.
func (s *Server) certify(
	r *http.Request, ep *endpoint, c *client, csr *pki.CSR, operation string, renew bool,
) (*issuance.Certificate, error) {
	if err := c.bind(ep, csr, r.TLS); err != nil {
		return nil, err
	}
	ask, err := s.mayAsk(ep, c, csr, renew)
	if err != nil {
		return nil, err
	}
	return s.issue(r.Context(), ep, c, approval.Key{CSR: csr.Raw, TransactionID: operation}, ask)
}

// issue passes a request of a client through the door. The same request again
// finds its certificate, for as long as an answer may have been lost.
func (s *Server) issue(
	ctx context.Context, ep *endpoint, c *client, key approval.Key, ask issuance.Request,
) (*issuance.Certificate, error) {
	proof, err := c.evidence()
	if err != nil {
		return nil, fmt.Errorf("record evidence: %w", err)
	}
	if err := s.count(ctx, c, ask); err != nil {
		return nil, err
	}
	key.Endpoint, key.Identity, key.Keep, key.Spent = ep.Name, c.identity(), approval.KeepEST, c.spent()
	ask.Endpoint, ask.Protocol, ask.Issuer = ep.Name, "est", ep.Issuer
	ask.Requester, ask.Evidence, ask.RequestID, ask.Claims = key.Identity, proof, web.RequestID(ctx), c.claims()
	ask.By, ask.Bound = c.basis(ep), c.bound()
	return s.Approvals.Enrol(ctx, key, ask)
}

// count takes what is asked for by the power of a certificate from its limit (rule
// E21). Passwords and registration authorities, which ask for many, have none.
func (s *Server) count(ctx context.Context, c *client, ask issuance.Request) error {
	switch {
	case ask.Lineage != "":
		return s.Enrolment.Count(ctx, c.presented.holder)
	case c.user == nil && !c.presented.ra:
		return s.Limits.Enrolment(ctx, c.identity())
	}
	return nil
}

// replyCertificates answers with a certs-only message (RFC 7030, section 4.2.3) of the given certificates.
func (ep *endpoint) replyCertificates(w http.ResponseWriter, r *http.Request, ders ...[]byte) error {
	message, err := certsOnly(ders...)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	ep.reply(w, r, typeCertsOnly, message)
	return nil
}

func certsOnly(ders ...[]byte) ([]byte, error) {
	certs := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		certs[i] = c
	}
	return cms.Degenerate(certs, nil)
}
