package server

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
)

// reload reads the configuration file again and puts it in force, all or
// nothing: what is refused leaves the server as it was.
func (srv *server) reload(ctx context.Context) (api.ReloadResult, error) {
	if err := srv.begin(ctx); err != nil {
		return api.ReloadResult{}, err
	}
	defer srv.changing.Unlock()
	result, err := srv.swap(ctx)
	outcome := "ok"
	if err != nil {
		outcome = "refused"
		srv.log.ErrorContext(ctx, "configuration not reloaded", "error", err)
	} else {
		srv.log.InfoContext(ctx, "configuration reloaded", "config", result.ConfigDigest, "changed", result.Changed)
		srv.warnOf(ctx, srv.cfg.Load())
	}
	srv.metrics.Reload(outcome)
	return result, err
}

// warnOf logs what is allowed in a configuration and perhaps not meant.
func (srv *server) warnOf(ctx context.Context, cfg *config.File) {
	for _, w := range cfg.Warnings {
		srv.log.WarnContext(ctx, "configuration: "+w.String())
	}
}

// changeWait is how long a change waits for another one: background work looks
// after the issuers every few seconds, shortly.
const changeWait = 3 * time.Second

// begin takes srv.changing.
func (srv *server) begin(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, changeWait)
	defer stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !srv.changing.TryLock() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fault.New(fault.Conflict, "the server is starting, stopping or reloading").Because("busy")
		}
	}
	return nil
}

func (srv *server) swap(ctx context.Context) (api.ReloadResult, error) {
	old := srv.cfg.Load()
	cfg, err := old.Reload()
	if err != nil {
		return api.ReloadResult{}, fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return srv.swapTo(ctx, old, cfg)
}

// refresh puts what was installed in force, under the configuration that runs.
func (srv *server) refresh(ctx context.Context) error {
	if err := srv.begin(ctx); err != nil {
		return err
	}
	defer srv.changing.Unlock()
	cfg := srv.cfg.Load()
	_, err := srv.swapTo(ctx, cfg, cfg)
	return err
}

// swapTo puts a configuration in force, all or nothing.
func (srv *server) swapTo(ctx context.Context, old, cfg *config.File) (api.ReloadResult, error) {
	if changed := config.NeedsRestart(&old.Config, &cfg.Config); len(changed) > 0 {
		return api.ReloadResult{}, fault.New(fault.Conflict, "%s: a change here needs a restart",
			strings.Join(changed, ", ")).Because("restart_needed")
	}
	// Everything that can be refused comes before the first thing that changes.
	signing, err := srv.prepare(ctx, cfg, true)
	if err != nil {
		return api.ReloadResult{}, err
	}
	was := srv.signing.Load()
	err = was.cas().Regress(signing.cas(), srv.now())
	if err == nil {
		err = was.ocsp.regress(signing.ocsp)
	}
	if err != nil {
		signing.closeAllBut(srv.signing.Load())
		return api.ReloadResult{}, err
	}
	if err := srv.acme.Swap(cfg.ACMEConfig()); err != nil {
		signing.closeAllBut(srv.signing.Load())
		return api.ReloadResult{}, fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	swapBack := func(err error) error {
		signing.closeAllBut(srv.signing.Load())
		return errors.Join(err, srv.acme.Swap(old.ACMEConfig()), srv.swapEST(old), srv.swapWebhooks(old),
			srv.swapSCEP(old), srv.swapLogin(old))
	}
	if err := srv.swapEST(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := srv.swapWebhooks(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := srv.swapSCEP(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := srv.swapLogin(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := srv.install(ctx, cfg, signing); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	srv.cfg.Store(cfg)
	srv.access.Swap(cfg.Access.Rules)
	srv.putInForce(ctx, cfg, signing)
	srv.logged("TLS listeners", srv.startTLS(ctx, cfg)) // it is in force all the same
	return api.ReloadResult{Changed: !cfg.Same(old), ConfigDigest: cfg.Digest()}, nil
}

// reloadOnHangup reloads at each SIGHUP until ctx ends.
func (srv *server) reloadOnHangup(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	srv.workers.Go(func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				_, _ = srv.reload(ctx) // it logs its error
			}
		}
	})
}
