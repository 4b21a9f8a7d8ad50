package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/web"
)

// ListAuditEvents is GET /v1/audit/events.
func (s *Server) ListAuditEvents(ctx context.Context, p api.PageParams, _ *api.None) (*api.AuditPage, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return nil, err
	}
	events, next, err := s.cfg.Store.AuditTail(ctx, limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	page := &api.AuditPage{Events: make([]api.AuditEvent, 0, len(events)), Next: next}
	for _, e := range events {
		page.Events = append(page.Events, api.AuditEvent{
			Node: e.Node, Seq: e.Seq, At: e.At.UTC(), Action: e.Action, Outcome: e.Outcome, Actor: e.Actor,
			Subject: e.Subject, RequestID: e.RequestID, Detail: e.Detail, Hash: hex.EncodeToString(e.Hash),
		})
	}
	return page, nil
}

// maxFindings bounds the findings of an answer.
const maxFindings = 100

// AcceptAudit is POST /v1/audit/accept.
func (s *Server) AcceptAudit(ctx context.Context, _ api.None, b *api.AuditAcceptance) (*api.AcceptedAudit, error) {
	found, err := s.cfg.Audit.Accept(ctx, b.Reason, requester(ctx), web.RequestID(ctx))
	if err != nil {
		return nil, err
	}
	out := &api.AcceptedAudit{Findings: []string{}, Found: len(found)}
	for _, f := range found[:min(len(found), maxFindings)] {
		out.Findings = append(out.Findings, f.String())
	}
	return out, nil
}

// ReloadConfig is POST /v1/config/reload. The attempt is on record, whatever
// came of it.
func (s *Server) ReloadConfig(ctx context.Context, _ api.None, _ *api.None) (*api.ReloadResult, error) {
	result, err := s.cfg.Reload(ctx)
	outcome := "success"
	if err != nil {
		outcome = "refused"
	}
	ev := s.event(ctx, "config.reloaded", outcome, "config:"+result.ConfigDigest)
	var encodeErr error
	if ev.Detail, encodeErr = json.Marshal(map[string]any{"changed": result.Changed}); encodeErr != nil {
		return nil, fmt.Errorf("record reload: %w", encodeErr)
	}
	if auditErr := s.cfg.Store.AppendAudit(ctx, ev); auditErr != nil && err == nil {
		return nil, fmt.Errorf("record reload: %w", auditErr)
	}
	if err != nil {
		return nil, unchanged(err)
	}
	return new(result), nil
}

// unchanged is the refusal of a configuration. The operator wrote the file: even
// an error that is no fault is for them to read.
func unchanged(err error) error {
	f := *fault.Of(err)
	if f.Kind == fault.Internal {
		f = fault.Error{Kind: fault.Malformed, Reason: "config_refused", Detail: err.Error(), Err: err}
	}
	f.Detail = "the configuration is unchanged: " + f.Detail
	return &f
}

// ResealSecrets is POST /v1/secrets/reseal.
func (s *Server) ResealSecrets(ctx context.Context, _ api.None, r *api.ResealRequest) (*api.ResealPage, error) {
	done, err := s.cfg.Secrets.Page(ctx, r.Cursor, r.DryRun, s.event(ctx, "secrets.resealed", "success", ""))
	if err != nil {
		return nil, err
	}
	page := &api.ResealPage{Checked: done.Checked, Resealed: done.Again, Next: done.Next}
	for _, u := range done.Unopened {
		secret := api.UnopenedSecret{Kind: u.Kind, ID: u.ID, Why: "altered"}
		if !errors.Is(u.Err, seal.ErrFormat) {
			secret.Key = u.Key.String()
		}
		if errors.Is(u.Err, seal.ErrKey) {
			secret.Why = "missing_key"
		}
		page.Unopened = append(page.Unopened, secret)
	}
	if page.Next != "" {
		return page, nil
	}
	if !r.DryRun {
		ev := s.event(ctx, "secrets.resealed", "success", "access")
		rows, _, err := s.cfg.Access.Remake(ctx, "", ev)
		if err != nil {
			return nil, err
		}
		page.Checked, page.Resealed = page.Checked+rows, page.Resealed+rows
	}
	keys, err := s.cfg.Secrets.Lines(ctx)
	for _, k := range keys {
		page.Keys = append(page.Keys, api.SealingKey{
			ID: k.ID.String(), Line: k.Line, Missing: k.Missing, Secrets: k.Secrets, Needs: k.What,
		})
	}
	return page, err
}

// GetHealth is GET /v1/health.
func (s *Server) GetHealth(ctx context.Context, _ api.None, _ *api.None) (*api.Health, error) {
	return new(s.cfg.Health(ctx)), nil
}

// GetVersion is GET /v1/version.
func (s *Server) GetVersion(_ context.Context, _ api.None, _ *api.None) (*api.Version, error) {
	return new(s.cfg.Version), nil
}
