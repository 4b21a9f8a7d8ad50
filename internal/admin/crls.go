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

// takesList reports whether a path takes a list, and so a longer body than the
// others.
func takesList(path string) bool {
	return path == "/v1/crls" || strings.HasPrefix(path, "/v1/crls/") && strings.HasSuffix(path, "/recover")
}

// MaxImportBody bounds the body of an import: the longest list as base64 of PEM.
const MaxImportBody = crl.MaxImport * 2

// ListCRLs is GET /v1/crls.
func (s *Server) ListCRLs(context.Context, api.ListCRLsRequestObject) (api.ListCRLsResponseObject, error) {
	return api.ListCRLs200JSONResponse(crlList(s.cfg.Lists.Lists())), nil
}

// GetCRLs is GET /v1/crls/{issuer}.
func (s *Server) GetCRLs(_ context.Context, r api.GetCRLsRequestObject) (api.GetCRLsResponseObject, error) {
	lists, err := s.cfg.Lists.Of(r.Issuer)
	if err != nil {
		return nil, err
	}
	return api.GetCRLs200JSONResponse(crlList(lists)), nil
}

// PublishCRLs is POST /v1/crls/{issuer}/publish.
func (s *Server) PublishCRLs(ctx context.Context, r api.PublishCRLsRequestObject) (api.PublishCRLsResponseObject, error) {
	o := listOptions(ctx)
	o.ClockWasWrong = r.Body.ClockWasWrong
	lists, err := s.cfg.Lists.Publish(ctx, r.Issuer, o)
	if err != nil {
		return nil, err
	}
	return api.PublishCRLs200JSONResponse(crlList(lists)), nil
}

// ImportCRL is POST /v1/crls.
func (s *Server) ImportCRL(ctx context.Context, r api.ImportCRLRequestObject) (api.ImportCRLResponseObject, error) {
	text, err := listOf(r.Body.CRL)
	if err != nil {
		return nil, err
	}
	o := listOptions(ctx)
	o.AcceptLost = r.Body.AcceptLost
	done, err := s.cfg.Lists.Import(ctx, text, o)
	if err != nil {
		return nil, err
	}
	if done.Unchanged {
		return api.ImportCRL200JSONResponse(crlOf(done.Status)), nil
	}
	if s.cfg.ListImported != nil {
		s.cfg.ListImported(ctx)
	}
	return api.ImportCRL201JSONResponse(crlOf(done.Status)), nil
}

// RecoverRevocations is POST /v1/crls/{issuer}/recover.
func (s *Server) RecoverRevocations(ctx context.Context, r api.RecoverRevocationsRequestObject) (api.RecoverRevocationsResponseObject, error) {
	recovery := crl.Recovery{Holds: r.Body.Holds, DryRun: r.Body.DryRun, Options: listOptions(ctx)}
	if r.Body.CRL != "" {
		var err error
		if recovery.List, err = listOf(r.Body.CRL); err != nil {
			return nil, err
		}
	}
	done, err := s.cfg.Lists.Recover(ctx, r.Issuer, recovery)
	if err != nil {
		return nil, err
	}
	out := api.RecoverRevocations200JSONResponse{Revoked: done.Revoked, Entered: done.Entered, Holds: done.Holds, Serials: []string{}}
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
		Number: s.Number, ThisUpdate: s.ThisUpdate.UTC(), NextUpdate: s.NextUpdate.UTC(), Entries: s.Entries, Size: s.Size,
		SHA256: s.SHA256, Refused: s.Refused,
	}
}
