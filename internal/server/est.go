package server

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/fault"
)

func (srv *server) buildEST(context.Context) error {
	cfg, err := srv.cfg.Load().ESTConfig()
	if err != nil {
		return err
	}
	srv.est, err = est.New(cfg, est.Deps{
		Pipeline: srv.pipeline, Approvals: srv.approvals, Enrolment: srv.enrolment, Users: srv.estUsers,
		Limits: srv.limits,
		Signer: srv.tls[listenEST].Current, Log: srv.log, Now: srv.now,
	})
	return err
}

// estRoutes is EST and nothing else.
func (srv *server) estRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/.well-known/est", srv.est.Routes())
	index(r, func() []string { return srv.est.Mounted() })
	return r
}

// swapEST puts the endpoints of a configuration in force.
func (srv *server) swapEST(cfg *config.File) error {
	c, err := cfg.ESTConfig()
	if err == nil {
		err = srv.est.Swap(c)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}
