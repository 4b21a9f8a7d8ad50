package server

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
)

// OCSP is how the status of an issuer's certificates is answered.
type OCSP struct {
	// Mode is presigned (the default): answers are signed at first use, kept and
	// signed anew at half of their life, and a nonce is ignored; or live: a request
	// with a nonce is answered by a signature of its own.
	Mode string `yaml:"mode,omitempty" jsonschema:"enum=presigned,enum=live"`
	// Validity is the time from thisUpdate to nextUpdate: 24 hours by default.
	Validity time.Duration `yaml:"validity,omitempty"`
	// Unknown is what is said of a serial that was never issued: unauthorized (the
	// default), an unsigned error; unknown; or extended-revoked, which is revoked
	// since 1970 with the extension of RFC 6960, section 4.4.8.
	Unknown string `yaml:"unknown,omitempty" jsonschema:"enum=unauthorized,enum=unknown,enum=extended-revoked"`
	// Signer is delegated (the default): each node has a certificate of its own,
	// of profile ocsp-signing, renewed in time, whose key is in State.Dir; or
	// issuer: the CA's own key signs.
	Signer string `yaml:"signer,omitempty" jsonschema:"enum=delegated,enum=issuer"`
	// Key says where the delegate's key is, instead of in State.Dir: pkcs11:token=…;
	// object=…, made at first need. It stays when the certificate is renewed, and
	// nodes that share the token share it.
	Key keys.Ref `yaml:"key,omitempty"`
	// Passphrase refers to the token's PIN.
	Passphrase Reference `yaml:"passphrase,omitempty"`
	// ArchiveCutoff is how long records of expired certificates are kept. Answers
	// about expired certificates say so; without it they do not.
	ArchiveCutoff time.Duration `yaml:"archive_cutoff,omitempty"`
	// Outage is how long kept answers are given while the database does not
	// answer, and another node may have recorded a revocation. 0 gives tryLater
	// after one second.
	Outage time.Duration `yaml:"outage,omitempty"`
	// Cache is how many answers are kept: 50000 by default, about 2 KiB each.
	Cache int `yaml:"cache,omitempty"`
}

// OfflineOCSP answers for the certificates of a CA whose key is elsewhere.
type OfflineOCSP struct {
	// Certificate is a PEM file with a responder certificate that the CA signed:
	// extended key usage OCSPSigning, id-pkix-ocsp-nocheck.
	Certificate string `yaml:"certificate"`
	// Key says where its private key is: file:PATH, an encrypted PKCS#8 file.
	Key keys.Ref `yaml:"key"`
	// Passphrase refers to the passphrase of the key.
	Passphrase Reference `yaml:"passphrase"`
	// Mode, Validity and Unknown are as in an issuer's ocsp.
	Mode     string        `yaml:"mode,omitempty" jsonschema:"enum=presigned,enum=live"`
	Validity time.Duration `yaml:"validity,omitempty"`
	Unknown  string        `yaml:"unknown,omitempty" jsonschema:"enum=unauthorized,enum=unknown,enum=extended-revoked"`
}

const (
	signerDelegated = "delegated"
	signerIssuer    = "issuer"

	defaultOCSPValidity = 24 * time.Hour
	defaultOCSPCache    = 50_000

	// delegateEvery is how often responder certificates are looked at.
	delegateEvery = 30 * time.Second
)

// complete fills in the defaults.
func (o *OCSP) complete() {
	for field, value := range map[*string]string{
		&o.Mode: string(ocsp.Presigned), &o.Unknown: string(ocsp.UnknownUnauthorized), &o.Signer: signerDelegated,
	} {
		if *field == "" {
			*field = value
		}
	}
	if o.Validity == 0 {
		o.Validity = defaultOCSPValidity
	}
	if o.Cache == 0 {
		o.Cache = defaultOCSPCache
	}
}

func (o *OCSP) policy() ocsp.Policy {
	return ocsp.Policy{
		Mode: ocsp.Mode(o.Mode), Validity: o.Validity, Unknown: ocsp.UnknownPolicy(o.Unknown),
		ArchiveCutoff: o.ArchiveCutoff, Outage: o.Outage, Cache: o.Cache,
	}
}

// like returns the fields that an offline CA's responder shares.
func (o *OfflineOCSP) like() OCSP {
	c := OCSP{Mode: o.Mode, Validity: o.Validity, Unknown: o.Unknown}
	c.complete()
	return c
}

func (o *OfflineOCSP) complete(dir string) *OfflineOCSP {
	c, defaults := *o, o.like()
	c.Mode, c.Validity, c.Unknown = defaults.Mode, defaults.Validity, defaults.Unknown
	c.Certificate, c.Key = under(dir, c.Certificate), keyUnder(dir, c.Key)
	return &c
}

// delegates reports whether a key of ours signs OCSP responses as a delegate.
func (l *loaded) delegates() bool {
	return slices.ContainsFunc(l.Issuers, func(i Issuer) bool { return i.OCSP.Signer == signerDelegated })
}

func (l *loaded) checkOCSP(d *document) {
	for i, is := range l.Issuers {
		key := fmt.Sprintf("issuers[%d].ocsp", i)
		is.OCSP.check(d, key)
		oneOf(d, key+".signer", is.OCSP.Signer, signerDelegated, signerIssuer)
		l.checkServiceKey(d, key+".key", is.OCSP.Key, key+".passphrase", is.OCSP.Passphrase)
		if chain, err := readChain(is.Certificate); err == nil { // otherwise it is reported
			checkResponder(d, key, is, chain)
		}
	}
	for i, o := range l.Offline {
		if o.OCSP == nil {
			continue
		}
		key := fmt.Sprintf("offline[%d].ocsp", i)
		like := o.OCSP.like()
		like.check(d, key)
		l.checkKey(d, key+".key", o.OCSP.Key)
		if _, err := o.OCSP.Passphrase.read(l.dir); err != nil {
			d.say(key+".passphrase", "%v", err)
		}
		if _, err := readChain(o.OCSP.Certificate); err != nil {
			d.say(key+".certificate", "%v", err)
		}
	}
}

func (o *OCSP) check(d *document, key string) {
	oneOf(d, key+".mode", o.Mode, string(ocsp.Presigned), string(ocsp.Live))
	oneOf(d, key+".unknown", o.Unknown, string(ocsp.UnknownUnauthorized), string(ocsp.UnknownUnknown), string(ocsp.UnknownRevoked))
	if o.Validity < time.Minute || o.Validity > 30*24*time.Hour {
		d.say(key+".validity", "%s: want from 1m to 720h", o.Validity)
	}
	if o.ArchiveCutoff < 0 || o.Outage < 0 || o.Cache < 0 {
		d.say(key, "archive_cutoff, outage and cache cannot be negative")
	}
}

var oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}

// checkResponder refuses a signer that relying parties would not accept: a
// delegate below a CA that may not certify one (rule X8), or a CA whose own key
// may not sign.
func checkResponder(d *document, key string, is Issuer, chain []*x509.Certificate) {
	ca := chain[0]
	switch is.OCSP.Signer {
	case signerDelegated:
		if err := hierarchy.CheckUsages(chain, []asn1.ObjectIdentifier{oidOCSPSigning}); err != nil {
			d.say(key+".signer", "issuer %s cannot certify a responder: %s; signer: issuer lets its own key sign", is.ID, detail(err))
		}
	case signerIssuer:
		if ca.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			d.say(key+".signer", "the key usage of issuer %s lacks digitalSignature: want signer: delegated", is.ID)
		}
	}
}

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
func (h *house) prepareOCSP(ctx context.Context, cfg *loaded, s, old *signing) (*responders, error) {
	r := &responders{delegates: map[string]*ocsp.Delegate{}}
	for _, is := range cfg.Issuers {
		chain := s.chain(is.ID)
		if chain == nil || s.state(is.ID) == stateRetired {
			continue
		}
		a := ocsp.Authority{ID: is.ID, Certificate: chain[0], Policy: is.OCSP.policy()}
		if is.OCSP.Signer == signerIssuer {
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
func (h *house) delegate(cfg *loaded, is Issuer) *ocsp.Delegate {
	id := is.ID
	if is.OCSP.Key != "" {
		id += " " + string(is.OCSP.Key)
	}
	if h.delegates[id] == nil {
		c := ocsp.DelegateConfig{
			IssuerID: is.ID, Node: h.node.Name, Dir: filepath.Join(cfg.State.Dir, "ocsp"), Secret: cfg.State.Passphrase.secret(cfg.dir),
			Store: h.store, Pipeline: h.pipeline, Now: h.now, Log: h.log, Observe: h.metrics.key("ocsp-" + is.ID),
		}
		if is.OCSP.Key != "" {
			c.Key, c.Module, c.Secret = is.OCSP.Key, cfg.PKCS11.Module, is.OCSP.Passphrase.secret(cfg.dir)
		}
		h.delegates[id] = ocsp.NewDelegate(c)
	}
	return h.delegates[id]
}

// offlineResponder opens the responder of a CA whose key is elsewhere.
func (h *house) offlineResponder(ctx context.Context, cfg *loaded, s, old *signing, o Offline) (ocsp.Authority, error) {
	certs, err := readChain(o.OCSP.Certificate)
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
	like := o.OCSP.like()
	return ocsp.Authority{
		ID: o.ID, Certificate: ca, Policy: like.policy(), Offline: true,
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
