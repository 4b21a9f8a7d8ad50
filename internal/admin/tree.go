package admin

import (
	"context"
	"io"

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
func (s *Server) CreateIssuerCSR(ctx context.Context, p api.IssuerRef, b *api.NewIssuerCSR) (*api.IssuerCSR, error) {
	o := tree.RequestOptions{Subject: b.Subject, Algorithm: b.Algorithm, Again: b.Again}
	made, err := s.cfg.Tree.Request(ctx, p.Issuer, o, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return &api.IssuerCSR{
		Issuer: made.Issuer, CSR: string(made.PEM()), Subject: made.Subject, Key: string(made.Key),
		Algorithm: made.Algorithm,
		SHA256:    pki.Fingerprint(made.CSR), CreatedAt: made.CreatedAt.UTC(), KeyMade: made.KeyMade,
	}, nil
}

// InstallIssuer is POST /v1/issuers/{issuer}/certificate.
func (s *Server) InstallIssuer(
	ctx context.Context, p api.IssuerRef, b *api.IssuerCertificate,
) (*api.InstallAnswer, error) {
	done, err := s.cfg.Tree.Install(ctx, p.Issuer, tree.Certificate{
		Chain: []byte(b.Certificate), Transcript: []byte(b.Transcript), NoTranscript: b.NoTranscript,
	}, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return installAnswer(done)
}

func installAnswer(done *tree.Installed) (*api.InstallAnswer, error) {
	ca, err := issuerOf(&done.Record)
	if err != nil {
		return nil, err
	}
	answer := &api.InstalledIssuer{Issuer: ca, Warnings: append([]string{}, done.Warnings...)}
	if done.Unchanged {
		return &api.InstallAnswer{Unchanged: answer}, nil
	}
	return &api.InstallAnswer{Installed: answer}, nil
}

// GetHierarchy is GET /v1/hierarchy.
func (s *Server) GetHierarchy(ctx context.Context, _ api.None, _ *api.None) (*api.Hierarchy, error) {
	places, findings, err := s.cfg.Tree.Look(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.Hierarchy{CAs: make([]api.HierarchyCA, 0, len(places))}
	for _, p := range places {
		ca := api.HierarchyCA{
			ID: p.Record.ID, Parent: p.Record.ParentID, Root: p.Root, State: p.Record.State, Level: p.Level,
			Subject:  p.Record.Subject,
			NotAfter: p.Record.NotAfter.UTC(), Key: p.Key, Children: p.Children, MaxChildren: p.MaxChildren,
			Certificates: p.Certificates,
			ChainBytes:   p.ChainBytes, Signatures: p.Signatures, VerifyMicroseconds: p.Verify.Microseconds(),
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
func (s *Server) PlanHierarchy(ctx context.Context, _ api.None, b *api.HierarchyFile) (*api.HierarchyPlan, error) {
	plan, err := s.cfg.Tree.Plan(ctx, []byte(b.Hierarchy))
	if err != nil {
		return nil, err
	}
	out := &api.HierarchyPlan{
		Name: plan.Name, Done: plan.Done(), Declare: plan.Declare, Warnings: append([]string{}, plan.Warnings...),
		Steps: make([]api.HierarchyStep, 0, len(plan.Steps)), Ceremonies: []api.PlannedCeremony{},
	}
	for _, step := range plan.Steps {
		c := step.CA
		out.Steps = append(out.Steps, api.HierarchyStep{
			CA: c.ID, Parent: c.Parent, Level: step.Level, Root: step.Root, Key: c.Key, Subject: c.Subject,
			Template:  c.Template,
			Algorithm: c.Algorithm, Years: c.Years, State: step.State, Detail: step.Detail,
		})
	}
	for _, c := range plan.Ceremonies {
		out.Ceremonies = append(out.Ceremonies, api.PlannedCeremony{
			Root: c.Root, File: c.File, Requests: append([]string{}, c.Requests...),
		})
	}
	return out, nil
}

// ExportHierarchy is GET /v1/hierarchy/{issuer}/export.
func (s *Server) ExportHierarchy(ctx context.Context, p api.IssuerRef, _ *api.None) (*api.Stream, error) {
	if err := s.cfg.Tree.CanExport(ctx, p.Issuer); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.AppendAudit(ctx, s.event(ctx, "hierarchy.exported", "success", p.Issuer)); err != nil {
		return nil, err
	}
	return &api.Stream{Type: "application/jsonl", Write: func(w io.Writer, extend func()) error {
		return s.cfg.Tree.Export(ctx, w, p.Issuer, extend)
	}}, nil
}

// maxImportPage is how many records a page may have.
const maxImportPage = 500

// ImportRecords is POST /v1/issuers/{issuer}/records.
func (s *Server) ImportRecords(ctx context.Context, p api.IssuerRef, b *api.ImportPage) (*api.ImportResult, error) {
	if len(b.Records) > maxImportPage {
		return nil, fault.New(fault.Malformed, "%d records: want at most %d in a page", len(b.Records), maxImportPage).
			Because("page")
	}
	page := make([]tree.Record, len(b.Records))
	for i, record := range b.Records {
		var err error
		if page[i], err = tree.RecordOf(record); err != nil {
			return nil, err
		}
	}
	fresh, err := s.cfg.Tree.Import(ctx, p.Issuer, []byte(b.Certificate), page, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return &api.ImportResult{Imported: fresh, Known: len(page) - fresh}, nil
}

// AdoptIssuer is POST /v1/issuers/{issuer}/adopt.
func (s *Server) AdoptIssuer(ctx context.Context, p api.IssuerRef, b *api.Adoption) (*api.InstallAnswer, error) {
	last, err := tree.ParseCRLNumber(b.LastCRLNumber)
	if err != nil {
		return nil, err
	}
	a := tree.Adoption{
		Chain: []byte(b.Certificate), Passphrase: []byte(b.Passphrase), LastCRL: last, Shards: b.CRLShards,
	}
	if b.PrivateKey != "" {
		a.Key = []byte(b.PrivateKey)
	}
	defer clear(a.Key)
	defer clear(a.Passphrase)
	done, err := s.cfg.Tree.Adopt(ctx, p.Issuer, a, byOperator(ctx))
	if err != nil {
		return nil, err
	}
	return installAnswer(done)
}
