package server

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
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
		Log: h.log, Now: h.now, Observe: h.metrics.scep(),
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

// raKey opens the key of an endpoint's RA in a token, or makes it, once.
func (h *house) raKey(ctx context.Context, cfg *config.File, e config.Endpoint) (scep.PrivateKey, error) {
	h.raKeysMu.Lock()
	defer h.raKeysMu.Unlock()
	secret := config.Reference(e.SCEP.RAPassphrase)
	if k := h.raKeys[e.SCEP.RAKeyRef]; k != nil && k.passphrase == secret {
		return k, nil
	}
	alg := e.SCEP.RAKey
	if alg == "" {
		alg = "rsa-2048"
	}
	name := "scep-" + e.Name
	k, err := keys.Ensure(ctx, e.SCEP.RAKeyRef, alg, secret.Secret(cfg.Dir), keys.Config{Observe: h.metrics.key(name), Now: h.now, Module: cfg.PKCS11.Module})
	if err != nil {
		return nil, err
	}
	if old := h.raKeys[e.SCEP.RAKeyRef]; old != nil {
		h.raRetired = append(h.raRetired, old)
	}
	h.raKeys[e.SCEP.RAKeyRef] = &openKey{k, secret}
	return k, nil
}

// closeRAKeys releases the keys of RAs in tokens.
func (h *house) closeRAKeys() error {
	h.raKeysMu.Lock()
	defer h.raKeysMu.Unlock()
	var err error
	for _, k := range append(slices.Collect(maps.Values(h.raKeys)), h.raRetired...) {
		err = errors.Join(err, k.Close())
	}
	return err
}

// renewRA makes the RA certificates that are missing or due.
func (h *house) renewRA(ctx context.Context) error {
	const name = "RA certificates"
	err := h.scep.Renew(ctx)
	if err != nil {
		h.health.set(name, fault.Text(err))
		return err
	}
	h.health.clear(name)
	return nil
}

// plainRoutes is all that is served by plain HTTP.
func (h *house) plainRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/scep", h.scep.Routes())
	r.Mount("/", h.publisher.routes())
	return r
}

// scep registers the counters of SCEP and returns their observer.
func (m *metrics) scep() func(scep.Event) {
	count := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "privyseal", Name: "scep_messages_total", Help: "SCEP operations answered, by kind of message and status.",
	}, []string{"endpoint", "message", "status"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "privyseal", Name: "scep_message_seconds", Help: "Time of one SCEP operation.", Buckets: buckets,
	}, []string{"message"})
	m.registry.MustRegister(count, took)
	return func(e scep.Event) {
		count.WithLabelValues(e.Endpoint, e.Message, e.Status).Inc()
		took.WithLabelValues(e.Message).Observe(e.Took.Seconds())
	}
}
