package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
)

// responders are who signs OCSP responses under one configuration, by the id of
// the CA.
type responders struct {
	answers   map[string]ocsp.Answers
	delegates map[string]*ocsp.Delegate    // of issuers
	offline   map[string]*x509.Certificate // responder certificates of offline CAs
	failed    map[string]error             // of offline CAs: why theirs cannot be used
}

// buildOCSP makes the responder, which answers for nobody yet.
func (srv *server) buildOCSP(context.Context) error {
	srv.ocsp = ocsp.New(ocsp.Config{
		Store: srv.store, Now: srv.now, Log: srv.log, Seen: srv.metrics.RevocationSeen, Changes: srv.changes,
	})
	srv.delegates = map[string]*ocsp.Delegate{}
	srv.warned = map[string]string{}
	srv.metrics.WatchOCSP(srv.ocsp, srv.responderStates)
	return nil
}

// prepareOCSP makes the responders of a configuration, without putting them in
// force. One that cannot sign stops nobody else.
func (srv *server) prepareOCSP(ctx context.Context, cfg *config.File, s, old *inForce) *responders {
	r := &responders{
		answers: map[string]ocsp.Answers{}, delegates: map[string]*ocsp.Delegate{},
		offline: map[string]*x509.Certificate{}, failed: map[string]error{},
	}
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
			a.Signer = func() (*issuer.Responder, error) { return own, err }
		} else {
			r.delegates[is.ID] = srv.delegate(cfg, is)
			a.Signer = r.delegates[is.ID].Responder
		}
		r.answers[is.ID] = a
	}
	for _, o := range cfg.Offline {
		c := s.cas().Get(o.ID)
		if o.OCSP == nil || c == nil || !c.Installed() {
			continue
		}
		signer, err := srv.offlineResponder(ctx, cfg, s, old, o)
		if err != nil {
			r.failed[c.ID] = err
		} else {
			r.offline[c.ID] = signer.Certificate()
		}
		like := o.OCSP.Like()
		r.answers[c.ID] = ocsp.Answers{Policy: like.Policy(), Signer: func() (*issuer.Responder, error) {
			return signer, errors.Join(err, srv.whyWithdrawn(c.ID))
		}}
	}
	return r
}

// regress returns why an operator's reload may not put next in the place of r: a
// responder that could sign could not any more.
func (r *responders) regress(next *responders) error {
	for _, id := range slices.Sorted(maps.Keys(next.failed)) {
		if _, worked := r.offline[id]; worked || r.answers[id].Signer == nil {
			return fmt.Errorf("offline CA %s: %w", id, next.failed[id])
		}
	}
	return nil
}

// delegate returns the responder certificate of an issuer. One whose key moves is
// another one.
func (srv *server) delegate(cfg *config.File, is config.Issuer) *ocsp.Delegate {
	id := is.ID
	if is.OCSP.Key != "" {
		id += " " + string(is.OCSP.Key)
	}
	if srv.delegates[id] == nil {
		name := "ocsp-" + is.ID
		c := ocsp.DelegateConfig{
			Folder: owncert.Folder{
				IssuerID: is.ID, Node: srv.node.Name,
				Dir: filepath.Join(cfg.State.Dir, "ocsp"), Secret: cfg.State.Passphrase.Secret(cfg.Dir),
				Keys: keys.Config{Observe: srv.metrics.Key(name), Now: srv.now}, Store: srv.store, Now: srv.now,
				Log: srv.log,
			},
			Pipeline: srv.pipeline, Dropped: func(c *x509.Certificate) { srv.ocsp.Distrust(is.ID, c) },
		}
		if is.OCSP.Key != "" {
			open := func(ctx context.Context) (crypto.Signer, error) {
				return srv.serviceKey(ctx, cfg, name, is.OCSP.Key, "ec-p256", is.OCSP.Passphrase)
			}
			c.Token = &owncert.Token{Ref: is.OCSP.Key, Setting: "issuers[].ocsp.key", Open: open}
		}
		srv.delegates[id] = ocsp.NewDelegate(c)
	}
	return srv.delegates[id]
}

// offlineResponder opens the responder of a CA whose key is elsewhere.
func (srv *server) offlineResponder(
	ctx context.Context, cfg *config.File, s, old *inForce, o config.Offline,
) (*issuer.Responder, error) {
	certs, err := cfg.Chain(o.OCSP.Certificate)
	if err != nil {
		return nil, err
	}
	name := "ocsp-" + o.ID
	key := old.keys[name]
	if key == nil || key.Ref() != o.OCSP.Key || key.passphrase != o.OCSP.Passphrase {
		k, err := srv.openKey(ctx, cfg, name, o.OCSP.Key, o.OCSP.Passphrase)
		if err != nil {
			return nil, err
		}
		key = &openKey{k, o.OCSP.Passphrase}
	}
	s.keys[name] = key
	return issuer.NewResponder(s.cas().Get(o.ID).Certificate(), certs[0], key)
}

// enforceOCSP puts prepared responders in force.
func (srv *server) enforceOCSP(s *inForce) {
	if err := srv.ocsp.Swap(s.cas(), s.ocsp.answers); err != nil {
		srv.log.Error("OCSP: a CA certificate cannot be read", "error", err) // it was read before
	}
}

// ensureDelegates opens, issues and renews responder certificates.
func (srv *server) ensureDelegates(ctx context.Context) error {
	s := srv.signing.Load()
	srv.warnResponders(ctx)
	ids := slices.Sorted(maps.Keys(s.ocsp.delegates))
	failed := make([]error, len(ids))
	var each sync.WaitGroup
	for i, id := range ids { // the key of one CA may be long in answering
		each.Go(func() { failed[i] = s.ocsp.delegates[id].Ensure(ctx) })
	}
	each.Wait()
	return errors.Join(failed...)
}

// checkWithdrawn looks whether the lists of offline CAs name their responders.
func (srv *server) checkWithdrawn(ctx context.Context) error {
	s := srv.signing.Load()
	why := map[string]string{}
	var failed []error
	for id, cert := range s.ocsp.offline {
		t, err := srv.watch.Listed(ctx, s.cas().Get(id), cert, "its responder certificate")
		if err != nil {
			failed = append(failed, err)
		} else if t.State == ca.Revoked {
			why[id] = t.Why
			srv.ocsp.Distrust(id, cert)
		}
	}
	if len(failed) == 0 { // what is not known now stays as it was
		srv.withdrawn.Store(&why)
	}
	return errors.Join(failed...)
}

// whyWithdrawn is why an offline CA's responder must not sign; nil if it may.
func (srv *server) whyWithdrawn(id string) error {
	if all := srv.withdrawn.Load(); all != nil && (*all)[id] != "" {
		return fault.New(fault.Unavailable, "%s: sign a new one, for another key, where the CA's key is, and put it "+
			"into the configuration", (*all)[id]).Because("responder_revoked")
	}
	return nil
}
