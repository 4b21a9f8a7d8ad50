package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/ocsp"
)

// delegateEvery is how often responder certificates are looked at.
const delegateEvery = 30 * time.Second

// responders are who signs OCSP responses under one configuration.
type responders struct {
	answers   map[string]ocsp.Answers   // by id of the CA
	delegates map[string]*ocsp.Delegate // by issuer id
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
func (h *house) prepareOCSP(ctx context.Context, cfg *config.File, s, old *inForce) (*responders, error) {
	r := &responders{answers: map[string]ocsp.Answers{}, delegates: map[string]*ocsp.Delegate{}}
	for _, is := range cfg.Issuers {
		c := s.cas().Get(is.ID)
		if c == nil || !c.Installed() || c.Stage == ca.Retired {
			continue
		}
		a := ocsp.Answers{Policy: is.OCSP.Policy()}
		if is.OCSP.Signer == config.SignerIssuer {
			i := c.Issuer()
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
		r.answers[is.ID] = a
	}
	for _, o := range cfg.Offline {
		c := s.cas().Get(o.ID)
		if o.OCSP == nil || c == nil || !c.Installed() {
			continue
		}
		a, err := h.offlineResponder(ctx, cfg, s, old, o)
		if err != nil {
			return nil, fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		r.answers[c.ID] = a
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
func (h *house) offlineResponder(ctx context.Context, cfg *config.File, s, old *inForce, o config.Offline) (ocsp.Answers, error) {
	certs, err := config.ReadChain(o.OCSP.Certificate)
	if err != nil {
		return ocsp.Answers{}, err
	}
	name := "ocsp-" + o.ID
	key := old.keys[name]
	if key == nil || key.Ref() != o.OCSP.Key || key.passphrase != o.OCSP.Passphrase {
		k, err := h.openKey(ctx, cfg, name, o.OCSP.Key, o.OCSP.Passphrase)
		if err != nil {
			return ocsp.Answers{}, err
		}
		key = &openKey{k, o.OCSP.Passphrase}
	}
	s.keys[name] = key
	signer, err := issuer.NewResponder(s.cas().Get(o.ID).Certificate(), certs[0], key)
	if err != nil {
		return ocsp.Answers{}, err
	}
	like := o.OCSP.Like()
	return ocsp.Answers{Policy: like.Policy(), Signer: func() (*issuer.Responder, error) { return signer, nil }}, nil
}

// enforceOCSP puts prepared responders in force.
func (h *house) enforceOCSP(s *inForce) {
	if err := h.ocsp.Swap(s.cas(), s.ocsp.answers); err != nil {
		h.log.Error("OCSP: a CA certificate cannot be read", "error", err) // it was read before
	}
}

// ensureDelegates opens, issues and renews responder certificates.
func (h *house) ensureDelegates(ctx context.Context) error {
	s := h.signing.Load()
	h.warnResponders(ctx)
	var failed []error
	for _, id := range slices.Sorted(maps.Keys(s.ocsp.delegates)) {
		failed = append(failed, s.ocsp.delegates[id].Ensure(ctx))
	}
	return errors.Join(failed...)
}
