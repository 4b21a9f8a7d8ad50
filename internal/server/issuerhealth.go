package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
)

// issuerHealth says which issuers can sign now, and which pools. What another
// issuer of its pool makes up for is worth knowing, and no reason to send clients
// elsewhere.
func (h *house) issuerHealth(context.Context) []api.HealthCheck {
	s, cfg := h.signing.Load(), h.cfg.Load()
	var checks []api.HealthCheck
	if len(s.issuers)+len(s.lost) == 0 {
		checks = append(checks, api.HealthCheck{Name: "issuers", Detail: "none is installed: see privyseal issuer csr and install"})
	}
	able := map[string][]string{}
	ailing := map[string]error{}
	for _, is := range cfg.Issuers {
		if ailing[is.ID] = h.ailment(s, is.ID); ailing[is.ID] == nil {
			able[is.Service()] = append(able[is.Service()], is.ID)
		}
	}
	for _, is := range cfg.Issuers {
		check := api.HealthCheck{Name: "issuer " + is.ID, OK: true}
		err, others := ailing[is.ID], able[is.Service()]
		switch {
		case s.state(is.ID) == stateRetired:
			check.Detail = "its last certificate has expired: take it out of the configuration"
		case err != nil:
			check.Detail = fault.Text(err)
			// What nobody asks is no harm, if it is as its operators know.
			known := s.chain(is.ID) == nil || fault.Of(err).Reason == reasonSuspended
			check.OK = s.rules.Former[is.ID] || len(others) > 0 || known && !cfg.Needs(is.Service())
		case len(others) == 1 && cfg.Needs(is.Service()):
			check.Detail = "no other issuer of a pool takes over if it fails"
		}
		checks = append(checks, check)
	}
	for _, pool := range slices.Sorted(maps.Keys(s.rules.Members)) {
		check := api.HealthCheck{Name: "pool " + pool, OK: len(able[pool]) > 0, Detail: fmt.Sprintf("issuers that sign: %v", able[pool])}
		if len(able[pool]) == 1 {
			check.Detail = fmt.Sprintf("only %s signs: nothing takes over if it fails", able[pool][0])
		}
		checks = append(checks, check)
	}
	return append(checks, forgotten(s, cfg)...)
}

const reasonSuspended = "issuer_suspended"

// ailment is why an issuer signs no new certificates now; nil if it does.
func (h *house) ailment(s *signing, id string) error {
	i, now := s.issuers[id], h.now()
	switch {
	case s.chain(id) == nil:
		return errors.New("it has no certificate yet: see privyseal issuer csr and install")
	case s.rules.Former[id]:
		return errors.New("it has a successor, and goes on with its lists and responses until its last certificate has expired")
	case s.lost[id] != nil:
		return fmt.Errorf("its key cannot be opened: %s", fault.Text(s.lost[id]))
	case i == nil:
		return errors.New("it is not in use")
	}
	if why := h.whySuspended(id); why != "" {
		return fault.New(fault.Unavailable, "it signs no more certificates: %s", why).Because(reasonSuspended)
	}
	switch c := i.Certificate(); {
	case now.After(c.NotAfter):
		return errors.New("its certificate has expired")
	case now.Before(c.NotBefore):
		return errors.New("its certificate is not valid yet; check the clock")
	}
	return s.keys[id].Healthy()
}

// forgotten names the issuers that are no longer configured although their
// certificates may still be in use.
func forgotten(s *signing, cfg *config.File) []api.HealthCheck {
	var checks []api.HealthCheck
	for _, a := range s.authorities {
		if (a.State == stateActive || a.State == stateDraining) && !slices.ContainsFunc(cfg.Issuers, func(is config.Issuer) bool { return is.ID == a.ID }) {
			checks = append(checks, api.HealthCheck{
				Name: "issuer " + a.ID, OK: true,
				Detail: "it is not in the configuration: no list and no responses are made for the certificates that it signed",
			})
		}
	}
	return checks
}
