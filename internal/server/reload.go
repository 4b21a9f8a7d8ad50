package server

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
)

// reload reads the configuration file again and puts it in force, all or
// nothing: what is refused leaves the server as it was.
func (h *house) reload(ctx context.Context) (api.ReloadResult, error) {
	if err := h.begin(ctx); err != nil {
		return api.ReloadResult{}, err
	}
	defer h.changing.Unlock()
	result, err := h.swap(ctx)
	outcome := "ok"
	if err != nil {
		outcome = "refused"
		h.log.ErrorContext(ctx, "configuration not reloaded", "error", err)
	} else {
		h.log.InfoContext(ctx, "configuration reloaded", "config", result.ConfigDigest, "changed", result.Changed)
		h.warnOf(ctx, h.cfg.Load())
	}
	h.metrics.Reload(outcome)
	return result, err
}

// warnOf logs what is allowed in a configuration and perhaps not meant.
func (h *house) warnOf(ctx context.Context, cfg *config.File) {
	for _, w := range cfg.Warnings {
		h.log.WarnContext(ctx, "configuration: "+w.String())
	}
}

// changeWait is how long a change waits for another one: background work looks
// after the issuers every few seconds, shortly.
const changeWait = 3 * time.Second

// begin takes h.changing.
func (h *house) begin(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, changeWait)
	defer stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !h.changing.TryLock() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fault.New(fault.Conflict, "the server is starting, stopping or reloading").Because("busy")
		}
	}
	return nil
}

func (h *house) swap(ctx context.Context) (api.ReloadResult, error) {
	old := h.cfg.Load()
	cfg, err := old.Reload()
	if err != nil {
		return api.ReloadResult{}, fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	return h.swapTo(ctx, old, cfg)
}

// refresh puts what was installed in force, under the configuration that runs.
func (h *house) refresh(ctx context.Context) error {
	if err := h.begin(ctx); err != nil {
		return err
	}
	defer h.changing.Unlock()
	cfg := h.cfg.Load()
	_, err := h.swapTo(ctx, cfg, cfg)
	return err
}

// swapTo puts a configuration in force, all or nothing.
func (h *house) swapTo(ctx context.Context, old, cfg *config.File) (api.ReloadResult, error) {
	if changed := config.NeedsRestart(&old.Config, &cfg.Config); len(changed) > 0 {
		return api.ReloadResult{}, fault.New(fault.Conflict, "%s: a change here needs a restart", strings.Join(changed, ", ")).Because("restart_needed")
	}
	// Everything that can be refused comes before the first thing that changes.
	signing, err := h.prepare(ctx, cfg, true)
	if err != nil {
		return api.ReloadResult{}, err
	}
	was := h.signing.Load()
	err = was.cas().Regress(signing.cas(), h.now())
	if err == nil {
		err = was.ocsp.regress(signing.ocsp)
	}
	if err != nil {
		signing.closeAllBut(h.signing.Load())
		return api.ReloadResult{}, err
	}
	if err := h.acme.Swap(cfg.ACMEConfig()); err != nil {
		signing.closeAllBut(h.signing.Load())
		return api.ReloadResult{}, fault.New(fault.Malformed, "%w", err).Because("configuration")
	}
	swapBack := func(err error) error {
		signing.closeAllBut(h.signing.Load())
		return errors.Join(err, h.acme.Swap(old.ACMEConfig()), h.swapEST(old), h.swapWebhooks(old), h.swapSCEP(old))
	}
	if err := h.swapEST(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := h.swapWebhooks(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := h.swapSCEP(cfg); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	if err := h.install(ctx, cfg, signing); err != nil {
		return api.ReloadResult{}, swapBack(err)
	}
	h.cfg.Store(cfg)
	if err := h.putInForce(ctx, cfg, signing); err != nil {
		return api.ReloadResult{}, err
	}
	return api.ReloadResult{Changed: !reflect.DeepEqual(old.Config, cfg.Config), ConfigDigest: cfg.Digest()}, nil
}

// reloadOnHangup reloads at each SIGHUP until ctx ends.
func (h *house) reloadOnHangup(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	h.workers.Go(func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				_, _ = h.reload(ctx) // it logs its error
			}
		}
	})
}
