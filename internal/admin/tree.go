package admin

import (
	"context"

	"github.com/privyseal/privyseal/api"
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
