package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
)

func (l *loaded) webhookNames() []string {
	names := make([]string, 0, len(l.Webhooks))
	for _, w := range l.Webhooks {
		names = append(names, w.Name)
	}
	return names
}

// checkWebhooks checks each webhook by itself.
func (l *loaded) checkWebhooks(d *document) {
	seen := map[string]bool{}
	for i, w := range l.Webhooks {
		key := fmt.Sprintf("webhooks[%d]", i)
		if !plainName.MatchString(w.Name) {
			d.say(key+".name", "%q: want lower-case letters, digits and hyphens", w.Name)
		}
		if seen[w.Name] {
			d.say(key+".name", "%q is defined twice", w.Name)
		}
		seen[w.Name] = true
		if hook, err := l.webhook(w); err != nil {
			d.say(key, "%v", err)
		} else if err := hook.Check(); err != nil {
			d.say(key, "%v", err)
		}
	}
}

// webhook reads what a webhook's configuration refers to.
func (l *loaded) webhook(w credential.WebhookConfig) (credential.Webhook, error) {
	hook := credential.Webhook{WebhookConfig: w}
	var err error
	if hook.Key, err = Reference(w.KeyRef).read(l.dir); err != nil {
		return hook, fmt.Errorf("key: %w", err)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CA != "" {
		roots, err := readChain(w.CA)
		if err != nil {
			return hook, fmt.Errorf("ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		for _, c := range roots {
			trust.RootCAs.AddCert(c)
		}
	}
	dialer, err := challenge.NewDialer(l.Challenge, l.ownAddresses())
	if err != nil {
		return hook, err
	}
	hook.Client = dialer.Client(trust, hook.Patience())
	return hook, nil
}

// swapWebhooks puts the webhooks of a configuration in force.
func (h *house) swapWebhooks(cfg *loaded) error {
	hooks := make([]credential.Webhook, 0, len(cfg.Webhooks))
	for _, w := range cfg.Webhooks {
		hook, err := cfg.webhook(w)
		if err != nil {
			return fault.New(fault.Malformed, "webhook %s: %w", w.Name, err).Because("configuration")
		}
		hooks = append(hooks, hook)
	}
	if err := h.webhooks.Swap(hooks); err != nil {
		return fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return nil
}
