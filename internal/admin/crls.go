package admin

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

// ListCRLs is GET /v1/crls.
func (s *Server) ListCRLs(_ context.Context, _ api.None, _ *api.None) (*api.CRLList, error) {
	return new(crlList(s.cfg.Lists.Lists())), nil
}

// GetCRLs is GET /v1/crls/{issuer}.
func (s *Server) GetCRLs(_ context.Context, p api.IssuerRef, _ *api.None) (*api.CRLList, error) {
	lists, err := s.cfg.Lists.Of(p.Issuer)
	if err != nil {
		return nil, err
	}
	return new(crlList(lists)), nil
}

// PublishCRLs is POST /v1/crls/{issuer}/publish.
func (s *Server) PublishCRLs(ctx context.Context, p api.IssuerRef, b *api.PublishRequest) (*api.CRLList, error) {
	o := listOptions(ctx)
	o.ClockWasWrong = b.ClockWasWrong
	lists, err := s.cfg.Lists.Publish(ctx, p.Issuer, o)
	if err != nil {
		return nil, err
	}
	return new(crlList(lists)), nil
}

// ImportCRL is POST /v1/crls.
func (s *Server) ImportCRL(ctx context.Context, _ api.None, b *api.CRLImport) (*api.ImportedCRL, error) {
	text, err := listOf(b.CRL)
	if err != nil {
		return nil, err
	}
	o := listOptions(ctx)
	o.AcceptLost = b.AcceptLost
	done, err := s.cfg.Lists.Import(ctx, text, o)
	if err != nil {
		return nil, err
	}
	if done.Unchanged {
		return &api.ImportedCRL{Unchanged: new(crlOf(done.Status))}, nil
	}
	if s.cfg.ListImported != nil {
		s.cfg.ListImported(ctx)
	}
	return &api.ImportedCRL{Published: new(crlOf(done.Status))}, nil
}

// RecoverRevocations is POST /v1/crls/{issuer}/recover.
func (s *Server) RecoverRevocations(
	ctx context.Context, p api.IssuerRef, b *api.RecoverRequest,
) (*api.Recovery, error) {
	recovery := crl.Recovery{Holds: b.Holds, DryRun: b.DryRun, Options: listOptions(ctx)}
	if b.CRL != "" {
		var err error
		if recovery.List, err = listOf(b.CRL); err != nil {
			return nil, err
		}
	}
	done, err := s.cfg.Lists.Recover(ctx, p.Issuer, recovery)
	if err != nil {
		return nil, err
	}
	out := &api.Recovery{Revoked: done.Revoked, Entered: done.Entered, Holds: done.Holds, Serials: []string{}}
	for _, serial := range done.Serials {
		out.Serials = append(out.Serials, string(serial))
	}
	return out, nil
}

func listOf(text string) ([]byte, error) {
	if strings.Contains(text, "-----BEGIN") {
		return []byte(text), nil
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fault.New(fault.Malformed, "crl: neither PEM nor base64 of a DER list").Because("crl_form")
	}
	return der, nil
}

func listOptions(ctx context.Context) crl.Options {
	return crl.Options{Actor: requester(ctx), RequestID: web.RequestID(ctx)}
}

func crlList(lists []crl.Status) api.CRLList {
	out := api.CRLList{CRLs: make([]api.CRL, 0, len(lists))}
	for _, s := range lists {
		out.CRLs = append(out.CRLs, crlOf(s))
	}
	return out
}

func crlOf(s crl.Status) api.CRL {
	return api.CRL{
		Name: s.Name, Issuer: s.Issuer, Shard: s.Shard, Delta: s.Delta, Offline: s.Offline, State: s.State, URL: s.URL,
		Number: s.Number, ThisUpdate: s.ThisUpdate.UTC(), NextUpdate: s.NextUpdate.UTC(), Entries: s.Entries,
		Size:   s.Size,
		SHA256: s.SHA256, Lost: s.Lost, Refused: s.Refused,
	}
}
