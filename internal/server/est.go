package server

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

func (h *house) buildEST(context.Context) error {
	cfg, err := h.cfg.Load().ESTConfig()
	if err != nil {
		return err
	}
	h.est, err = est.New(cfg, est.Deps{
		Pipeline: h.pipeline, Desk: h.desk, Enrolment: h.enrolment, Users: h.estUsers, Limits: h.limits,
		Signer: h.tls[listenEST].Current, Log: h.log, Now: h.now,
	})
	return err
}

// estRoutes is EST and nothing else.
func (h *house) estRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/.well-known/est", h.est.Routes())
	r.NotFound(web.Handler(func(http.ResponseWriter, *http.Request) error {
		return fault.New(fault.NotFound, "this address serves EST, below /.well-known/est/")
	}, web.RenderText))
	return r
}

// swapEST puts the endpoints of a configuration in force.
func (h *house) swapEST(cfg *config.File) error {
	c, err := cfg.ESTConfig()
	if err == nil {
		err = h.est.Swap(c)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}
