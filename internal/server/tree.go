package server

import (
	"crypto/x509"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/tree"
)

// tree is what keeps the CAs of this server in order.
func (h *house) tree() *tree.Tree {
	return tree.New(tree.Deps{
		Store: h.store, Now: h.now, Declared: h.declared, Refresh: h.refresh,
		NameOf:     func(c *x509.Certificate) string { return h.cfg.Load().OfflineID(c) },
		CAProfiles: h.caProfiles,
		PublicHTTP: func() string { return h.cfg.Load().PublicURLs.HTTP },
	})
}

// caProfiles are the names of the profiles that make CAs.
func (h *house) caProfiles() []string {
	var names []string
	for name, p := range h.pipeline.Rules().Profiles {
		if p.CA() {
			names = append(names, name)
		}
	}
	return names
}

// declared are the CAs that the configuration in force names.
func (h *house) declared() []tree.Declared {
	cfg := h.cfg.Load()
	var all []tree.Declared
	for _, is := range cfg.Issuers {
		all = append(all, tree.Declared{
			ID: is.ID, Key: is.Key, Secret: is.Passphrase.Secret(cfg.Dir), Subject: is.Subject, Algorithm: is.Algorithm, MaxChildren: is.MaxChildren,
			Keys: keys.Config{Observe: h.metrics.key(is.ID), Now: h.now, Module: cfg.PKCS11.Module},
		})
	}
	for _, o := range cfg.Offline {
		all = append(all, tree.Declared{ID: o.ID, Offline: true, MaxChildren: o.MaxChildren})
	}
	return all
}
