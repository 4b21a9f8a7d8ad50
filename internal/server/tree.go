package server

import (
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/tree"
)

// tree is what keeps the CAs of this server in order.
func (h *house) tree() *tree.Tree {
	return tree.New(tree.Deps{
		Store: h.store, Now: h.now, Declared: h.declared, Refresh: h.refresh,
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
func (h *house) declared() []ca.Declaration {
	var all []ca.Declaration
	for _, c := range h.signing.Load().cas().All() {
		if c.Configured {
			all = append(all, c.Declaration)
		}
	}
	return all
}
