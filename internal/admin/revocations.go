package admin

import (
	"context"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// previewed is how many certificates a preview shows.
const previewed = 10

// RevokeCertificate is POST /v1/certificates/{certificate}/revoke.
func (s *Server) RevokeCertificate(
	ctx context.Context, p api.CertificateRef, b *api.RevokeRequest,
) (*api.Certificate, error) {
	reason := pki.Unspecified
	if b.Reason != "" {
		var err error
		if reason, err = parseReason(b.Reason); err != nil {
			return nil, err
		}
	}
	row, err := s.cfg.Inventory.Find(ctx, p.Certificate, p.Issuer)
	if b.Unknown && fault.Is(err, fault.NotFound) {
		return s.revokeUnknown(ctx, p, b, reason)
	}
	if err != nil {
		return nil, err
	}
	revocation := issuance.Revocation{
		CertificateID: row.ID, Reason: reason, Requester: requester(ctx), RequestID: web.RequestID(ctx), BlockKey: true,
	}
	if at := b.InvalidityAt; !at.IsZero() {
		revocation.InvalidityAt = &at
	}
	if err := s.cfg.Pipeline.Revoke(ctx, revocation); err != nil {
		return nil, err
	}
	if row, err = s.cfg.Inventory.Find(ctx, row.ID, ""); err != nil {
		return nil, err
	}
	return new(inventory.Record(row)), nil
}

// revokeUnknown revokes a serial that is not on record.
func (s *Server) revokeUnknown(
	ctx context.Context, p api.CertificateRef, b *api.RevokeRequest, reason pki.Reason,
) (*api.Certificate, error) {
	serial, err := pki.ParseSerial(p.Certificate)
	if err != nil || p.Issuer == "" {
		return nil, fault.New(fault.Malformed, "a certificate that is not on record is revoked by its serial and its "+
			"issuer").Because("certificate_reference")
	}
	e := issuer.Revoked{Serial: serial, Reason: reason}
	if at := b.InvalidityAt; !at.IsZero() {
		if at.After(s.cfg.Now()) {
			return nil, fault.New(fault.Malformed, "the invalidity date lies in the future").Because("invalidity_date")
		}
		e.InvalidityAt = &at
	}
	id, err := s.cfg.Lists.RevokeUnknown(ctx, p.Issuer, e, listOptions(ctx))
	if err != nil {
		return nil, err
	}
	row, err := s.cfg.Inventory.Find(ctx, id, "")
	if err != nil {
		return nil, err
	}
	return new(inventory.Record(row)), nil
}

// ReleaseCertificate is POST /v1/certificates/{certificate}/release.
func (s *Server) ReleaseCertificate(ctx context.Context, p api.CertificateRef, _ *api.None) (*api.Certificate, error) {
	row, err := s.cfg.Inventory.Find(ctx, p.Certificate, p.Issuer)
	if err != nil {
		return nil, err
	}
	release := issuance.Revocation{CertificateID: row.ID, Requester: requester(ctx), RequestID: web.RequestID(ctx)}
	if err := s.cfg.Pipeline.Release(ctx, release); err != nil {
		return nil, err
	}
	if row, err = s.cfg.Inventory.Find(ctx, row.ID, ""); err != nil {
		return nil, err
	}
	return new(inventory.Record(row)), nil
}

// PreviewRevocations is POST /v1/revocations/preview.
func (s *Server) PreviewRevocations(
	ctx context.Context, _ api.None, b *api.BulkSelection,
) (*api.RevocationPreview, error) {
	sel, err := s.selection(ctx, b.Where, b.Reason)
	if err != nil {
		return nil, err
	}
	count, rows, err := s.cfg.Pipeline.Selected(ctx, sel, previewed)
	if err != nil {
		return nil, err
	}
	preview := &api.RevocationPreview{Count: count, Certificates: make([]api.Certificate, 0, len(rows))}
	for i := range rows {
		preview.Certificates = append(preview.Certificates, inventory.Record(&rows[i]))
	}
	return preview, nil
}

// RevokeCertificates is POST /v1/revocations.
func (s *Server) RevokeCertificates(
	ctx context.Context, _ api.None, b *api.BulkRevocation,
) (*api.RevocationPage, error) {
	sel, err := s.selection(ctx, b.Where, b.Reason)
	if err != nil {
		return nil, err
	}
	if sel.Limit = b.Limit; sel.Limit < 0 || sel.Limit > issuance.MaxPage {
		return nil, fault.New(fault.Malformed, "limit %d: want 1 to %d", sel.Limit, issuance.MaxPage).Because("limit")
	}
	if at := b.InvalidityAt; !at.IsZero() {
		sel.InvalidityAt = &at
	}
	sel.After = b.Cursor
	page, err := s.cfg.Pipeline.RevokeMatching(ctx, sel)
	if err != nil {
		return nil, err
	}
	return &api.RevocationPage{Revoked: page.Revoked, Skipped: page.Skipped, Next: page.Next}, nil
}

func (s *Server) selection(ctx context.Context, where, reason string) (issuance.Selection, error) {
	sel := issuance.Selection{Where: where, Requester: requester(ctx), RequestID: web.RequestID(ctx)}
	var err error
	if sel.Match, err = inventory.ParseWhere(where, s.cfg.Now()); err != nil {
		return sel, err
	}
	sel.Match.Reason, err = parseReason(reason)
	return sel, err
}

func parseReason(name string) (pki.Reason, error) {
	reason, err := pki.ParseReason(name)
	if err != nil {
		return 0, fault.New(fault.BadRevocationReason, "%w", err).Because("revocation_reason")
	}
	return reason, nil
}
