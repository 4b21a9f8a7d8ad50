package server

import (
	"context"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/store"
)

// installTries bounds how often the issuers are looked at again because another node,
// with the same configuration, was quicker.
const installTries = 4

// install writes what is new of what was prepared to the database, all or nothing.
// What can be refused comes first.
func (srv *server) install(ctx context.Context, cfg *config.File, s *inForce) error {
	err := srv.checkLists(ctx, cfg, s)
	for try := 0; err == nil && try < installTries; try++ {
		var rows []store.IssuerRecord
		if rows, err = srv.store.Issuers(ctx); err != nil {
			return err
		}
		var c ca.Changes
		if c, err = s.cas().Changes(rows, cfg.Successor, srv.now()); err != nil || c.None() {
			return err
		}
		if err = c.Write(ctx, srv.store, srv.log); err == nil {
			return nil
		}
		if fault.Of(err).Reason == "issuer_changed" {
			err = nil
		}
	}
	return err
}

// retire ends the issuers whose last certificate has expired.
func (srv *server) retire(ctx context.Context) error {
	return ca.Retire(ctx, srv.store, ocsp.DelegateProfile, srv.now(), srv.log)
}
