package admin

import (
	"context"
	"io"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ListCertificates is GET /v1/certificates.
func (s *Server) ListCertificates(
	ctx context.Context, p api.ListCertificatesParams, _ *api.None,
) (*api.CertificatePage, error) {
	q, err := search(p.CertificateFilter)
	if err != nil {
		return nil, err
	}
	q.After, q.Limit = p.Cursor, p.Limit
	found, next, err := s.cfg.Inventory.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	page := &api.CertificatePage{Certificates: make([]api.Certificate, 0, len(found)), Next: next}
	for i := range found {
		page.Certificates = append(page.Certificates, inventory.Record(&found[i]))
	}
	return page, nil
}

func search(f api.CertificateFilter) (store.Search, error) {
	q := store.Search{
		Name: f.Name, Profile: f.Profile, Issuer: f.Issuer, Status: string(f.Status), Requester: f.Requester,
		ExpiresAfter: f.ExpiresAfter, ExpiresBefore: f.ExpiresBefore,
	}
	if f.Serial != "" {
		n, err := pki.ParseSerial(f.Serial)
		if err != nil {
			return q, fault.New(fault.Malformed, "%w", err).Because("serial")
		}
		q.Serial = n
	}
	if f.Key != "" {
		var err error
		if q.Key, err = inventory.ParseKeyHash(f.Key); err != nil {
			return q, err
		}
	}
	return q, nil
}

// GetCertificate is GET /v1/certificates/{certificate}.
func (s *Server) GetCertificate(ctx context.Context, p api.CertificateRef, _ *api.None) (*api.Certificate, error) {
	c, err := s.cfg.Inventory.Find(ctx, p.Certificate, p.Issuer)
	if err != nil {
		return nil, err
	}
	return new(inventory.Record(c)), nil
}

// GetCertificatePEM is GET /v1/certificates/{certificate}/pem.
func (s *Server) GetCertificatePEM(ctx context.Context, p api.CertificateRef, _ *api.None) (*api.Stream, error) {
	row, err := s.cfg.Inventory.Find(ctx, p.Certificate, p.Issuer)
	if err != nil {
		return nil, err
	}
	if len(row.DER) == 0 {
		return nil, fault.New(fault.NotFound, "certificate %s is %s: it was never handed out",
			p.Certificate, row.Status).Because("never_issued")
	}
	cert, err := s.cfg.Pipeline.Certificate(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	chain := pki.EncodeChain(append([][]byte{cert.DER}, cert.Chain...)...)
	return &api.Stream{Type: "application/pem-certificate-chain", Write: func(w io.Writer, _ func()) error {
		_, err := w.Write(chain)
		return err
	}}, nil
}

// ExportCertificates is GET /v1/certificates/export.
func (s *Server) ExportCertificates(
	ctx context.Context, p api.ExportCertificatesParams, _ *api.None,
) (*api.Stream, error) {
	if exportTypes[p.Format] == "" {
		return nil, fault.New(fault.Malformed, "format %q is not one of csv, jsonl, pem", string(p.Format)).
			Because("format")
	}
	q, err := search(p.CertificateFilter)
	if err != nil {
		return nil, err
	}
	// The first page is read before the header goes out, so that what is wrong
	// with the search, or with the database, is still a problem document.
	probe := q
	probe.Limit = 1
	if _, _, err := s.cfg.Inventory.Search(ctx, probe); err != nil {
		return nil, err
	}
	return &api.Stream{Type: exportTypes[p.Format], Write: func(w io.Writer, extend func()) error {
		_, err := s.cfg.Inventory.Export(ctx, w, p.Format, q, extend)
		return err
	}}, nil
}

var exportTypes = map[api.ExportFormat]string{
	api.FormatCSV: "text/csv", api.FormatJSONL: "application/jsonl", api.FormatPEM: "application/x-pem-file",
}
