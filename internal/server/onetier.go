package server

import (
	"context"
	"fmt"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/health"
)

// warnOneTier says aloud that a self-signed CA issues by itself, as long as it does:
// whoever has this machine has the root. Only `privyseal dev --tiers 1` serves one.
func (srv *server) warnOneTier(ctx context.Context, cfg *config.File) {
	if !cfg.OneTier {
		return
	}
	srv.metrics.Insecure()
	srv.log.WarnContext(ctx, "INSECURE: one tier; the root's key is on this machine and signs everything")
	srv.health.Set(health.Check{
		Name: "tiers", State: health.Warning,
		Detail: fmt.Sprintf("insecure: %s signs everything by itself", cfg.Issuers[0].ID),
		Remedy: "leave --tiers out, for a root and an issuing CA",
	})
}
