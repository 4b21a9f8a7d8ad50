package owncert

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Folder keeps the responder certificates of one issuer and one node: on record in
// the database, with a key of its own for each in a folder of the node, or with
// one in a token.
type Folder struct {
	IssuerID string
	Node     string
	Dir      string // made if it is missing
	Secret   keys.Secret
	Keys     keys.Config // of keys in Dir
	Token    *Token      // as in Config
	Store    *store.Store
	Now      func() time.Time
	Log      *slog.Logger
}

// Load implements Storage: the newest certificate of this node whose key can be
// opened.
func (f *Folder) Load(ctx context.Context, have []Generation) ([]Generation, error) {
	if len(have) > 0 {
		return have, nil
	}
	records, err := f.Store.OCSPResponders(ctx, f.IssuerID)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if rec.Node != f.Node || !rec.NotAfter.After(f.Now()) || !f.ours(rec.KeyRef) {
			continue
		}
		p, err := f.open(ctx, rec)
		if err == nil {
			f.sweep(rec.KeyRef)
			return []Generation{{Made: rec.CreatedAt, Pairs: []Pair{*p}}}, nil
		}
		f.Log.WarnContext(ctx, "a responder certificate cannot be used", "issuer", f.IssuerID,
			"serial", rec.Serial, "error", err)
	}
	return nil, nil
}

func (f *Folder) open(ctx context.Context, rec store.OCSPResponder) (*Pair, error) {
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read responder certificate: %w", err)
	}
	p := &Pair{Certificate: cert, Ref: f.Token.ref()}
	if f.Token != nil {
		p.Key, err = f.Token.Open(ctx)
	} else {
		p.Key, err = keys.Open(ctx, f.ref(rec.KeyRef), f.Secret, f.Keys)
	}
	if err != nil {
		return nil, err
	}
	return p, p.match()
}

// ours reports whether a certificate's key is where the keys are now.
func (f *Folder) ours(name string) bool {
	if f.Token != nil {
		return name == string(f.Token.Ref)
	}
	return !strings.Contains(name, ":")
}

func (f *Folder) ref(name string) keys.Ref {
	return keys.Ref("file:" + filepath.Join(f.Dir, filepath.Base(name)))
}

// Keep implements Storage. Answers that a former certificate signed stay valid;
// its key is needed no more.
func (f *Folder) Keep(ctx context.Context, all []Generation) ([]Generation, error) {
	p, name := all[0].Pairs[0], string(f.Token.ref())
	if f.Token == nil {
		name = f.IssuerID + "." + p.ID + ".key"
		if err := os.MkdirAll(f.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder of the keys: %w", err)
		}
		if err := keys.Save(f.ref(name), p.Key, f.Secret); err != nil {
			return nil, err
		}
		p.Key = keys.Hold(f.ref(name), p.Key, f.Keys)
	}
	c := p.Certificate
	if err := f.Store.PutOCSPResponder(ctx, store.OCSPResponder{
		CertificateID: p.ID, IssuerID: f.IssuerID, Serial: pki.SerialFromBig(c.SerialNumber), Node: f.Node,
		KeyRef: name, Certificate: c.Raw, NotBefore: c.NotBefore, NotAfter: c.NotAfter, CreatedAt: f.Now(),
	}); err != nil {
		if f.Token == nil {
			err = errors.Join(err, os.Remove(filepath.Join(f.Dir, name)))
		}
		return nil, err
	}
	f.sweep(name)
	return []Generation{{Made: all[0].Made, Pairs: []Pair{p}}}, nil
}

// sweep removes the keys of former certificates. They are in memory for as long
// as they are needed.
func (f *Folder) sweep(keep string) {
	found, err := filepath.Glob(filepath.Join(f.Dir, f.IssuerID+".*.key"))
	if err != nil {
		return
	}
	for _, path := range found {
		if filepath.Base(path) == keep || strings.Count(filepath.Base(path), ".") != 2 {
			continue
		}
		if err := os.Remove(path); err != nil {
			f.Log.Warn("the key of a former responder certificate cannot be removed", "file", path, "error", err)
		}
	}
}
