package scep

import (
	"context"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// poll answers CertPoll (RFC 8894, section 3.3.3): what became of a request that
// waits. Transaction, key and subject have to be those of the request (rule S19).
func (s *Server) poll(ctx context.Context, c *call, plain []byte) (*content, error) {
	subject, err := readIssuerAndSubject(plain)
	if err != nil {
		return nil, err
	}
	key, err := s.polledKey(ctx, c)
	if err != nil {
		return nil, err
	}
	made, row, err := s.Approvals.Poll(ctx, c.ep.Name, c.transactionID, key)
	if row == nil {
		return nil, hideRefusal(err)
	}
	if !askedFor(ctx, row, subject) {
		return nil, hide("the request of this transaction is for another subject")
	}
	if err != nil {
		return nil, err
	}
	return c.granted(made)
}

// askedFor reports whether a request is for a subject: that of its CSR, where that
// is kept.
func askedFor(ctx context.Context, row *store.Request, subject pki.Name) bool {
	if row.CSR != nil {
		csr, err := pki.ParseLegacyCSR(ctx, row.CSR)
		return err == nil && csr.Subject.EqualRFC5280(subject)
	}
	if row.Subject == "" {
		return len(subject) == 0
	}
	want, err := pki.ParseName(row.Subject)
	return err == nil && want.EqualRFC5280(subject) || row.Subject == subject.String() // some names have no such text
}

// polledKey is the key of the request that a poll is about: the one that signs
// the poll, or, for a renewal, the one that its signer asked for.
func (s *Server) polledKey(ctx context.Context, c *call) (pki.KeyHash, error) {
	key, err := pki.HashKey(c.signer.PublicKey)
	if err != nil {
		return key, fault.Wrap(fault.BadPublicKey, err, "the key of the signer cannot be encoded")
	}
	held, err := s.held(ctx, c.signer)
	if err != nil || held == nil {
		return key, err
	}
	rows, err := s.Store.Transaction(ctx, c.ep.Name, c.transactionID, s.Now())
	if err != nil {
		return key, err
	}
	for i := range rows {
		if askedBy(&rows[i], held) {
			copy(key[:], rows[i].KeyHash)
		}
	}
	return key, nil
}

func askedBy(row *store.Request, held *enrolment.Holder) bool {
	return row.Identity == held.Identity() && len(row.KeyHash) == len(pki.KeyHash{})
}

// readIssuerAndSubject reads the content of a CertPoll (RFC 8894, section 3.3.3).
func readIssuerAndSubject(der []byte) (subject pki.Name, err error) {
	input := cryptobyte.String(der)
	var body, issuer, name cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() ||
		!body.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !body.ReadASN1Element(&name, cbasn1.SEQUENCE) ||
		!body.Empty() {
		return nil, hide("the content is not the DER of an IssuerAndSubject")
	}
	if _, err = pki.ParseNameDER(issuer); err == nil {
		subject, err = pki.ParseAskedName(name)
	}
	if err != nil {
		return nil, hide("a name in the content: %w", err)
	}
	return subject, nil
}
