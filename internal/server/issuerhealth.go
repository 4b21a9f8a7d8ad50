package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
)

// issuerHealth says which issuers can sign now, and which pools. What another
// issuer of its pool makes up for is worth knowing, and no reason to send clients
// elsewhere.
func (h *house) issuerHealth(context.Context) []api.HealthCheck {
	cas, cfg := h.signing.Load().cas(), h.cfg.Load()
	var checks []api.HealthCheck
	able := map[string][]string{}
	ailing := map[string]error{}
	none := true
	for _, c := range cas.All() {
		if !c.Configured || c.Offline {
			continue
		}
		none = none && !c.Installed()
		if ailing[c.ID] = h.ailment(c); ailing[c.ID] == nil {
			able[c.Service()] = append(able[c.Service()], c.ID)
		}
	}
	if none {
		checks = append(checks, api.HealthCheck{Name: "issuers", Detail: "none is installed: see privyseal issuer csr and install"})
	}
	for _, c := range cas.All() {
		if c.Configured && !c.Offline {
			checks = append(checks, checkIssuer(c, ailing[c.ID], len(able[c.Service()]), cfg))
		}
	}
	for _, pool := range slices.Sorted(maps.Keys(cas.Pools())) {
		check := api.HealthCheck{Name: "pool " + pool, OK: len(able[pool]) > 0, Detail: fmt.Sprintf("issuers that sign: %v", able[pool])}
		if len(able[pool]) == 1 {
			check.Detail = fmt.Sprintf("only %s signs: nothing takes over if it fails", able[pool][0])
		}
		checks = append(checks, check)
	}
	return append(checks, forgotten(cas)...)
}

func checkIssuer(c *ca.CA, err error, able int, cfg *config.File) api.HealthCheck {
	check := api.HealthCheck{Name: "issuer " + c.ID, OK: true}
	switch {
	case c.Stage == ca.Retired:
		check.Detail = "its last certificate has expired: take it out of the configuration"
	case err != nil:
		check.Detail = fault.Text(err)
		// What nobody asks is no harm, if it is as its operators know.
		known := c.Stage == ca.Declared && c.Pending == nil || fault.Of(err).Reason == reasonSuspended
		check.OK = c.Former() || able > 0 || known && !cfg.Needs(c.Service())
	case able == 1 && cfg.Needs(c.Service()):
		check.Detail = "no other issuer of a pool takes over if it fails"
	}
	return check
}

const reasonSuspended = "issuer_suspended"

// ailment is why an issuer signs no new certificates now; nil if it does.
func (h *house) ailment(c *ca.CA) error {
	switch {
	case c.Pending != nil:
		return fmt.Errorf("its certificate is not taken in: %s", fault.Text(c.Pending))
	case c.Stage == ca.Declared:
		return errors.New("it has no certificate yet: see privyseal issuer csr and install")
	case c.Former():
		return errors.New("it has a successor, and goes on with its lists and responses until its last certificate has expired")
	case c.Lost != nil:
		return fmt.Errorf("its key cannot be opened: %s", fault.Text(c.Lost))
	case c.Issuer() == nil:
		return errors.New("it is not in use")
	}
	if t := c.Trust(h.now()); t.State == ca.Revoked {
		return fault.New(fault.Unavailable, "it signs no more certificates: %s", t.Why).Because(reasonSuspended)
	}
	return c.MaySign(h.now())
}

// forgotten names the issuers that are no longer configured although their
// certificates may still be in use.
func forgotten(cas *ca.Set) []api.HealthCheck {
	var checks []api.HealthCheck
	for _, c := range cas.All() {
		if !c.Configured && !c.Offline && c.Stage != ca.Retired {
			checks = append(checks, api.HealthCheck{
				Name: "issuer " + c.ID, OK: true,
				Detail: "it is not in the configuration: no list and no responses are made for the certificates that it signed",
			})
		}
	}
	return checks
}
