package admin

import (
	"context"
	"encoding/hex"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/inventory"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/web"
)

// ListRequests is GET /v1/requests.
func (s *Server) ListRequests(ctx context.Context, p api.ListRequestsParams, _ *api.None) (*api.ApprovalPage, error) {
	limit, err := pageSize(p.Limit)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Approvals.List(ctx, store.RequestSearch{
		Status: store.RequestStatus(p.Status), Profile: p.Profile,
		After: p.Cursor, Limit: limit + 1,
	})
	if err != nil {
		return nil, err
	}
	page := &api.ApprovalPage{Requests: []api.ApprovalRequest{}}
	if len(found) > limit {
		found = found[:limit]
		page.Next = found[limit-1].ID
	}
	for i := range found {
		page.Requests = append(page.Requests, s.approvalRequest(&found[i]))
	}
	return page, nil
}

// GetRequest is GET /v1/requests/{id}.
func (s *Server) GetRequest(ctx context.Context, p api.IDRef, _ *api.None) (*api.ApprovalRequest, error) {
	v, err := s.cfg.Approvals.Show(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	return new(s.approvalRequest(v)), nil
}

// ApproveRequest is POST /v1/requests/{id}/approve.
func (s *Server) ApproveRequest(ctx context.Context, p api.IDRef, _ *api.None) (*api.ApprovalRequest, error) {
	if err := s.ownCredential(ctx, p.ID); err != nil {
		return nil, err
	}
	v, err := s.cfg.Approvals.Approve(ctx, p.ID, actor(ctx))
	if err != nil {
		return nil, err
	}
	return new(s.approvalRequest(v)), nil
}

// RejectRequest is POST /v1/requests/{id}/reject.
func (s *Server) RejectRequest(ctx context.Context, p api.IDRef, b *api.Rejection) (*api.ApprovalRequest, error) {
	v, err := s.cfg.Approvals.Reject(ctx, p.ID, b.Reason, actor(ctx))
	if err != nil {
		return nil, err
	}
	return new(s.approvalRequest(v)), nil
}

func actor(ctx context.Context) approval.Actor {
	return approval.Actor{Name: requester(ctx), RequestID: web.RequestID(ctx)}
}

func (s *Server) approvalRequest(v *approval.View) api.ApprovalRequest {
	out := api.ApprovalRequest{
		ID: v.ID, Status: api.RequestStatus(v.State), Protocol: v.Protocol, Endpoint: v.Endpoint,
		Profile: v.Profile, Issuer: v.Issuer,
		Identity: v.Identity, Requester: v.Requester, RequestID: v.RequestID, TransactionID: v.TransactionID,
		Subject: v.Subject, Names: inventory.Identifiers(v.Names), KeyHash: hex.EncodeToString(v.KeyHash),
		TemplateDigest: hex.EncodeToString(v.TemplateDigest), CreatedAt: v.CreatedAt.UTC(),
		ExpiresAt: v.ExpiresAt.UTC(),
		DecidedBy: v.DecidedBy, Reason: v.Reason, Certificate: v.CertificateID, Changed: v.Changed, Changes: v.Changes,
	}
	if v.DecidedAt != nil {
		out.DecidedAt = v.DecidedAt.UTC()
	}
	if v.Preview != nil {
		out.Preview = verdict(*v.Preview)
	}
	return out
}
