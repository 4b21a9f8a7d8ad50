package admin

import (
	"context"
	"net/http"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/tree"
	"github.com/privyseal/privyseal/internal/web"
)

func byOperator(ctx context.Context) tree.Actor {
	return tree.Actor{Name: requester(ctx), RequestID: web.RequestID(ctx)}
}

// CreateIssuerCSR is POST /v1/issuers/{issuer}/csr.
func (s *Server) CreateIssuerCSR(ctx context.Context, r api.CreateIssuerCSRRequestObject) (api.CreateIssuerCSRResponseObject, error) {
	made, err := s.cfg.Tree.Request(ctx, r.Issuer, tree.RequestOptions{Subject: r.Body.Subject, Algorithm: r.Body.Algorithm, Again: r.Body.Again}, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return api.CreateIssuerCSR200JSONResponse{
		Issuer: made.Issuer, CSR: string(made.PEM()), Subject: made.Subject, Key: string(made.Key), Algorithm: made.Algorithm,
		SHA256: pki.Fingerprint(made.CSR), CreatedAt: made.CreatedAt.UTC(), KeyMade: made.KeyMade,
	}, nil
}

// InstallIssuer is POST /v1/issuers/{issuer}/certificate.
func (s *Server) InstallIssuer(ctx context.Context, r api.InstallIssuerRequestObject) (api.InstallIssuerResponseObject, error) {
	done, err := s.cfg.Tree.Install(ctx, r.Issuer, tree.Certificate{
		Chain: []byte(r.Body.Certificate), Transcript: []byte(r.Body.Transcript), NoTranscript: r.Body.NoTranscript,
	}, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	out, err := issuerOf(&done.Record)
	if err != nil {
		return nil, err
	}
	answer := api.InstalledIssuer{Issuer: out, Warnings: append([]string{}, done.Warnings...)}
	if done.Unchanged {
		return api.InstallIssuer200JSONResponse(answer), nil
	}
	return api.InstallIssuer201JSONResponse(answer), nil
}

// GetHierarchy is GET /v1/hierarchy.
func (s *Server) GetHierarchy(ctx context.Context, _ api.GetHierarchyRequestObject) (api.GetHierarchyResponseObject, error) {
	places, findings, err := s.cfg.Tree.Look(ctx)
	if err != nil {
		return nil, err
	}
	out := api.GetHierarchy200JSONResponse{CAs: make([]api.HierarchyCA, 0, len(places))}
	for _, p := range places {
		ca := api.HierarchyCA{
			ID: p.Record.ID, Parent: p.Record.ParentID, Root: p.Root, State: p.Record.State, Level: p.Level, Subject: p.Record.Subject,
			NotAfter: p.Record.NotAfter.UTC(), Key: p.Key, Children: p.Children, MaxChildren: p.MaxChildren, Certificates: p.Certificates,
			ChainBytes: p.ChainBytes, Signatures: p.Signatures, VerifyMicroseconds: p.Verify.Microseconds(),
		}
		if p.PathLen >= 0 {
			ca.PathLen = &p.PathLen
		}
		out.CAs = append(out.CAs, ca)
	}
	for _, f := range findings {
		out.Findings = append(out.Findings, api.HierarchyFinding{Severity: f.Severity, About: f.About, What: f.What})
	}
	return out, nil
}

// PlanHierarchy is POST /v1/hierarchy/plan.
func (s *Server) PlanHierarchy(ctx context.Context, r api.PlanHierarchyRequestObject) (api.PlanHierarchyResponseObject, error) {
	plan, err := s.cfg.Tree.Plan(ctx, []byte(r.Body.Hierarchy))
	if err != nil {
		return nil, err
	}
	out := api.PlanHierarchy200JSONResponse{
		Name: plan.Name, Done: plan.Done(), Declare: plan.Declare, Warnings: append([]string{}, plan.Warnings...),
		Steps: make([]api.HierarchyStep, 0, len(plan.Steps)), Ceremonies: []api.PlannedCeremony{},
	}
	for _, step := range plan.Steps {
		c := step.CA
		out.Steps = append(out.Steps, api.HierarchyStep{
			CA: c.ID, Parent: c.Parent, Level: step.Level, Root: step.Root, Key: c.Key, Subject: c.Subject, Template: c.Template,
			Algorithm: c.Algorithm, Years: c.Years, State: step.State, Detail: step.Detail,
		})
	}
	for _, c := range plan.Ceremonies {
		out.Ceremonies = append(out.Ceremonies, api.PlannedCeremony{Root: c.Root, File: c.File, Requests: append([]string{}, c.Requests...)})
	}
	return out, nil
}

// ExportHierarchy is GET /v1/hierarchy/{issuer}/export.
func (s *Server) ExportHierarchy(ctx context.Context, r api.ExportHierarchyRequestObject) (api.ExportHierarchyResponseObject, error) {
	if err := s.cfg.Tree.CanExport(ctx, r.Issuer); err != nil {
		return nil, err
	}
	return hierarchyAnswer{server: s, ctx: ctx, issuer: r.Issuer}, s.cfg.Store.AppendAudit(ctx, s.event(ctx, "hierarchy.exported", "success", r.Issuer))
}

// hierarchyAnswer streams an export.
type hierarchyAnswer struct {
	server *Server
	ctx    context.Context //nolint:containedctx // lives from the handler to the writing of its answer
	issuer string
}

// VisitExportHierarchyResponse writes the answer. When it fails half-way the
// connection is broken off: a short export must not look whole.
func (a hierarchyAnswer) VisitExportHierarchyResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/jsonl")
	out := http.NewResponseController(w)
	extend := func() {
		// Only a server that has no deadlines refuses this, and then none is needed.
		_ = out.SetWriteDeadline(a.server.cfg.Now().Add(pageTime))
	}
	if err := a.server.cfg.Tree.Export(a.ctx, w, a.issuer, extend); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// maxImportPage is how many records a page may have.
const maxImportPage = 500

// ImportRecords is POST /v1/issuers/{issuer}/records.
func (s *Server) ImportRecords(ctx context.Context, r api.ImportRecordsRequestObject) (api.ImportRecordsResponseObject, error) {
	if len(r.Body.Records) > maxImportPage {
		return nil, fault.New(fault.Malformed, "%d records: want at most %d in a page", len(r.Body.Records), maxImportPage).Because("page")
	}
	page := make([]tree.Record, len(r.Body.Records))
	for i, record := range r.Body.Records {
		var err error
		if page[i], err = tree.RecordOf(record); err != nil {
			return nil, err
		}
	}
	fresh, err := s.cfg.Tree.Import(ctx, r.Issuer, []byte(r.Body.Certificate), page, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return api.ImportRecords200JSONResponse{Imported: fresh, Known: len(page) - fresh}, nil
}

// AdoptIssuer is POST /v1/issuers/{issuer}/adopt.
func (s *Server) AdoptIssuer(ctx context.Context, r api.AdoptIssuerRequestObject) (api.AdoptIssuerResponseObject, error) {
	last, err := tree.ParseCRLNumber(r.Body.LastCRLNumber)
	if err != nil {
		return nil, err
	}
	a := tree.Adoption{Chain: []byte(r.Body.Certificate), Passphrase: []byte(r.Body.Passphrase), LastCRL: last, Shards: r.Body.CRLShards}
	if r.Body.PrivateKey != "" {
		a.Key = []byte(r.Body.PrivateKey)
	}
	defer clear(a.Key)
	defer clear(a.Passphrase)
	done, err := s.cfg.Tree.Adopt(ctx, r.Issuer, a, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	out, err := issuerOf(&done.Record)
	if err != nil {
		return nil, err
	}
	answer := api.InstalledIssuer{Issuer: out, Warnings: append([]string{}, done.Warnings...)}
	if done.Unchanged {
		return api.AdoptIssuer200JSONResponse(answer), nil
	}
	return api.AdoptIssuer201JSONResponse(answer), nil
}
