package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/scep"
)

// The protocols of endpoints.
const (
	protocolACME = "acme"
	protocolSCEP = "scep"
)

// of returns the endpoints of a protocol.
func (l *loaded) of(protocol string) []Endpoint {
	return slices.DeleteFunc(slices.Clone(l.Endpoints), func(e Endpoint) bool { return e.Protocol != protocol })
}

// scep is the configuration of the SCEP front-end.
func (h *house) scepEndpoints(l *loaded) ([]scep.Endpoint, error) {
	var all []scep.Endpoint
	for _, e := range l.of(protocolSCEP) {
		ep := scep.Endpoint{Name: e.Name, Issuer: e.Issuer, Profiles: e.Profiles, DefaultProfile: e.DefaultProfile, Options: e.SCEP}
		if e.SCEP.Challenge != "" {
			secret, err := Reference(e.SCEP.Challenge).read(l.dir)
			if err != nil {
				return nil, fmt.Errorf("challenge of endpoint %s: %w", e.Name, err)
			}
			ep.Secret = string(secret)
		}
		if e.SCEP.RAKeyRef != "" {
			ep.Token = func(ctx context.Context) (scep.PrivateKey, error) { return h.raKey(ctx, l, e) }
		}
		all = append(all, ep)
	}
	return all, nil
}

func (l *loaded) checkSCEP(d *document, compiled map[string]*profile.Profile) {
	paths := map[string]bool{}
	for i, e := range l.Endpoints {
		if e.Protocol != protocolSCEP {
			continue
		}
		key := fmt.Sprintf("endpoints[%d].scep", i)
		path := e.SCEP.Path
		if path == "" {
			path = e.Name
		}
		if !plainName.MatchString(path) {
			d.say(key+".path", "%q: want lower-case letters, digits and hyphens", path)
		}
		if paths[path] {
			d.say(key+".path", "%q is the path of another endpoint", path)
		}
		paths[path] = true
		oneOf(d, key+".ca_bundle", e.SCEP.CABundle, append([]string{""}, scep.Bundles...)...)
		l.checkServiceKey(d, key+".ra_key_ref", e.SCEP.RAKeyRef, key+".ra_passphrase", Reference(e.SCEP.RAPassphrase))
		if e.SCEP.RAKeyRef != "" && e.SCEP.SeparateRAKeys {
			d.say(key+".separate_ra_keys", "there is one key in a token: leave it out beside ra_key_ref")
		}
		oneOf(d, key+".ra_key", e.SCEP.RAKey, "", "rsa-2048", "rsa-3072", "rsa-4096")
		if e.SCEP.NextIssuer != "" {
			oneOf(d, key+".next_issuer", e.SCEP.NextIssuer, l.issuerIDs()...)
		}
		if e.SCEP.RenewalGrace < 0 {
			d.say(key+".renewal_grace", "want a positive time")
		}
		if e.SCEP.Challenge != "" {
			if secret, err := Reference(e.SCEP.Challenge).read(l.dir); err != nil {
				d.say(key+".challenge", "%v", err)
			} else if len(secret) < minChallenge {
				d.say(key+".challenge", "the secret is shorter than %d characters", minChallenge)
			}
		}
		if e.SCEP.Webhook != "" {
			oneOf(d, key+".webhook", e.SCEP.Webhook, l.webhookNames()...)
		}
		for _, p := range e.Profiles {
			if c := compiled[p]; e.SCEP.Manual && c != nil && !c.Approval() {
				d.say(key+".manual", "profile %s asks for nobody's approval: anybody could have a certificate", p)
			}
		}
		if err := l.nests(compiled["scep-ra"], e.Issuer); err != nil {
			d.say(key, "issuer %s cannot sign the RA certificate: %s", e.Issuer, detail(err))
		}
	}
	if len(paths) > 0 && l.Listeners.HTTP.Addr == "" {
		d.say("listeners.http.addr", "required: there are SCEP endpoints")
	}
}

// minChallenge is the length of a secret that is shared by devices.
const minChallenge = 8

func (h *house) buildSCEP(context.Context) error {
	endpoints, err := h.scepEndpoints(h.cfg.Load())
	if err != nil {
		return err
	}
	h.scep, err = scep.New(endpoints, scep.Deps{
		Store: h.store, Pipeline: h.pipeline, Desk: h.desk, Challenges: h.scepChallenges, Webhooks: h.webhooks, Limits: h.limits, Sealer: h.sealer,
		Log: h.log, Now: h.now, Observe: h.metrics.scep(),
	})
	return err
}

// swapSCEP puts the endpoints of a configuration in force.
func (h *house) swapSCEP(cfg *loaded) error {
	endpoints, err := h.scepEndpoints(cfg)
	if err == nil {
		err = h.scep.Swap(endpoints)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}

// raKey opens the key of an endpoint's RA in a token, or makes it, once.
func (h *house) raKey(ctx context.Context, cfg *loaded, e Endpoint) (scep.PrivateKey, error) {
	h.raKeysMu.Lock()
	defer h.raKeysMu.Unlock()
	secret := Reference(e.SCEP.RAPassphrase)
	if k := h.raKeys[e.SCEP.RAKeyRef]; k != nil && k.passphrase == secret {
		return k, nil
	}
	alg := e.SCEP.RAKey
	if alg == "" {
		alg = "rsa-2048"
	}
	name := "scep-" + e.Name
	k, err := keys.Ensure(ctx, e.SCEP.RAKeyRef, alg, secret.secret(cfg.dir), keys.Config{Observe: h.metrics.key(name), Now: h.now, Module: cfg.PKCS11.Module})
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
		h.health.set(name, detail(err))
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
