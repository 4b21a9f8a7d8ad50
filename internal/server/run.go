// Package server composes a node: it builds every floor from the bottom up,
// runs listeners and background work, and drains.
//
// It holds no policy of its own. config.File is what an operator wrote; server is
// everything that runs; Run and start show the order in which it comes up and
// goes down.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/metrics"
	"github.com/privyseal/privyseal/internal/publish"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
)

// drainTime bounds an orderly stop (ARCHITECTURE, section 6): longer than an
// issuance, shorter than a lease.
const drainTime = 30 * time.Second

// Env is what a process lends to the server that it runs.
type Env struct {
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// Seed runs before the server says that it is ready; may be nil.
	Seed func(context.Context, *store.Store, *credential.ESTUsers) error
}

// NewEnv returns the Env of a process that logs to standard error as l says.
func NewEnv(version string, now func() time.Time, l config.Log) Env {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(l.Level)) // checked; empty leaves info
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(os.Stderr, options)
	if l.Format == "json" {
		handler = slog.NewJSONHandler(os.Stderr, options)
	}
	return Env{Version: version, Log: slog.New(handler), Now: now}
}

// Run serves cfg as node n until ctx ends or a listener fails, then drains and
// gives the node up. ready is called once everything is up.
func Run(ctx context.Context, e Env, n *statedir.Node, cfg *config.File, ready func()) error {
	return newServer(e, n, cfg).run(ctx, ready)
}

func newServer(e Env, n *statedir.Node, cfg *config.File) *server {
	srv := &server{
		version: e.Version, log: e.Log, now: e.Now, seed: e.Seed,
		node: n, metrics: metrics.New(e.Version), serviceKeys: map[keys.Ref]*openKey{},
		tls: map[string]*tlsPair{listenHTTPS: {}, listenEST: {}, listenAdmin: {root: true}},
	}
	srv.cfg.Store(cfg)
	srv.signing.Store(&inForce{rules: issuance.Rules{CAs: ca.NewSet()}, ocsp: &responders{}})
	for i := range srv.tending {
		srv.tending[i] = make(chan struct{}, 1)
	}
	return srv
}

func (srv *server) run(ctx context.Context, ready func()) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // the live heap is small: half the collections for some 20 MiB
	}
	ctx, srv.fail = context.WithCancelCause(ctx)
	defer srv.fail(nil)
	defer func() { err = errors.Join(err, srv.close()) }()

	srv.reloadOnHangup(ctx)
	srv.health.Now = srv.now
	srv.health.Set(health.Check{Name: "server", State: health.Failed, Detail: "starting", Needs: []string{health.All}})

	cfg := srv.cfg.Load()
	if err := srv.start(ctx, cfg); err != nil {
		return err
	}
	if srv.seed != nil {
		if err := srv.seed(ctx, srv.store, srv.estUsers); err != nil {
			return err
		}
	}
	srv.health.Clear("server")
	srv.log.InfoContext(ctx, "ready", "node", srv.node.Name, "config", cfg.Digest())
	ready()

	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start follows the order of ARCHITECTURE, section 6: store, socket, ops, http,
// issuers, TLS listeners. A server without issuers gets as far as it can.
func (srv *server) start(ctx context.Context, cfg *config.File) error {
	srv.changing.Lock()
	defer srv.changing.Unlock()
	srv.boundConnections(ctx, cfg)
	if err := srv.build(ctx); err != nil {
		return err
	}
	srv.publisher = publish.New(srv.lists)
	for _, open := range []func(context.Context, *config.File) error{srv.startSocket, srv.startOps, srv.startHTTP} {
		if err := open(ctx, cfg); err != nil {
			return err
		}
	}
	signing, err := srv.prepare(ctx, cfg, true)
	if err != nil {
		return err
	}
	if err := srv.install(ctx, cfg, signing); err != nil {
		signing.closeAllBut(srv.signing.Load())
		return err
	}
	srv.warnOneTier(ctx, cfg)
	srv.warnOf(ctx, cfg)
	srv.warnOfSecrets(ctx)
	srv.askHealth()
	srv.putInForce(ctx, cfg, signing)
	if err := srv.startTLS(ctx, cfg); err != nil {
		return err
	}
	return srv.startWork(ctx)
}

// close drains in the reverse order of start: not ready, listeners, Issue calls,
// last audit event, keys, store. It takes down a server that was half built too.
func (srv *server) close() error {
	srv.health.Set(health.Check{Name: "server", State: health.Failed, Detail: "stopping", Needs: []string{health.All}})
	srv.changing.Lock() // for good: nothing is reloaded any more
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err := srv.stopListeners(ctx)
	if srv.stopWork != nil {
		srv.stopWork()
	}
	srv.fail(nil)
	srv.workers.Wait()
	if srv.pipeline != nil {
		err = errors.Join(err, srv.pipeline.Drain(ctx))
	}
	if srv.audit != nil {
		err = errors.Join(err, srv.audit.Close(ctx))
	}
	err = errors.Join(err, srv.closeKeys())
	if srv.store != nil {
		err = errors.Join(err, srv.store.Close())
	}
	if err = errors.Join(err, srv.node.Release()); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	srv.log.Info("stopped")
	return nil
}

func (srv *server) closeKeys() error {
	var err error
	for _, k := range srv.signing.Load().keys {
		err = errors.Join(err, k.Close())
	}
	for _, k := range srv.retired {
		err = errors.Join(err, k.Close())
	}
	err = errors.Join(err, srv.closeServiceKeys())
	if srv.auditKey != nil {
		err = errors.Join(err, srv.auditKey.Close())
	}
	return err
}

// patience is how long after the first signal a second one is taken as the same:
// shells and timeout(1) signal a process and then its group.
const patience = time.Second

// Signals returns a context that ends with the first SIGINT or SIGTERM. One more,
// later, ends the process at once.
func Signals(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, stop) })
	return ctx, stop
}
