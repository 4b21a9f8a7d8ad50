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

// importPath takes a longer body than the others.
const importPath = "/v1/crls"

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
	text := []byte(r.Body.CRL)
	if !strings.Contains(r.Body.CRL, "-----BEGIN") {
		var err error
		if text, err = base64.StdEncoding.DecodeString(r.Body.CRL); err != nil {
			return nil, fault.New(fault.Malformed, "crl: neither PEM nor base64 of a DER list").Because("crl_form")
		}
	}
	done, err := s.cfg.Lists.Import(ctx, text, listOptions(ctx))
	if err != nil {
		return nil, err
	}
	if done.Unchanged {
		return api.ImportCRL200JSONResponse(crlOf(done.Status)), nil
	}
	return api.ImportCRL201JSONResponse(crlOf(done.Status)), nil
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
