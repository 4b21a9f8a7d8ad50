package server

import (
	"cmp"
	"context"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/web"
)

// Connections of a listener where the configuration does not say how many.
const (
	defaultConnections      = 4096
	defaultConnectionsToOps = 256 // and to the socket
	fewConnections          = 256 // of a listener for clients: worth a warning
)

// boundConnections says how many connections each listener may have.
func (srv *server) boundConnections(ctx context.Context, cfg *config.File) {
	files, err := web.OpenFiles()
	if err != nil {
		srv.log.WarnContext(ctx, "open files", "error", err)
	}
	srv.bounds = bounds(files, cfg.Listeners)
	for _, name := range []string{listenHTTPS, listenEST, listenHTTP} {
		if n := srv.bounds[name].Total; n < fewConnections {
			srv.log.WarnContext(ctx, "few connections: raise the limit of open files (LimitNOFILE=, ulimit -n)",
				"listener", name, "connections", n, "open_files", files)
		}
	}
}

func bounds(files int, l config.Listeners) map[string]web.Bounds {
	wanted := map[string]web.Bounds{listenSocket: {Total: defaultConnectionsToOps}}
	add := func(name string, c config.Connections, otherwise int) {
		wanted[name] = web.Bounds{Total: cmp.Or(c.Max, otherwise), PerSource: c.MaxPerSource}
	}
	add(listenOps, l.Ops.Connections, defaultConnectionsToOps)
	add(listenHTTP, l.HTTP.Connections, defaultConnections)
	add(listenHTTPS, l.HTTPS.Connections, defaultConnections)
	add(listenEST, l.EST.Connections, defaultConnections)
	if l.HTTPSAdmin.Addr != "" { // it is off by default, and takes nothing from the others then
		add(listenAdmin, l.HTTPSAdmin.Connections, defaultConnectionsToOps)
	}
	return web.Share(files, wanted)
}
