package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// pageTime is how long a client of an export may take for one page.
const pageTime = 30 * time.Second

// ListCertificates is GET /v1/certificates.
func (s *Server) ListCertificates(ctx context.Context, r api.ListCertificatesRequestObject) (api.ListCertificatesResponseObject, error) {
	p := r.Params
	q, err := search(p.Name, p.Serial, p.Profile, p.Issuer, string(p.Status), p.Requester, p.Key, p.ExpiresAfter, p.ExpiresBefore)
	if err != nil {
		return nil, err
	}
	q.After, q.Limit = p.Cursor, p.Limit
	found, next, err := s.cfg.Inventory.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	page := api.ListCertificates200JSONResponse{Certificates: make([]api.Certificate, 0, len(found)), Next: next}
	for i := range found {
		page.Certificates = append(page.Certificates, inventory.Record(&found[i]))
	}
	return page, nil
}

func search(name, serial, profile, issuer, status, requester, key string, after, before time.Time) (store.Search, error) {
	q := store.Search{Name: name, Profile: profile, Issuer: issuer, Status: status, Requester: requester, ExpiresAfter: after, ExpiresBefore: before}
	if serial != "" {
		n, err := pki.ParseSerial(serial)
		if err != nil {
			return q, fault.New(fault.Malformed, "%w", err).Because("serial")
		}
		q.Serial = n
	}
	if key != "" {
		var err error
		if q.Key, err = inventory.ParseKeyHash(key); err != nil {
			return q, err
		}
	}
	return q, nil
}

// GetCertificate is GET /v1/certificates/{certificate}.
func (s *Server) GetCertificate(ctx context.Context, r api.GetCertificateRequestObject) (api.GetCertificateResponseObject, error) {
	c, err := s.cfg.Inventory.Find(ctx, r.Certificate, r.Params.Issuer)
	if err != nil {
		return nil, err
	}
	return api.GetCertificate200JSONResponse(inventory.Record(c)), nil
}

// GetCertificatePEM is GET /v1/certificates/{certificate}/pem.
func (s *Server) GetCertificatePEM(ctx context.Context, r api.GetCertificatePEMRequestObject) (api.GetCertificatePEMResponseObject, error) {
	row, err := s.cfg.Inventory.Find(ctx, r.Certificate, r.Params.Issuer)
	if err != nil {
		return nil, err
	}
	if len(row.DER) == 0 {
		return nil, fault.New(fault.NotFound, "certificate %s is %s: it was never handed out", r.Certificate, row.Status).Because("never_issued")
	}
	cert, err := s.cfg.Pipeline.Certificate(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	return chainAnswer{pki.EncodeChain(append([][]byte{cert.DER}, cert.Chain...)...)}, nil
}

// chainAnswer is a PEM chain as an answer.
type chainAnswer struct{ pem []byte }

// VisitGetCertificatePEMResponse writes the answer.
func (a chainAnswer) VisitGetCertificatePEMResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, err := w.Write(a.pem)
	return err
}

// ExportCertificates is GET /v1/certificates/export.
func (s *Server) ExportCertificates(ctx context.Context, r api.ExportCertificatesRequestObject) (api.ExportCertificatesResponseObject, error) {
	p := r.Params
	if !p.Format.Valid() {
		return nil, fault.New(fault.Malformed, "format %q is not one of csv, jsonl, pem", string(p.Format)).Because("format")
	}
	q, err := search(p.Name, p.Serial, p.Profile, p.Issuer, string(p.Status), p.Requester, p.Key, p.ExpiresAfter, p.ExpiresBefore)
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
	return exportAnswer{server: s, ctx: ctx, query: q, format: p.Format}, nil
}

// exportAnswer streams an export.
type exportAnswer struct {
	server *Server
	ctx    context.Context //nolint:containedctx // lives from the handler to the writing of its answer
	query  store.Search
	format api.ExportFormat
}

var exportTypes = map[api.ExportFormat]string{
	api.FormatCSV: "text/csv", api.FormatJSONL: "application/jsonl", api.FormatPEM: "application/x-pem-file",
}

// VisitExportCertificatesResponse writes the answer. When it fails half-way the
// connection is broken off: a short export must not look whole.
func (a exportAnswer) VisitExportCertificatesResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", exportTypes[a.format])
	out := http.NewResponseController(w)
	extend := func() {
		// Only a server that has no deadlines refuses this, and then none is needed.
		_ = out.SetWriteDeadline(a.server.cfg.Now().Add(pageTime))
	}
	if _, err := a.server.cfg.Inventory.Export(a.ctx, w, a.format, a.query, extend); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}
