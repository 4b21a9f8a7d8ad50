package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

func (f *File) webhookNames() []string {
	names := make([]string, 0, len(f.Webhooks))
	for _, w := range f.Webhooks {
		names = append(names, w.Name)
	}
	return names
}

// checkWebhooks checks each webhook by itself.
func (f *File) checkWebhooks(d *strictyaml.Document) {
	seen := map[string]bool{}
	for i, w := range f.Webhooks {
		key := fmt.Sprintf("webhooks[%d]", i)
		if !plainName.MatchString(w.Name) {
			d.Report(key+".name", "%q: want lower-case letters, digits and hyphens", w.Name)
		}
		if seen[w.Name] {
			d.Report(key+".name", "%q is defined twice", w.Name)
		}
		seen[w.Name] = true
		if hook, err := f.Webhook(w); err != nil {
			d.Report(key, "%v", err)
		} else {
			d.Check(key, hook.Check())
		}
	}
}

// Webhook reads what a webhook's configuration refers to.
func (f *File) Webhook(w credential.WebhookConfig) (credential.Webhook, error) {
	hook := credential.Webhook{WebhookConfig: w}
	var err error
	if hook.Key, err = f.secret(Reference(w.KeyRef)); err != nil {
		return hook, fmt.Errorf("key: %w", err)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CA != "" {
		roots, err := f.Chain(w.CA)
		if err != nil {
			return hook, fmt.Errorf("ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		for _, c := range roots {
			trust.RootCAs.AddCert(c)
		}
	}
	dialer, err := challenge.NewDialer(f.Challenge, f.OwnAddresses())
	if err != nil {
		return hook, err
	}
	hook.Client = dialer.Client(trust, hook.Patience())
	return hook, nil
}
