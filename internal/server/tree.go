package server

import (
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/tree"
)

// tree is what keeps the CAs of this server in order.
func (srv *server) tree() *tree.Tree {
	return tree.New(tree.Deps{
		Store: srv.store, Now: srv.now, Declared: srv.declared, Refresh: srv.refresh,
		CAProfiles: srv.caProfiles,
		PublicHTTP: func() string { return srv.cfg.Load().PublicURLs.HTTP },
	})
}

// caProfiles are the names of the profiles that make CAs.
func (srv *server) caProfiles() []string {
	var names []string
	for name, p := range srv.pipeline.Rules().Profiles {
		if p.CA() {
			names = append(names, name)
		}
	}
	return names
}

// declared are the CAs that the configuration in force names.
func (srv *server) declared() []ca.Declaration {
	var all []ca.Declaration
	for _, c := range srv.signing.Load().cas().All() {
		if c.Configured {
			all = append(all, c.Declaration)
		}
	}
	return all
}
