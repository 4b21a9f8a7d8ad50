package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/privyseal/privyseal/internal/admin"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/web"
)

// The names of the listeners, in errors, logs and metrics.
const (
	listenHTTPS  = "https"
	listenEST    = "https-est"
	listenAdmin  = "https-admin"
	listenHTTP   = "http"
	listenOps    = "ops"
	listenSocket = "socket"
)

// startSocket serves the operator API on the unix socket.
func (srv *server) startSocket(ctx context.Context, cfg *config.File) error {
	ln, err := web.ListenUnix(ctx, listenSocket, cfg.Listeners.Socket)
	if err != nil {
		return err
	}
	if err := openSocket(ln.Addr().String(), cfg.Listeners); err != nil {
		return errors.Join(err, ln.Close())
	}
	c := srv.webConfig(listenSocket, config.Connections{})
	c.ConnContext = admin.ConnContext
	c.Limits.Body = admin.MaxBody
	c.Limits.Write = 0 // an export may be long
	srv.serve(ln, srv.admin.Routes(), c)
	return nil
}

// openSocket lets others open the socket's file, where the configuration says so.
func openSocket(path string, l config.Listeners) error {
	if l.SocketGroup != "" {
		g, err := user.LookupGroup(l.SocketGroup)
		if err != nil {
			if g, err = user.LookupGroupId(l.SocketGroup); err != nil {
				return fmt.Errorf("listeners.socket_group: %w", err)
			}
		}
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("listeners.socket_group: %w", err)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("listeners.socket_group: %w", err)
		}
	}
	if err := os.Chmod(path, os.FileMode(l.SocketFileMode())); err != nil {
		return fmt.Errorf("listeners.socket_mode: %w", err)
	}
	return nil
}

// startOps serves health and metrics.
func (srv *server) startOps(ctx context.Context, cfg *config.File) error {
	r := chi.NewRouter()
	index(r, func() []string { return []string{"/healthz", "/readyz", "/readyz?listener=NAME", "/metrics"} })
	r.Get("/healthz", healthz)
	all := []string{listenHTTPS, listenEST, listenAdmin, listenHTTP, listenOps, listenSocket}
	r.Get("/readyz", srv.health.Readyz(all))
	r.Handle("/metrics", srv.metrics.Handler(srv.log))
	if cfg.Listeners.Ops.Pprof {
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
		r.HandleFunc("/debug/pprof/*", pprof.Index)
	}
	c := srv.webConfig(listenOps, cfg.Listeners.Ops.Connections)
	c.Quiet = true
	if cfg.Listeners.Ops.Pprof {
		c.Limits.Write = 0 // a profile takes as long as it is asked to
	}
	return srv.listen(ctx, cfg.Listeners.Ops.Addr, r, c)
}

// startHTTP serves what must be plain HTTP.
func (srv *server) startHTTP(ctx context.Context, cfg *config.File) error {
	c := srv.webConfig(listenHTTP, cfg.Listeners.HTTP.Connections)
	c.Direct = srv.ocsp.Direct
	c.Limits.HeaderBytes = 32 << 10 // SCEP messages stand in the request line (rule S3)
	return srv.listen(ctx, cfg.Listeners.HTTP.Addr, srv.plainRoutes(), c)
}

// startTLS opens the listeners that need a certificate of their own. Those whose
// certificate or address cannot be had stay closed, and /readyz says why; calling
// startTLS again tries them again. Its error is that of addresses.
func (srv *server) startTLS(ctx context.Context, cfg *config.File) error {
	var failed []error
	for _, l := range srv.tlsListeners(cfg) {
		if l.conf.Addr == "" {
			continue
		}
		pair := srv.tls[l.name]
		if !srv.tellPair(ctx, l.name, srv.refreshPair(ctx, cfg, l.name, l.conf.TLS)) || srv.serving(l.name) {
			continue
		}
		c := srv.webConfig(l.name, l.conf.Connections)
		c.TLS = pair.Config()
		switch l.name {
		case listenEST:
			c.TLS = srv.est.TLS(c.TLS)
		case listenAdmin:
			srv.adminConfig(&c)
		}
		if err := srv.listen(ctx, l.conf.Addr, l.routes(), c); err != nil {
			failed = append(failed, err)
			srv.health.Set(health.Check{
				Name: "listener " + l.name, State: health.Failed, Detail: fault.Text(err), Needs: []string{l.name},
				Remedy: "free the address; it is tried again every ten minutes and at `privyseal config reload`",
			})
			continue
		}
		srv.health.Clear("listener " + l.name)
	}
	return errors.Join(failed...)
}

// tlsListener is a listener that needs a certificate.
type tlsListener struct {
	name   string
	conf   config.TLSListener
	routes func() http.Handler
}

func (srv *server) tlsListeners(cfg *config.File) []tlsListener {
	return []tlsListener{
		{listenHTTPS, cfg.Listeners.HTTPS, srv.httpsRoutes},
		{listenEST, cfg.Listeners.EST, srv.estRoutes},
		{listenAdmin, cfg.Listeners.HTTPSAdmin, srv.adminRoutes},
	}
}

// tellPair says what became of a listener's certificate, and reports whether it
// has one.
func (srv *server) tellPair(ctx context.Context, name string, err error) bool {
	if err != nil {
		srv.log.ErrorContext(ctx, "no new TLS certificate for a listener", "listener", name, "error", err)
	}
	if srv.tls[name].Current() == nil && name != listenAdmin { // which has another one
		srv.health.Set(health.Check{
			Name: "listener " + name, State: health.Failed,
			Detail: "no TLS certificate: " + fault.Text(err), Needs: []string{name},
			Remedy: "it opens as soon as its issuer signs; see the check of that",
		})
		return false
	}
	if srv.serving(name) {
		srv.health.Clear("listener " + name)
	}
	return true
}

// tendTLS looks after the certificates of our own that listeners present.
func (srv *server) tendTLS(ctx context.Context) error {
	closed := false
	for _, l := range srv.tlsListeners(srv.cfg.Load()) {
		p := srv.tls[l.name]
		if len(p.keepers()) > 0 {
			closed = srv.tellPair(ctx, l.name, p.tend(ctx)) && !srv.serving(l.name) || closed
		}
	}
	if !closed {
		return nil
	}
	return srv.renewTLS(ctx)
}

// httpsRoutes is ACME and the page of its terms.
func (srv *server) httpsRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/acme", srv.acme.Routes())
	index(r, srv.acme.Directories)
	r.Get("/terms", func(w http.ResponseWriter, _ *http.Request) { // the directory points here unless configured
		_, _ = io.WriteString(w, privateCA)
	})
	return r
}

const privateCA = "This is a private certificate authority. " +
	"It has no terms of its own; ask the organisation that runs it.\n"

// index says at / what a listener serves, and names / to who asks for anything else.
func index(r chi.Router, served func() []string) {
	r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, privateCA+"\nThere is:\n\n"+strings.Join(served(), "\n")+"\n")
	})
	r.NotFound(web.Handler(func(http.ResponseWriter, *http.Request) error {
		return fault.New(fault.NotFound, "there is nothing at this path; / says what there is")
	}, web.RenderText))
}

// listen opens a TCP listener and serves it. An empty address is a listener that
// is off.
func (srv *server) listen(ctx context.Context, addr string, handler http.Handler, cfg web.Config) error {
	if addr == "" {
		return nil
	}
	ln, err := web.Listen(ctx, cfg.Name, addr)
	if err != nil {
		return err
	}
	srv.serve(ln, handler, cfg)
	return nil
}

func (srv *server) serve(ln net.Listener, handler http.Handler, cfg web.Config) {
	s := web.Start(ln, handler, cfg)
	srv.servers = append(srv.servers, s)
	srv.log.Info("listening", "listener", s.Name(), "addr", s.Addr().String())
	srv.workers.Go(func() {
		if err := s.Err(); err != nil { // it stopped by itself
			srv.health.Set(health.Check{
				Name: "listener " + s.Name(), State: health.Failed, Detail: err.Error(), Needs: []string{s.Name()},
			})
			srv.fail(err)
		}
	})
}

func (srv *server) serving(name string) bool {
	return slices.ContainsFunc(srv.servers, func(s *web.Server) bool { return s.Name() == name })
}

func (srv *server) webConfig(name string, who config.Connections) web.Config {
	return web.Config{
		Name: name, Limits: web.DefaultLimits(), Log: srv.log, Now: srv.now, Observe: srv.metrics.Request,
		Proxies: who.Proxies(), Bounds: srv.bounds[name], ObserveConnection: srv.metrics.Connection,
	}
}

// stopListeners stops taking connections and waits for the requests under way.
func (srv *server) stopListeners(ctx context.Context) error {
	errs := make([]error, len(srv.servers))
	done := make(chan struct{})
	for i, s := range srv.servers {
		go func() {
			if err := s.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("stop listener: %w", err)
			}
			done <- struct{}{}
		}()
	}
	for range srv.servers {
		<-done
	}
	return errors.Join(errs...)
}
