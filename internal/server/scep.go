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

func (h *house) buildSCEP(context.Context) error {
	endpoints, err := h.cfg.Load().SCEPEndpoints(h.raKey)
	if err != nil {
		return err
	}
	h.scep, err = scep.New(endpoints, scep.Deps{
		Store: h.store, Pipeline: h.pipeline, Desk: h.desk, Enrolment: h.enrolment, Challenges: h.scepChallenges, Webhooks: h.webhooks,
		Limits: h.limits, Sealer: h.sealer,
		Log: h.log, Now: h.now, Observe: h.metrics.SCEP,
	})
	return err
}

// swapSCEP puts the endpoints of a configuration in force.
func (h *house) swapSCEP(cfg *config.File) error {
	endpoints, err := cfg.SCEPEndpoints(h.raKey)
	if err == nil {
		err = h.scep.Swap(endpoints)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}

// raKey is the key of an endpoint's RA in a token.
func (h *house) raKey(ctx context.Context, cfg *config.File, e config.Endpoint) (scep.PrivateKey, error) {
	return h.serviceKey(ctx, cfg, "scep-"+e.Name, e.SCEP.RAKeyRef, cmp.Or(e.SCEP.RAKey, "rsa-2048"), config.Reference(e.SCEP.RAPassphrase))
}

// serviceKey opens the key in a token of a responder or an RA, or makes it, once.
func (h *house) serviceKey(ctx context.Context, cfg *config.File, name string, ref keys.Ref, alg string, secret config.Reference) (*openKey, error) {
	h.serviceMu.Lock()
	defer h.serviceMu.Unlock()
	old := h.serviceKeys[ref]
	if old != nil && old.passphrase == secret {
		return old, nil
	}
	k, err := keys.Ensure(ctx, ref, alg, secret.Secret(cfg.Dir), keys.Config{Observe: h.metrics.Key(name), Now: h.now, Module: cfg.PKCS11.Module})
	if err != nil {
		return nil, err
	}
	if old != nil {
		h.serviceRetired = append(h.serviceRetired, old)
	}
	h.serviceKeys[ref] = &openKey{k, secret}
	return h.serviceKeys[ref], nil
}

// closeServiceKeys releases the keys of responders and RAs in tokens.
func (h *house) closeServiceKeys() error {
	h.serviceMu.Lock()
	defer h.serviceMu.Unlock()
	var err error
	for _, k := range append(slices.Collect(maps.Values(h.serviceKeys)), h.serviceRetired...) {
		err = errors.Join(err, k.Close())
	}
	return err
}

// renewRA makes the RA certificates that are missing or due.
func (h *house) renewRA(ctx context.Context) error {
	return h.scep.Renew(ctx)
}

// raHealth says which SCEP endpoints have no RA, and which will soon have none.
func (h *house) raHealth(context.Context) []health.Check {
	var checks []health.Check
	states := h.scep.Health()
	for _, name := range slices.Sorted(maps.Keys(states)) {
		checks = append(checks, ownCheck("scep "+name, needSCEP, states[name]))
	}
	return checks
}

// plainRoutes is all that is served by plain HTTP.
func (h *house) plainRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/scep", h.scep.Routes())
	r.Mount("/", h.publisher.Routes())
	return r
}
