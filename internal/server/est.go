package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

const protocolEST = "est"

// estServerProfile is the profile of the EST listener's own certificate.
const estServerProfile = "est-server"

func (h *house) buildEST(context.Context) error {
	cfg, err := h.cfg.Load().est()
	if err != nil {
		return err
	}
	pair := &web.Pair{}
	h.pairs[listenEST] = pair
	h.est, err = est.New(cfg, est.Deps{
		Pipeline: h.pipeline, Desk: h.desk, Users: h.estUsers, Limits: h.limits,
		Signer: pair.Current, Log: h.log, Now: h.now,
	})
	return err
}

// estRoutes is EST and nothing else.
func (h *house) estRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/.well-known/est", h.est.Routes())
	r.NotFound(web.Handler(func(http.ResponseWriter, *http.Request) error {
		return fault.New(fault.NotFound, "this address serves EST, below /.well-known/est/")
	}, renderText))
	return r
}

// est is the configuration of the EST front-end.
func (l *loaded) est() (est.Config, error) {
	var c est.Config
	for _, e := range l.of(protocolEST) {
		ep, err := l.estEndpoint(e)
		if err != nil {
			return c, fmt.Errorf("endpoint %s: %w", e.Name, err)
		}
		c.Endpoints = append(c.Endpoints, ep)
	}
	return c, nil
}

func (l *loaded) estEndpoint(e Endpoint) (est.Endpoint, error) {
	ep := est.Endpoint{
		Name: e.Name, Label: e.EST.Label, Issuer: e.Issuer, Profiles: e.Profiles, DefaultProfile: e.DefaultProfile,
		Auth: est.Auth(e.EST.Auth), AcceptProfiles: e.EST.AcceptProfiles, RAProfiles: e.EST.RAProfiles,
		OwnNames: est.Names(e.EST.OwnNames), AnchorNames: est.Names(e.EST.AnchorNames), Grace: e.EST.Grace,
		RenewKey: e.EST.RenewKey, Challenge: est.Challenge(e.EST.ChallengePassword), Keygen: e.EST.Serverkeygen,
	}
	for _, f := range []struct {
		file string
		into *[]*x509.Certificate
	}{{e.EST.Anchors, &ep.Anchors}, {e.EST.Rollover, &ep.Rollover}} {
		if f.file == "" {
			continue
		}
		certs, err := readChain(f.file)
		if err != nil {
			return ep, err
		}
		*f.into = certs
	}
	return ep, nil
}

// checkEST checks what only EST endpoints have.
func (l *loaded) checkEST(d *document, key string, e Endpoint) {
	key += ".est"
	if e.EST.Label != "" && !plainName.MatchString(e.EST.Label) {
		d.say(key+".label", "%q: want lower-case letters, digits and hyphens", e.EST.Label)
	}
	for _, other := range l.of(protocolEST) {
		if other.Name < e.Name && other.EST.Label == e.EST.Label {
			d.say(key+".label", "%q is the label of endpoint %s too", e.EST.Label, other.Name)
		}
	}
	ep, err := l.estEndpoint(e)
	if err != nil {
		d.say(key, "%v", err)
		return
	}
	if err := ep.Check(); err != nil && len(e.Profiles) > 0 {
		for _, line := range strings.Split(err.Error(), "\n") {
			d.say(key, "%s", line)
		}
	}
	profiles, _ := l.compileProfiles() // mistakes are reported with the profiles
	for _, name := range e.Profiles {
		if p := profiles[name]; e.EST.Serverkeygen && p != nil && p.Approval() {
			d.say(key+".serverkeygen", "profile %s asks for a person's approval, for which a key cannot wait", name)
		}
	}
	for _, list := range []struct {
		key   string
		names []string
	}{{".accept_profiles", e.EST.AcceptProfiles}, {".ra_profiles", e.EST.RAProfiles}} {
		for i, name := range list.names {
			at := fmt.Sprintf("%s%s[%d]", key, list.key, i)
			p := profiles[name]
			switch {
			case p == nil:
				oneOf(d, at, name, slices.Sorted(maps.Keys(profiles))...)
			case list.key == ".ra_profiles" && !slices.ContainsFunc(p.EKUs(), est.IsRA):
				d.say(at, "profile %s lacks the extended key usage cmcRA", name)
			}
		}
	}
}

// swapEST puts the endpoints of a configuration in force.
func (h *house) swapEST(cfg *loaded) error {
	c, err := cfg.est()
	if err == nil {
		err = h.est.Swap(c)
	}
	if err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}
