package server

import (
	"context"
	"fmt"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
)

// warnOneTier says aloud that a self-signed CA issues by itself, as long as it does:
// whoever has this machine has the root. Only `privyseal dev --tiers 1` serves one.
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
