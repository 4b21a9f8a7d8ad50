package server

import (
	"context"
	"fmt"
	"syscall"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/web"
)

// Open files that listeners leave to the database, lists, keys and the connections
// that the server makes itself: 64 validations at a time, 16 to PostgreSQL.
const reservedFiles = 512

// Connections of a listener where the configuration does not say how many.
const (
	defaultConnections      = 4096
	defaultConnectionsToOps = 256 // and to the socket
	leastConnections        = 4
	fewConnections          = 256 // of a listener for clients: worth a warning
)

// openFiles raises the limit of open files of this process as far as it may, and
// returns it.
func openFiles() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit of open files: %w", err)
	}
	if l.Cur < l.Max {
		raised := syscall.Rlimit{Cur: l.Max, Max: l.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
			return int(min(l.Cur, 1<<30)), fmt.Errorf("raise the limit of open files from %d: %w", l.Cur, err)
		}
		l = raised
	}
	return int(min(l.Cur, 1<<30)), nil
}

// boundConnections says how many connections each listener may have, so that all
// together leave files for what the server does besides.
func (srv *server) boundConnections(ctx context.Context, cfg *config.File) {
	files, err := openFiles()
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
	wanted := map[string]config.Connections{
		listenSocket: {}, listenOps: l.Ops.Connections, listenHTTP: l.HTTP.Connections,
		listenHTTPS: l.HTTPS.Connections, listenEST: l.EST.Connections,
	}
	if l.HTTPSAdmin.Addr != "" { // it is off by default, and takes nothing from the others then
		wanted[listenAdmin] = l.HTTPSAdmin.Connections
	}
	sum := 0
	for name, c := range wanted {
		if c.Max == 0 {
			c.Max = defaultConnections
			if name == listenOps || name == listenSocket || name == listenAdmin {
				c.Max = defaultConnectionsToOps
			}
			wanted[name] = c
		}
		sum += c.Max
	}
	budget := files - min(files/2, reservedFiles)
	all := make(map[string]web.Bounds, len(wanted))
	for name, c := range wanted {
		total := c.Max
		if sum > budget {
			total = max(min(leastConnections, c.Max), int(int64(c.Max)*int64(budget)/int64(sum)))
		}
		each := c.MaxPerSource
		if each == 0 {
			each = max(total/4, leastConnections)
		}
		all[name] = web.Bounds{Total: total, PerSource: min(each, total)}
	}
	return all
}
