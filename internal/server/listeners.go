package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"

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
	listenHTTP   = "http"
	listenOps    = "ops"
	listenSocket = "socket"
)

// startSocket serves the operator API on the unix socket.
func (h *house) startSocket(ctx context.Context, cfg *config.File) error {
	ln, err := web.ListenUnix(ctx, listenSocket, cfg.Listeners.Socket)
	if err != nil {
		return err
	}
	c := h.webConfig(listenSocket)
	c.ConnContext = admin.ConnContext
	c.Limits.Body = admin.MaxImportBody
	c.Limits.Write = 0 // an export may be long
	h.serve(ln, h.admin.Routes(), c)
	return nil
}

// startOps serves health and metrics.
func (h *house) startOps(ctx context.Context, cfg *config.File) error {
	r := chi.NewRouter()
	r.Get("/healthz", healthz)
	r.Get("/readyz", h.health.Readyz([]string{listenHTTPS, listenEST, listenHTTP, listenOps, listenSocket}, func(r health.Report) any { return view(r) }))
	r.Handle("/metrics", h.metrics.Handler(h.log))
	if cfg.Listeners.Ops.Pprof {
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
		r.HandleFunc("/debug/pprof/*", pprof.Index)
	}
	c := h.webConfig(listenOps)
	c.Quiet = true
	if cfg.Listeners.Ops.Pprof {
		c.Limits.Write = 0 // a profile takes as long as it is asked to
	}
	return h.listen(ctx, cfg.Listeners.Ops.Addr, r, c)
}

// startHTTP serves what must be plain HTTP.
func (h *house) startHTTP(ctx context.Context, cfg *config.File) error {
	c := h.webConfig(listenHTTP)
	c.Direct = h.ocsp.Direct
	c.Limits.HeaderBytes = 32 << 10 // SCEP messages stand in the request line (rule S3)
	return h.listen(ctx, cfg.Listeners.HTTP.Addr, h.plainRoutes(), c)
}

// startTLS opens the listeners that need a certificate of their own. Those whose
// certificate cannot be had stay closed, and /readyz says why; calling startTLS
// again tries them again.
func (h *house) startTLS(ctx context.Context, cfg *config.File) error {
	for _, l := range h.tlsListeners(cfg) {
		if l.conf.Addr == "" {
			continue
		}
		pair := h.tls[l.name]
		if !h.tellPair(ctx, l.name, h.refreshPair(ctx, cfg, l.name, l.conf.TLS)) || h.serving(l.name) {
			continue
		}
		c := h.webConfig(l.name)
		c.TLS = pair.Config()
		if l.name == listenEST {
			c.TLS = h.est.TLS(c.TLS)
		}
		if err := h.listen(ctx, l.conf.Addr, l.routes(), c); err != nil {
			return err
		}
	}
	return nil
}

// tlsListener is a listener that needs a certificate.
type tlsListener struct {
	name   string
	conf   config.TLSListener
	routes func() http.Handler
}

func (h *house) tlsListeners(cfg *config.File) []tlsListener {
	return []tlsListener{{listenHTTPS, cfg.Listeners.HTTPS, h.httpsRoutes}, {listenEST, cfg.Listeners.EST, h.estRoutes}}
}

// tellPair says what became of a listener's certificate, and reports whether it
// has one.
func (h *house) tellPair(ctx context.Context, name string, err error) bool {
	if err != nil {
		h.log.ErrorContext(ctx, "no new TLS certificate for a listener", "listener", name, "error", err)
	}
	if h.tls[name].Current() == nil {
		h.health.Set(health.Check{
			Name: "listener " + name, State: health.Failed, Detail: "no TLS certificate: " + fault.Text(err), Needs: []string{name},
			Remedy: "it opens as soon as its issuer signs; see the check of that",
		})
		return false
	}
	h.health.Clear("listener " + name)
	return true
}

// tendTLS looks after the certificates of our own that listeners present.
func (h *house) tendTLS(ctx context.Context) error {
	closed := false
	for _, l := range h.tlsListeners(h.cfg.Load()) {
		p := h.tls[l.name]
		if k := p.own.Load(); k != nil {
			closed = h.tellPair(ctx, l.name, p.tend(ctx, k)) && !h.serving(l.name) || closed
		}
	}
	if !closed {
		return nil
	}
	return h.renewTLS(ctx)
}

// httpsRoutes is ACME and the page of its terms.
func (h *house) httpsRoutes() http.Handler {
	r := chi.NewRouter()
	r.Mount("/acme", h.acme.Routes())
	for _, path := range []string{"/", "/terms"} { // the directory points at both unless configured
		r.Get(path, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "This is a private certificate authority. It has no terms of its own; ask the organisation that runs it.\n")
		})
	}
	return r
}

// listen opens a TCP listener and serves it. An empty address is a listener that
// is off.
func (h *house) listen(ctx context.Context, addr string, handler http.Handler, cfg web.Config) error {
	if addr == "" {
		return nil
	}
	ln, err := web.Listen(ctx, cfg.Name, addr)
	if err != nil {
		return err
	}
	h.serve(ln, handler, cfg)
	return nil
}

func (h *house) serve(ln net.Listener, handler http.Handler, cfg web.Config) {
	s := web.Start(ln, handler, cfg)
	h.servers = append(h.servers, s)
	h.log.Info("listening", "listener", s.Name(), "addr", s.Addr().String())
	h.workers.Go(func() {
		if err := s.Err(); err != nil { // it stopped by itself
			h.health.Set(health.Check{Name: "listener " + s.Name(), State: health.Failed, Detail: err.Error(), Needs: []string{s.Name()}})
			h.fail(err)
		}
	})
}

func (h *house) serving(name string) bool {
	return slices.ContainsFunc(h.servers, func(s *web.Server) bool { return s.Name() == name })
}

func (h *house) webConfig(name string) web.Config {
	return web.Config{Name: name, Limits: web.DefaultLimits(), Log: h.log, Now: h.now, Observe: h.metrics.Request}
}

// stopListeners stops taking connections and waits for the requests under way.
func (h *house) stopListeners(ctx context.Context) error {
	errs := make([]error, len(h.servers))
	done := make(chan struct{})
	for i, s := range h.servers {
		go func() {
			if err := s.Shutdown(ctx); err != nil {
				errs[i] = fmt.Errorf("stop listener: %w", err)
			}
			done <- struct{}{}
		}()
	}
	for range h.servers {
		<-done
	}
	return errors.Join(errs...)
}
