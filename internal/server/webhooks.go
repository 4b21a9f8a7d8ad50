package server

import (
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
)

// swapWebhooks puts the webhooks of a configuration in force.
func (srv *server) swapWebhooks(cfg *config.File) error {
	hooks := make([]credential.Webhook, 0, len(cfg.Webhooks))
	for _, w := range cfg.Webhooks {
		hook, err := cfg.Webhook(w)
		if err != nil {
			return fault.New(fault.Malformed, "webhook %s: %w", w.Name, err).Because("configuration")
		}
		hooks = append(hooks, hook)
	}
	if err := srv.webhooks.Swap(hooks); err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}
