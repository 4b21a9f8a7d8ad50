package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/statedir"
)

// One tier is a self-signed CA that issues to subscribers by itself: whoever has
// this machine has the root. Only `privyseal dev --tiers 1` makes and serves one;
// `privyseal serve` refuses its folder.

const oneTierBanner = `*******************************************************************************
* INSECURE: one tier. The root's key is on this machine and signs everything. *
* If it is lost or stolen, nothing can be revoked and nothing is left.        *
* This is for experiments. Leave --tiers out for a root and an issuing CA.    *
*******************************************************************************
`

// isOneTier reports whether dev has set a folder up with one tier.
func isOneTier(dir string) bool {
	chain, err := config.ReadChain(filepath.Join(dir, chainFile))
	return err == nil && len(chain) == 1 && pki.SelfIssued(chain[0])
}

// holdOneTier makes the one CA, whose key the server opens with the secret of its
// issuer.
func (o *devOptions) holdOneTier(ctx context.Context, e env, offline string, names *profile.NameConstraints) error {
	root := ceremony.CA{Dir: offline, Secret: config.Reference("file:secrets/issuer").Secret(o.dir), Now: e.now}
	cert, err := ceremony.Root(ctx, root, ceremony.RootSpec{Subject: "CN=Privyseal Development One-Tier CA,O=Privyseal Development", NameConstraints: names})
	if err != nil {
		return err
	}
	audit, err := o.key(ctx, "audit", "audit")
	if err != nil {
		return err
	}
	text := pki.EncodeChain(cert.Raw)
	if err := errors.Join(audit.Close(), statedir.WriteFile(filepath.Join(o.dir, "root.pem"), text, 0o644)); err != nil {
		return err
	}
	return statedir.WriteFile(filepath.Join(o.dir, chainFile), text, 0o644)
}

// warnOneTier says aloud how the server runs, as long as it does.
func (h *house) warnOneTier(ctx context.Context, cfg *config.File) {
	if !cfg.OneTier {
		return
	}
	h.metrics.Insecure()
	h.log.WarnContext(ctx, "INSECURE: one tier; the root's key is on this machine and signs everything")
	h.health.check(func(context.Context) []api.HealthCheck {
		return []api.HealthCheck{{Name: "tiers", OK: true, Detail: fmt.Sprintf("insecure: %s signs everything by itself", cfg.Issuers[0].ID)}}
	})
}
