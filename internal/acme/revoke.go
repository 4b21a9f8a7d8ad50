package acme

import (
	"context"
	"crypto/x509"
	"net/http"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// clientReasons are the reasons that a certificate's holder can know.
var clientReasons = []pki.Reason{
	pki.Unspecified, pki.KeyCompromise, pki.AffiliationChanged, pki.Superseded, pki.CessationOfOperation,
	pki.PrivilegeWithdrawn,
}

type revokePayload struct {
	Certificate string `json:"certificate"`
	Reason      *int   `json:"reason"`
}

// revokeCert revokes a certificate (RFC 8555, section 7.6). The account that
// ordered it may, an account that holds valid authorizations for all its names,
// and whoever has its key; a proof by the key says that the key is in hands that
// speak for it, so it is entered as compromised and blocked (rule A47). Who has
// proved the names alone knows nothing of the key, and blocks none.
func (s *Server) revokeCert(w http.ResponseWriter, r *http.Request, c *call) error {
	var p revokePayload
	if err := c.decode(&p); err != nil {
		return err
	}
	der, err := decodeBase64(p.Certificate)
	if err != nil || len(der) == 0 {
		return fault.Wrap(fault.Malformed, err, `"certificate" is not a DER certificate in base64url without padding`)
	}
	reason := pki.Unspecified
	if p.Reason != nil {
		reason = pki.Reason(*p.Reason)
	}
	if !slices.Contains(clientReasons, reason) {
		return fault.New(fault.BadRevocationReason, "reason %d is not accepted here", int(reason))
	}
	row, err := s.Pipeline.Lookup(r.Context(), der)
	if err != nil {
		return missing(err, "the certificate was not issued here")
	}
	revocation := issuance.Revocation{CertificateID: row.ID, Reason: reason, RequestID: c.id}
	if c.account != nil {
		err = s.mayRevoke(r.Context(), c, row)
		revocation.Requester = c.actor()
		revocation.BlockKey = row.Requester == c.actor() || c.holdsKey(der) == nil
	} else {
		err = c.holdsKey(der)
		revocation.Reason, revocation.Requester, revocation.BlockKey = pki.KeyCompromise, "key:"+c.key.thumbprint, true
	}
	if err != nil {
		return err
	}
	if err := s.Pipeline.Revoke(r.Context(), revocation); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// holdsKey compares the key that signed the request with the certificate's.
func (c *call) holdsKey(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fault.Wrap(fault.Malformed, err, "the certificate cannot be parsed")
	}
	if of, err := newPublicKey(cert.PublicKey); err != nil || of.thumbprint != c.key.thumbprint {
		return fault.New(fault.Denied, "the request is not signed with the certificate's key")
	}
	return nil
}

// mayRevoke reports whether the account ordered the certificate or has proved
// control of every name in it.
func (s *Server) mayRevoke(ctx context.Context, c *call, row *store.Certificate) error {
	if row.Requester == c.actor() {
		return nil
	}
	denied := fault.New(fault.Denied, "the account neither ordered this certificate nor holds valid authorizations "+
		"for all its names")
	for _, n := range row.Names {
		if n.Type != pki.DNS && n.Type != pki.IP {
			return denied
		}
	}
	held, err := s.Store.ReusableAuthorizations(ctx, c.account.ID, namesOf(row.Names), s.Now())
	if err != nil {
		return err
	}
	for _, n := range row.Names {
		if !slices.ContainsFunc(held, func(a store.Authorization) bool {
			return nameOf(n) == store.AuthorizationName{Identifier: a.Identifier, Wildcard: a.Wildcard}
		}) {
			return denied
		}
	}
	if len(row.Names) == 0 {
		return denied
	}
	return nil
}
