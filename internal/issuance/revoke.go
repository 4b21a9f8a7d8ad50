package issuance

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Revocation asks that a certificate be revoked. The certificate is named by
// its id, or by issuer and serial.
type Revocation struct {
	CertificateID string
	IssuerID      string
	Serial        pki.Serial
	Reason        pki.Reason
	InvalidityAt  *time.Time // when the key or the name became bad, if known
	Requester     string     // "account:<id>", "key:<hash>", "uid:<n>"
	RequestID     string
}

// Revoke records a revocation, durable when it returns. A key compromise puts
// the key on the block list in the same transaction (rule X14).
//
// Faults: NotFound; AlreadyRevoked, unless the new reason is keyCompromise and
// the old one is not (rule C8); BadRevocationReason.
func (p *Pipeline) Revoke(ctx context.Context, r Revocation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	if !r.Reason.Valid() || r.Reason == pki.RemoveFromCRL || r.Reason == pki.AACompromise {
		return fault.New(fault.BadRevocationReason, "reason %s cannot be given for a revocation", r.Reason)
	}
	row, err := p.find(ctx, r)
	if err != nil {
		return err
	}
	if row.Status != "issued" && row.Status != "imported" {
		return fault.New(fault.NotFound, "serial %s was never issued", row.Serial)
	}
	at := p.now()
	if r.InvalidityAt != nil && r.InvalidityAt.After(at) {
		return fault.New(fault.Malformed, "the invalidity date lies in the future")
	}
	sum := sha256.Sum256(row.DER)
	ev := event(actionRevoked, "success", at, r.Requester, row.ID, r.RequestID, map[string]any{
		"issuer": row.IssuerID, "serial": row.Serial, "reason": r.Reason.String(),
		"invalidity_date": r.InvalidityAt, "sha256": pki.KeyHash(sum).String(),
	})
	return p.store.Revoke(ctx, row.ID, store.Revocation{
		Reason: r.Reason, RevokedAt: at, InvalidityAt: r.InvalidityAt, Requester: r.Requester,
	}, r.Reason == pki.KeyCompromise, ev)
}

func (p *Pipeline) find(ctx context.Context, r Revocation) (*store.Certificate, error) {
	var row *store.Certificate
	var err error
	if r.CertificateID != "" {
		row, err = p.store.CertificateByID(ctx, r.CertificateID)
	} else {
		row, err = p.store.CertificateBySerial(ctx, r.IssuerID, r.Serial)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.Wrap(fault.NotFound, err, "the certificate was not issued here")
	}
	return row, err
}

// Lookup returns the row of exactly this certificate: the issuer that signed it
// is found by name and signature, and the stored bytes must be the same, so that
// a forged certificate with a borrowed serial finds nothing (rule A47).
func (p *Pipeline) Lookup(ctx context.Context, der []byte) (*store.Certificate, error) {
	notOurs := fault.New(fault.NotFound, "the certificate was not issued here")
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the certificate cannot be parsed")
	}
	for _, cas := range p.rules.Load().Issuers {
		for _, ca := range cas {
			if string(ca.Certificate().RawSubject) != string(cert.RawIssuer) {
				continue
			}
			row, err := p.store.CertificateBySerial(ctx, ca.ID(), pki.SerialFromBig(cert.SerialNumber))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			if err == nil && string(row.DER) == string(der) {
				return row, nil
			}
		}
	}
	return nil, notOurs
}
