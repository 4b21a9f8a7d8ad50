package ocsp

import (
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/owncert"
)

// DelegateProfile is the profile of responder certificates.
const DelegateProfile = "ocsp-signing"

// DelegateConfig is what a Delegate needs: the Folder says whose it is and where its
// keys are.
type DelegateConfig struct {
	owncert.Folder
	Pipeline *issuance.Pipeline
	Dropped  func(*x509.Certificate) // told of one that must not be used any more; may be nil
}

// Delegate keeps a responder certificate of one issuer, with a key of this node's
// own that never leaves its folder, or in a token; see owncert.Keeper.
type Delegate struct {
	*owncert.Keeper
	DelegateConfig
	made atomic.Pointer[responder]
}

// responder is who signs with a certificate.
type responder struct {
	certificate *x509.Certificate
	*issuer.Responder
}

// NewDelegate returns a Delegate that has no certificate yet: see Ensure.
func NewDelegate(cfg DelegateConfig) *Delegate {
	return &Delegate{DelegateConfig: cfg, Keeper: owncert.New(owncert.Config{
		What: "OCSP responder of " + cfg.IssuerID, Issuer: cfg.IssuerID, Storage: &cfg.Folder, Token: cfg.Token,
		Specs: []owncert.Spec{{
			Profile: DelegateProfile, CommonName: "OCSP responder " + cfg.IssuerID, Algorithm: "ec-p256",
		}},
		Pipeline: cfg.Pipeline, Now: cfg.Now, Log: cfg.Log, Dropped: cfg.Dropped,
	}, nil)}
}

// Responder returns who signs now.
func (d *Delegate) Responder() (*issuer.Responder, error) {
	p := d.Newest()
	if p == nil {
		return nil, fault.New(fault.Unavailable, "issuer %s has no responder certificate yet", d.IssuerID).
			Because("no_responder")
	}
	if !d.Keeper.Now().Before(p.Certificate.NotAfter) {
		return nil, errSignerGone
	}
	if made := d.made.Load(); made != nil && made.certificate == p.Certificate {
		return made.Responder, nil
	}
	ca, signer := d.IssuerOf(p.Certificate), p.Key.(issuer.Signer) //nolint:forcetypeassert // a keys.Key
	if ca == nil {
		return nil, fmt.Errorf("OCSP responder of %s: no CA that is here signed its certificate", d.IssuerID)
	}
	r, err := issuer.NewResponder(ca, p.Certificate, signer)
	if err == nil {
		d.made.Store(&responder{p.Certificate, r})
	}
	return r, err
}

// NotAfter returns when the certificate in use ends; zero if there is none.
func (d *Delegate) NotAfter() time.Time { return d.Health().NotAfter }

// Health says what the responder of a CA cannot do, and what will end soon. d is its
// delegate, nil if it has none; healthy asks the key that is not a delegate's to keep,
// and is nil for a delegate's.
func (a Answers) Health(d *Delegate, healthy func() error, now time.Time) owncert.Health {
	var s owncert.Health
	if d != nil {
		s = d.Health()
	}
	r, err := a.Signer()
	switch {
	case s.Failed != nil:
		return s
	case err != nil:
		s.Failed = err
		return s
	case healthy != nil:
		s.Failed = healthy()
	}
	if c := r.Certificate(); c != nil && d == nil {
		s.NotAfter = c.NotAfter
		soon, err := owncert.Ends(c, now, "sign a new one where the CA's key is, and put it into the configuration")
		if s.Warning = soon; err != nil {
			s.Failed = err
		}
	}
	return s
}
