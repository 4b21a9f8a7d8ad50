package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

// tlsPair is what a TLS listener presents, and who keeps it: one for each kind of key;
// nobody where it is in a file.
type tlsPair struct {
	web.Pair
	own  atomic.Pointer[[]*owncert.Keeper]
	root bool // it presents the root too
}

func (p *tlsPair) presented(c *owncert.Pair) *tls.Certificate {
	if p.root {
		return c.TLSWithRoot()
	}
	return c.TLS()
}

func (p *tlsPair) keepers() []*owncert.Keeper {
	if all := p.own.Load(); all != nil {
		return *all
	}
	return nil
}

// tend brings certificates of our own up to date. Keepers that have been replaced
// meanwhile have nothing to say.
func (p *tlsPair) tend(ctx context.Context) error {
	all := p.own.Load()
	if all == nil {
		return nil
	}
	var errs error
	for _, k := range *all {
		errs = errors.Join(errs, k.Ensure(ctx))
	}
	if p.own.Load() != all {
		return nil
	}
	var current []*tls.Certificate
	for _, k := range *all {
		if newest := k.Newest(); newest != nil {
			current = append(current, p.presented(newest))
		}
	}
	p.Set(current...)
	return errs
}

// refreshPair gives a listener the certificate that it is to present: from the
// files that the configuration names, or our own. Where that fails it keeps the
// one that it has, unless that must not be used.
func (srv *server) refreshPair(ctx context.Context, cfg *config.File, name string, t config.TLS) error {
	if t.Certificate == "" {
		keepers, err := srv.tlsKeepers(cfg, name, t)
		if err != nil {
			return err
		}
		srv.tls[name].own.Store(&keepers)
		return srv.tls[name].tend(ctx)
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
		srv.tls[name].Set(srv.tls[name].presented(p))
	}
	return err
}

// tlsKeepers returns the keepers of a listener's own certificates under a
// configuration, with what they have.
func (srv *server) tlsKeepers(cfg *config.File, name string, t config.TLS) ([]*owncert.Keeper, error) {
	spec, err := tlsSpec(cfg, t)
	if err != nil {
		return nil, err
	}
	was := map[string]*owncert.Keeper{}
	for _, k := range srv.tls[name].keepers() {
		was[config.KeyKind(k.Specs[0].Algorithm)] = k
	}
	all := make([]*owncert.Keeper, 0, len(t.Algorithms))
	for _, algorithm := range t.Algorithms {
		what, file, kind := "TLS certificate of listener "+name, name, config.KeyKind(algorithm)
		if kind != "ec" {
			what, file = what+", "+kind, name+"-"+kind
		}
		spec.Algorithm = algorithm
		all = append(all, owncert.New(owncert.Config{
			What: what, Issuer: t.Issuer, Specs: []owncert.Spec{spec},
			Storage: owncert.File{
				Path:   filepath.Join(cfg.State.Dir, "tls", file+".pem"),
				Secret: cfg.State.Passphrase.Secret(cfg.Dir), Log: srv.log,
			},
			Pipeline: srv.pipeline, Now: srv.now, Log: srv.log,
		}, was[kind]))
	}
	return all, nil
}

// tlsSpec is what a listener's own certificates are to be, their keys apart.
func tlsSpec(cfg *config.File, t config.TLS) (owncert.Spec, error) {
	spec := owncert.Spec{Profile: t.Profile}
	names, err := t.Identifiers()
	if err != nil {
		return spec, err
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
	return spec, nil
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
		keepers := srv.tls[l.name].keepers()
		if len(keepers) == 0 {
			state := srv.givenPair(ctx, current.Leaf, l.conf.TLS.Certificate)
			checks = append(checks, health.Own("tls "+l.name, l.name, state))
		}
		served := slices.ContainsFunc(keepers, func(k *owncert.Keeper) bool { return k.Health().Failed == nil })
		for i, k := range keepers {
			what := "tls " + l.name
			if i > 0 {
				what += " " + config.KeyKind(k.Specs[0].Algorithm)
			}
			check := health.Own(what, l.name, k.Health())
			if served && check.State == health.Failed { // by the other kind, which most clients know
				check.State, check.Needs = health.Warning, nil
			}
			checks = append(checks, check)
		}
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
