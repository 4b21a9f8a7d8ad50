package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/ocsp"
)

// delegateEvery is how often responder certificates are looked at.
const delegateEvery = 30 * time.Second

// responders are who signs OCSP responses under one configuration.
type responders struct {
	authorities []ocsp.Authority
	delegates   map[string]*ocsp.Delegate // by issuer id
}

// buildOCSP makes the responder, which answers for nobody yet.
func (h *house) buildOCSP(context.Context) error {
	h.ocsp = ocsp.New(ocsp.Config{Store: h.store, Now: h.now, Log: h.log, Seen: h.metrics.revocationSeen})
	h.delegates = map[string]*ocsp.Delegate{}
	h.warned = map[string]string{}
	h.metrics.watchOCSP(h.ocsp, h.responderExpiry)
	return nil
}

// prepareOCSP makes the responders of a configuration, without putting them in
// force.
func (h *house) prepareOCSP(ctx context.Context, cfg *config.File, s, old *signing) (*responders, error) {
	r := &responders{delegates: map[string]*ocsp.Delegate{}}
	for _, is := range cfg.Issuers {
		chain := s.chain(is.ID)
		if chain == nil || s.state(is.ID) == stateRetired {
			continue
		}
		a := ocsp.Authority{ID: is.ID, Certificate: chain[0], Policy: is.OCSP.Policy()}
		if is.OCSP.Signer == config.SignerIssuer {
			i := s.issuers[is.ID]
			if i == nil {
				continue // its key is lost
			}
			own, err := i.Responder()
			if err != nil {
				return nil, err
			}
			a.Signer = func() (*issuer.Responder, error) { return own, nil }
		} else {
			r.delegates[is.ID] = h.delegate(cfg, is)
			a.Signer = r.delegates[is.ID].Responder
		}
		r.authorities = append(r.authorities, a)
	}
	for _, o := range cfg.Offline {
		if o.OCSP == nil || s.chain(o.ID) == nil {
			continue
		}
		a, err := h.offlineResponder(ctx, cfg, s, old, o)
		if err != nil {
			return nil, fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		r.authorities = append(r.authorities, a)
	}
	return r, nil
}

// delegate returns the responder certificate of an issuer. One whose key moves is
// another one.
func (h *house) delegate(cfg *config.File, is config.Issuer) *ocsp.Delegate {
	id := is.ID
	if is.OCSP.Key != "" {
		id += " " + string(is.OCSP.Key)
	}
	if h.delegates[id] == nil {
		c := ocsp.DelegateConfig{
			IssuerID: is.ID, Node: h.node.Name, Dir: filepath.Join(cfg.State.Dir, "ocsp"), Secret: cfg.State.Passphrase.Secret(cfg.Dir),
			Store: h.store, Pipeline: h.pipeline, Now: h.now, Log: h.log, Observe: h.metrics.key("ocsp-" + is.ID),
		}
		if is.OCSP.Key != "" {
			c.Key, c.Module, c.Secret = is.OCSP.Key, cfg.PKCS11.Module, is.OCSP.Passphrase.Secret(cfg.Dir)
		}
		h.delegates[id] = ocsp.NewDelegate(c)
	}
	return h.delegates[id]
}

// offlineResponder opens the responder of a CA whose key is elsewhere.
func (h *house) offlineResponder(ctx context.Context, cfg *config.File, s, old *signing, o config.Offline) (ocsp.Authority, error) {
	certs, err := config.ReadChain(o.OCSP.Certificate)
	if err != nil {
		return ocsp.Authority{}, err
	}
	name := "ocsp-" + o.ID
	key := old.keys[name]
	if key == nil || key.Ref() != o.OCSP.Key || key.passphrase != o.OCSP.Passphrase {
		k, err := h.openKey(ctx, cfg, name, o.OCSP.Key, o.OCSP.Passphrase)
		if err != nil {
			return ocsp.Authority{}, err
		}
		key = &openKey{k, o.OCSP.Passphrase}
	}
	s.keys[name] = key
	ca := s.chain(o.ID)[0]
	signer, err := issuer.NewResponder(ca, certs[0], key)
	if err != nil {
		return ocsp.Authority{}, err
	}
	like := o.OCSP.Like()
	return ocsp.Authority{
		ID: o.ID, Certificate: ca, Policy: like.Policy(), Offline: true,
		Signer: func() (*issuer.Responder, error) { return signer, nil },
	}, nil
}

// enforceOCSP puts prepared responders in force.
func (h *house) enforceOCSP(r *responders) {
	if err := h.ocsp.Swap(r.authorities); err != nil {
		h.log.Error("OCSP: a CA certificate cannot be read", "error", err) // it was read before
	}
}

// ensureDelegates opens, issues and renews responder certificates.
func (h *house) ensureDelegates(ctx context.Context) error {
	s := h.signing.Load()
	if s == nil {
		return nil
	}
	h.warnResponders(ctx)
	var failed []error
	for _, id := range slices.Sorted(maps.Keys(s.ocsp.delegates)) {
		failed = append(failed, s.ocsp.delegates[id].Ensure(ctx))
	}
	return errors.Join(failed...)
}
