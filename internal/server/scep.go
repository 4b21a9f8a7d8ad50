package server

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/scep"
)

func (srv *server) buildSCEP(context.Context) error {
	endpoints, err := srv.cfg.Load().SCEPEndpoints(srv.raKey)
	if err != nil {
		return err
	}
	srv.scep, err = scep.New(endpoints, scep.Deps{
		Store: srv.store, Pipeline: srv.pipeline, Approvals: srv.approvals, Enrolment: srv.enrolment,
		Challenges: srv.scepChallenges, Webhooks: srv.webhooks, Limits: srv.limits, Sealer: srv.sealer,
		Log: srv.log, Now: srv.now, Observe: srv.metrics.SCEP,
	})
	return err
}

// swapSCEP puts the endpoints of a configuration in force.
func (srv *server) swapSCEP(cfg *config.File) error {
	endpoints, err := cfg.SCEPEndpoints(srv.raKey)
	if err == nil {
		err = srv.scep.Swap(endpoints)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}

// raKey is the key of an endpoint's RA in a token.
func (srv *server) raKey(ctx context.Context, cfg *config.File, e config.Endpoint) (scep.PrivateKey, error) {
	alg := cmp.Or(e.SCEP.RAKey, "rsa-2048")
	return srv.serviceKey(ctx, cfg, "scep-"+e.Name, e.SCEP.RAKeyRef, alg, config.Reference(e.SCEP.RAPassphrase))
}

// serviceKey opens the key in a token of a responder or an RA, or makes it, once.
func (srv *server) serviceKey(
	ctx context.Context, cfg *config.File, name string, ref keys.Ref, alg string, secret config.Reference,
) (*openKey, error) {
	srv.serviceMu.Lock()
	defer srv.serviceMu.Unlock()
	old := srv.serviceKeys[ref]
	if old != nil && old.passphrase == secret {
		return old, nil
	}
	k, err := keys.Ensure(ctx, ref, alg, secret.Secret(cfg.Dir), srv.keyConfig(cfg, name))
	if err != nil {
		return nil, err
	}
	if old != nil {
		srv.serviceRetired = append(srv.serviceRetired, old)
	}
	srv.serviceKeys[ref] = &openKey{k, secret}
	return srv.serviceKeys[ref], nil
}

// closeServiceKeys releases the keys of responders and RAs in tokens.
func (srv *server) closeServiceKeys() error {
	srv.serviceMu.Lock()
	defer srv.serviceMu.Unlock()
	var err error
	for _, k := range append(slices.Collect(maps.Values(srv.serviceKeys)), srv.serviceRetired...) {
		err = errors.Join(err, k.Close())
	}
	return err
}

// renewRA makes the RA certificates that are missing or due.
func (srv *server) renewRA(ctx context.Context) error {
	return srv.scep.Renew(ctx)
}

// raHealth says which SCEP endpoints have no RA, and which will soon have none.
func (srv *server) raHealth(context.Context) []health.Check {
	var checks []health.Check
	states := srv.scep.Health()
	for _, name := range slices.Sorted(maps.Keys(states)) {
		checks = append(checks, health.Own("scep "+name, needSCEP, states[name]))
	}
	return checks
}

// plainRoutes is all that is served by plain HTTP.
func (srv *server) plainRoutes() http.Handler {
	r := chi.NewRouter()
	r.Use(srv.scep.Elsewhere)
	index(r, func() []string {
		return append([]string{
			"/roots", "/roots.pem", "/issuers/ID.cer", "/issuers/ID/chain.pem", "/crl/ID.crl", "/ocsp/ID",
		}, srv.scep.Mounted()...)
	})
	r.Mount("/scep", srv.scep.Routes())
	r.Mount("/", srv.publisher.Routes())
	return r
}
