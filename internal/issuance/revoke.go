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

// What may follow what (rule C8): a certificate that is not revoked may be
// revoked or put on hold; a hold may be released or become final, and then keeps
// its date; any other reason may be upgraded to keyCompromise. Nothing else is
// taken back. The store enforces it row by row; see store.Revoke.

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

	// BlockKey says that the requester may speak for the key: its holder, an
	// operator, or who enrolled the certificate. Only then a key compromise
	// blocks it.
	BlockKey bool
}

func (r *Revocation) blocks() bool { return r.BlockKey && r.Reason == pki.KeyCompromise }

// Revoke records a revocation, durable when it returns. A key compromise puts
// the key on the block list in the same transaction (rule X14), if the requester
// may speak for the key. A request that comes again finds AlreadyRevoked, with
// the date and the reason, and changes nothing but that: the key of a certificate
// that stands revoked for its compromise is blocked if it was not.
//
// Faults: NotFound; AlreadyRevoked, unless the change is one that rule C8
// allows; BadRevocationReason; Malformed for an impossible invalidity date.
func (p *Pipeline) Revoke(ctx context.Context, r Revocation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	row, err := p.revocable(ctx, r)
	if err != nil {
		return err
	}
	at := p.now()
	if err := checkRevocation(row, r, at); err != nil {
		return p.refused(ctx, row, r, err)
	}
	sum := sha256.Sum256(row.DER)
	ev := event(actionRevoked, "success", at, r.Requester, row.ID, r.RequestID, revocationDetail{
		Issuer: row.IssuerID, Serial: row.Serial, Reason: r.Reason.String(), Former: former(row),
		InvalidityAt: r.InvalidityAt, SHA256: pki.KeyHash(sum).String(), KeyBlocked: r.blocks(),
	})
	err = p.store.Revoke(ctx, row.ID, store.Revocation{
		Reason: r.Reason, RevokedAt: at, InvalidityAt: r.InvalidityAt, Requester: r.Requester,
	}, r.blocks(), ev)
	if r.blocks() && fault.Is(err, fault.AlreadyRevoked) {
		ev = event(actionKeyBlocked, "success", at, r.Requester, row.ID, r.RequestID, revocationDetail{
			Issuer: row.IssuerID, Serial: row.Serial, Reason: r.Reason.String(), KeyBlocked: true,
		})
		if failed := p.store.BlockKey(ctx, row.ID, at, ev); failed != nil {
			return failed
		}
	}
	return err
}

// Release takes back a hold; Reason and InvalidityAt are not looked at.
//
// Faults: NotFound; Conflict ("not_on_hold") for a certificate that is not
// revoked, or for good.
func (p *Pipeline) Release(ctx context.Context, r Revocation) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Timeout)
	defer cancel()
	row, err := p.revocable(ctx, r)
	if err != nil {
		return err
	}
	at := p.now()
	ev := event(actionHoldReleased, "success", at, r.Requester, row.ID, r.RequestID, revocationDetail{
		Issuer: row.IssuerID, Serial: row.Serial, Former: former(row),
	})
	return p.store.Release(ctx, row.ID, at, ev)
}

// revocationDetail is the audit record of a revocation or a release.
type revocationDetail struct {
	Issuer       string     `json:"issuer"`
	Serial       pki.Serial `json:"serial"`
	Reason       string     `json:"reason,omitempty"`
	Former       string     `json:"former_reason,omitempty"` // in force until now
	InvalidityAt *time.Time `json:"invalidity_date,omitempty"`
	SHA256       string     `json:"sha256,omitempty"` // of the certificate
	Where        string     `json:"where,omitempty"`  // the expression, of a revocation in bulk
	KeyBlocked   bool       `json:"key_blocked,omitempty"`
}

func former(row *store.Certificate) string {
	if row.Revocation == nil {
		return ""
	}
	return row.Revocation.Reason.String()
}

// revocable returns the row of a certificate that was issued.
func (p *Pipeline) revocable(ctx context.Context, r Revocation) (*store.Certificate, error) {
	row, err := p.find(ctx, r)
	if err != nil {
		return nil, err
	}
	if row.Status != "issued" && row.Status != "imported" {
		return nil, fault.New(fault.NotFound, "serial %s was never issued", row.Serial)
	}
	return row, nil
}

// checkReason refuses the reasons that no revocation can carry: 7 does not
// exist, removeFromCRL stands in delta lists only, and aACompromise is for
// attribute certificates (RFC 5280, section 5.3.1).
func checkReason(r pki.Reason) error {
	if !r.Valid() || r == pki.RemoveFromCRL || r == pki.AACompromise {
		return fault.New(fault.BadRevocationReason, "reason %s cannot be given for a revocation", r)
	}
	return nil
}

func checkRevocation(row *store.Certificate, r Revocation, now time.Time) error {
	if err := checkReason(r.Reason); err != nil {
		return err
	}
	if r.Reason == pki.CACompromise {
		if cert, err := x509.ParseCertificate(row.DER); err != nil || !cert.IsCA {
			return fault.New(fault.BadRevocationReason, "reason %s is for the certificate of a CA", r.Reason)
		}
	}
	switch at := r.InvalidityAt; {
	case at == nil:
		return nil
	case at.After(now):
		return fault.New(fault.Malformed, "the invalidity date lies in the future").Because("invalidity_date")
	case at.Before(row.NotBefore):
		return fault.New(fault.Malformed, "the invalidity date lies before %s, when the certificate's time begins",
			row.NotBefore.UTC().Format(time.RFC3339)).Because("invalidity_date")
	}
	return nil
}

// refused records that a revocation was refused, and returns why. The refusal
// stands even if it cannot be recorded.
func (p *Pipeline) refused(ctx context.Context, row *store.Certificate, r Revocation, cause error) error {
	f := fault.Of(cause)
	ev := event(actionNotRevoked, "rejected", p.now(), r.Requester, row.ID, r.RequestID, map[string]any{
		"issuer": row.IssuerID, "serial": row.Serial, "revocation_reason": r.Reason.String(), "kind": f.Kind.String(),
		"detail": f.Detail,
	})
	if err := p.store.AppendAudit(ctx, ev); err != nil {
		p.log.ErrorContext(ctx, "refused revocation not recorded", "certificate", row.ID, "error", err)
	}
	return cause
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

// Lookup returns the row of exactly this certificate. The stored bytes must be
// the same, so that a forged certificate with a borrowed serial finds nothing
// (rule A47). The issuer may have left the configuration since.
func (p *Pipeline) Lookup(ctx context.Context, der []byte) (*store.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, err, "the certificate cannot be parsed")
	}
	rows, err := p.store.CertificatesBySerial(ctx, pki.SerialFromBig(cert.SerialNumber))
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if string(rows[i].DER) == string(der) {
			return &rows[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "the certificate was not issued here")
}
