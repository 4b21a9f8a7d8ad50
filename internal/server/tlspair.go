package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/health"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/web"
)

// tlsPair is what a TLS listener presents, and who keeps it; nobody where it is in a
// file.
type tlsPair struct {
	web.Pair
	own atomic.Pointer[owncert.Keeper]
}

// tend brings a certificate of our own up to date. A keeper that has been replaced
// meanwhile has nothing to say.
func (p *tlsPair) tend(ctx context.Context, k *owncert.Keeper) error {
	err := k.Ensure(ctx)
	if p.own.Load() != k {
		return nil
	}
	var current *tls.Certificate
	if newest := k.Newest(); newest != nil {
		current = newest.TLS()
	}
	p.Set(current)
	return err
}

// refreshPair gives a listener the certificate that it is to present: from the
// files that the configuration names, or our own. Where that fails it keeps the
// one that it has, unless that must not be used.
func (srv *server) refreshPair(ctx context.Context, cfg *config.File, name string, t config.TLS) error {
	if t.Certificate == "" {
		k, err := srv.tlsKeeper(cfg, name, t)
		if err != nil {
			return err
		}
		srv.tls[name].own.Store(k)
		return srv.tls[name].tend(ctx, k)
	}
	srv.tls[name].own.Store(nil)
	chain, err := config.ReadChain(t.Certificate)
	if err != nil {
		return err
	}
	key, err := srv.openKey(ctx, cfg, name, t.Key, t.Passphrase)
	if err != nil {
		return err
	}
	p, err := owncert.Join(chain, key)
	if err == nil {
		srv.tls[name].Set(p.TLS())
	}
	return err
}

// tlsKeeper returns the keeper of a listener's own certificate under a
// configuration, with what it has.
func (srv *server) tlsKeeper(cfg *config.File, name string, t config.TLS) (*owncert.Keeper, error) {
	spec := owncert.Spec{Profile: t.Profile, Algorithm: "ec-p256"}
	names, err := t.Identifiers()
	if err != nil {
		return nil, err
	}
	for _, id := range names {
		if id.Type == pki.DNS && len(id.Value) <= 64 && spec.CommonName == "" { // which old clients show
			spec.CommonName = id.Value
		}
	}
	spec.Names = names
	spec.Fits = func(c *x509.Certificate, issuer string) bool {
		// One of before EST was is not the EST listener's.
		made := t.Profile != config.ESTServerProfile || slices.ContainsFunc(c.UnknownExtKeyUsage, est.IsRA)
		published := len(c.IssuingCertificateURL) > 0 && c.IssuingCertificateURL[0] == cfg.Locations(issuer).CAIssuers
		return made && published && len(c.DNSNames)+len(c.IPAddresses) == len(t.Names) &&
			!slices.ContainsFunc(t.Names, func(n string) bool { return c.VerifyHostname(n) != nil })
	}
	return owncert.New(owncert.Config{
		What: "TLS certificate of listener " + name, Issuer: t.Issuer, Specs: []owncert.Spec{spec},
		Storage: owncert.File{
			Path: filepath.Join(cfg.State.Dir, "tls", name+".pem"), Secret: cfg.State.Passphrase.Secret(cfg.Dir), Log: srv.log,
		},
		Pipeline: srv.pipeline, Now: srv.now, Log: srv.log,
	}, srv.tls[name].own.Load()), nil
}

// tlsHealth says what there is to say of the certificates that listeners present.
// That there is none is told where the listener is opened.
func (srv *server) tlsHealth(ctx context.Context) []health.Check {
	var checks []health.Check
	for _, l := range srv.tlsListeners(srv.cfg.Load()) {
		current := srv.tls[l.name].Current()
		if l.conf.Addr == "" || current == nil {
			continue
		}
		var state owncert.Health
		if k := srv.tls[l.name].own.Load(); k != nil {
			state = k.Health()
		} else {
			state = srv.givenPair(ctx, current.Leaf, l.conf.TLS.Certificate)
		}
		checks = append(checks, ownCheck("tls "+l.name, l.name, state))
	}
	return checks
}

// givenPair looks at a certificate from a file: it is not ours to renew, but it may
// be one of ours.
func (srv *server) givenPair(ctx context.Context, c *x509.Certificate, file string) (state owncert.Health) {
	todo := "put a new one into " + file + " and reload"
	// That the database does not answer is told by its own check.
	if why, _, err := owncert.Revoked(ctx, srv.pipeline, c); err == nil && why != "" {
		state.Failed = fault.New(fault.Unavailable, "the certificate is one of ours, and %s: %s", why, todo).
			Because("certificate_revoked")
		return state
	}
	state.Warning, state.Failed = owncert.Ends(c, srv.now(), todo)
	return state
}
