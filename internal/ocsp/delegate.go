package ocsp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/store"
)

// DelegateProfile is the profile of responder certificates.
const DelegateProfile = "ocsp-signing"

// DelegateConfig is what a Delegate needs.
type DelegateConfig struct {
	IssuerID string
	Node     string      // whose keys are in Dir
	Dir      string      // folder of the keys, made if it is missing
	Key      keys.Ref    // the one key of all certificates, made at first need; empty makes one in Dir for each
	Secret   keys.Secret // passphrase of the keys
	Module   string      // PKCS#11 library of a Key in a token
	Store    *store.Store
	Pipeline *issuance.Pipeline
	Now      func() time.Time
	Log      *slog.Logger
	Observe  func(keys.Event) // of the keys; may be nil
}

// Delegate keeps a responder certificate of one issuer, with a key of this
// node's own that never leaves Dir, or in a token. In Dir each certificate has a key of its own; the
// successor takes over a third of its life before the old one ends, and answers
// that the old one signed stay valid.
type Delegate struct {
	DelegateConfig
	mu      sync.Mutex // held while one is opened or issued
	current atomic.Pointer[delegation]
	retired []*keys.Key // calls under way may use them
}

type delegation struct {
	key       *keys.Key
	responder *issuer.Responder
	renewAt   time.Time
}

// NewDelegate returns a Delegate that has no certificate yet: see Ensure.
func NewDelegate(cfg DelegateConfig) *Delegate { return &Delegate{DelegateConfig: cfg} }

// Responder returns who signs now.
func (d *Delegate) Responder() (*issuer.Responder, error) {
	c := d.current.Load()
	if c == nil {
		return nil, fault.New(fault.Unavailable, "issuer %s has no responder certificate yet", d.IssuerID).Because("no_responder")
	}
	if !d.Now().Before(c.responder.Certificate().NotAfter) {
		return nil, errSignerGone
	}
	return c.responder, nil
}

// NotAfter returns when the certificate in use ends; zero if there is none.
func (d *Delegate) NotAfter() time.Time {
	if c := d.current.Load(); c != nil {
		return c.responder.Certificate().NotAfter
	}
	return time.Time{}
}

// Ensure opens the certificate that this node has, or issues one, and renews it
// when its time has come. The one in use stays until its successor can sign.
func (d *Delegate) Ensure(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.current.Load(); c != nil && d.Now().Before(c.renewAt) {
		return nil
	}
	chains := d.Pipeline.Rules().CAs.Chains(d.IssuerID)
	if len(chains) == 0 {
		return fmt.Errorf("OCSP responder of %s: there is no such issuer", d.IssuerID)
	}
	ca := chains[0][0]
	if d.current.Load() == nil {
		if err := d.reopen(ctx, ca); err != nil {
			return err
		}
		if c := d.current.Load(); c != nil && d.Now().Before(c.renewAt) {
			return nil
		}
	}
	if err := d.renew(ctx, ca); err != nil {
		return fmt.Errorf("OCSP responder of %s: %w", d.IssuerID, err)
	}
	return nil
}

// reopen takes the newest certificate of this node whose key can be opened.
func (d *Delegate) reopen(ctx context.Context, ca *x509.Certificate) error {
	records, err := d.Store.OCSPResponders(ctx, d.IssuerID)
	if err != nil {
		return fmt.Errorf("OCSP responder of %s: %w", d.IssuerID, err)
	}
	for _, rec := range records {
		if rec.Node != d.Node || !rec.NotAfter.After(d.Now()) || !d.ours(rec.KeyRef) {
			continue
		}
		key, err := d.open(ctx, rec.KeyRef)
		if err == nil {
			if err = d.use(ca, rec.Certificate, key); err == nil {
				d.sweep(rec.KeyRef)
				return nil
			}
			_ = key.Close() // it is not the one
		}
		d.Log.WarnContext(ctx, "a responder certificate cannot be used", "issuer", d.IssuerID, "serial", rec.Serial, "error", err)
	}
	return nil
}

// open opens a key by its name in Dir.
func (d *Delegate) open(ctx context.Context, name string) (*keys.Key, error) {
	if d.Key != "" {
		return keys.Ensure(ctx, d.Key, "ec-p256", d.Secret, d.config())
	}
	return keys.Open(ctx, d.ref(name), d.Secret, d.config())
}

func (d *Delegate) config() keys.Config {
	return keys.Config{Observe: d.Observe, Now: d.Now, Module: d.Module}
}

// ours reports whether a certificate's key is where the keys are now.
func (d *Delegate) ours(name string) bool {
	if d.Key != "" {
		return name == string(d.Key)
	}
	return !strings.Contains(name, ":")
}

func (d *Delegate) ref(name string) keys.Ref {
	return keys.Ref("file:" + filepath.Join(d.Dir, filepath.Base(name)))
}

// use puts a certificate into use.
func (d *Delegate) use(ca *x509.Certificate, der []byte, key *keys.Key) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read responder certificate: %w", err)
	}
	r, err := issuer.NewResponder(ca, cert, key)
	if err != nil {
		return err
	}
	old := d.current.Swap(&delegation{key: key, responder: r, renewAt: renewAt(cert)})
	if old != nil {
		d.retired = append(d.retired, old.key)
	}
	return nil
}

// renewAt leaves a third of the certificate's life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// renew makes a key and asks the one door for its certificate.
func (d *Delegate) renew(ctx context.Context, ca *x509.Certificate) error {
	id := store.NewID()
	name, key, err := d.newKey(ctx, id)
	if err != nil {
		return err
	}
	chain := []*x509.Certificate{ca}
	if all := d.Pipeline.Rules().CAs.Chains(d.IssuerID); len(all) > 0 {
		chain = all[0]
	}
	subject, err := calaw.OwnName(chain, "OCSP responder "+d.IssuerID)
	if err != nil {
		return errors.Join(err, key.Close())
	}
	cert, err := d.Pipeline.Issue(ctx, issuance.Request{
		Protocol: "server", Profile: DelegateProfile, Issuer: d.IssuerID, Origin: "request:" + id,
		PublicKey: key.Public(), Subject: &subject, Requester: "server",
	})
	if err == nil {
		err = d.Store.PutOCSPResponder(ctx, store.OCSPResponder{
			CertificateID: cert.ID, IssuerID: d.IssuerID, Serial: cert.Serial, Node: d.Node, KeyRef: name, Certificate: cert.DER,
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, CreatedAt: d.Now(),
		})
	}
	if err == nil {
		err = d.use(ca, cert.DER, key)
	}
	if err != nil {
		err = errors.Join(err, key.Close())
		if d.Key == "" {
			err = errors.Join(err, os.Remove(filepath.Join(d.Dir, name)))
		}
		return err
	}
	d.Log.InfoContext(ctx, "responder certificate issued", "issuer", d.IssuerID, "serial", cert.Serial, "not_after", cert.NotAfter)
	d.sweep(name)
	return nil
}

// newKey returns the key of a new certificate, and its name.
func (d *Delegate) newKey(ctx context.Context, id string) (name string, key *keys.Key, err error) {
	if d.Key != "" {
		key, err = d.open(ctx, "")
		return string(d.Key), key, err
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make folder of the keys: %w", err)
	}
	name = d.IssuerID + "." + id + ".key"
	made, err := keys.Generate(d.ref(name), "ec-p256", d.Secret)
	if err != nil {
		return "", nil, err
	}
	if err := made.Close(); err != nil {
		return "", nil, err
	}
	key, err = d.open(ctx, name)
	return name, key, err
}

// sweep removes the keys of former certificates. They are in memory for as long
// as they are needed.
func (d *Delegate) sweep(keep string) {
	found, err := filepath.Glob(filepath.Join(d.Dir, d.IssuerID+".*.key"))
	if err != nil {
		return
	}
	for _, path := range found {
		if filepath.Base(path) == keep || strings.Count(filepath.Base(path), ".") != 2 {
			continue
		}
		if err := os.Remove(path); err != nil {
			d.Log.Warn("the key of a former responder certificate cannot be removed", "file", path, "error", err)
		}
	}
}

// Close releases the keys.
func (d *Delegate) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, k := range d.retired {
		err = errors.Join(err, k.Close())
	}
	d.retired = nil
	if c := d.current.Swap(nil); c != nil {
		err = errors.Join(err, c.key.Close())
	}
	return err
}
