package server

import (
	"context"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
)

// importLists publishes the configured lists of offline CAs that are newer than
// those in the database. One that is not is left alone, and one that cannot be
// published is an alarm, not a reason to stop.
func (srv *server) importLists(ctx context.Context, cfg *config.File) {
	for _, o := range cfg.Offline {
		if o.CRL == "" {
			continue
		}
		list, err := cfg.List(o.CRL)
		if err == nil {
			_, err = srv.lists.Import(ctx, list.Raw, crl.Options{Actor: "server"})
		}
		if err != nil && fault.Of(err).Reason != "crl_number" {
			srv.log.ErrorContext(ctx, "list of an offline CA not published", "issuer", o.ID, "file", o.CRL, "error",
				err)
		}
	}
}
