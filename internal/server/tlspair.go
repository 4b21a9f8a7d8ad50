package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/est"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// pair returns the certificate that a TLS listener is to present: from the files
// that the configuration names, or our own.
func (h *house) pair(ctx context.Context, cfg *config.File, name string, t config.TLS) (*tls.Certificate, error) {
	if t.Certificate != "" {
		return h.pairFromFiles(ctx, cfg, name, t)
	}
	file := pairFile{path: filepath.Join(cfg.State.Dir, "tls", name+".pem"), secret: cfg.State.Passphrase.Secret(cfg.Dir)}
	have, err := file.read()
	if err == nil && h.usable(have, cfg, t) {
		return have, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.WarnContext(ctx, "the kept TLS certificate cannot be used; a new one is issued", "listener", name, "error", err)
	}
	return h.issuePair(ctx, file, t)
}

func (h *house) pairFromFiles(ctx context.Context, cfg *config.File, name string, t config.TLS) (*tls.Certificate, error) {
	chain, err := config.ReadChain(t.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := h.openKey(ctx, cfg, name, t.Key, t.Passphrase)
	if err != nil {
		return nil, err
	}
	return makePair(chain, key)
}

// makePair joins a chain and its key. The root is left out: a client has it or
// does not trust it.
func makePair(chain []*x509.Certificate, key crypto.Signer) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, errors.New("the key is not the one of the certificate")
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for i, c := range chain {
		if i == 0 || !bytes.Equal(c.RawSubject, c.RawIssuer) {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
	}
	return pair, nil
}

// usable reports whether a kept pair still is what the configuration asks for,
// from an issuer that we still have, with a third of its life left.
func (h *house) usable(pair *tls.Certificate, cfg *config.File, t config.TLS) bool {
	if !renewAt(pair.Leaf).After(h.now()) {
		return false
	}
	if t.Profile == config.ESTServerProfile && !slices.ContainsFunc(pair.Leaf.UnknownExtKeyUsage, est.IsRA) {
		return false // made before EST was
	}
	ids := h.signing.Load().cas().Behind(t.Issuer)
	at := slices.IndexFunc(ids, func(c *ca.CA) bool {
		return c.Installed() && pki.CertifiedBy(pair.Leaf, c.Certificate()) == nil
	})
	if at < 0 {
		return false
	}
	if len(pair.Leaf.IssuingCertificateURL) == 0 || pair.Leaf.IssuingCertificateURL[0] != ids[at].Locations.CAIssuers {
		return false // the public URL has changed
	}
	names := len(pair.Leaf.DNSNames) + len(pair.Leaf.IPAddresses)
	return names == len(t.Names) && !slices.ContainsFunc(t.Names, func(n string) bool { return pair.Leaf.VerifyHostname(n) != nil })
}

// renewAt is when two thirds of a certificate's life are over.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// issuePair makes a key and asks the one door for its certificate.
func (h *house) issuePair(ctx context.Context, file pairFile, t config.TLS) (*tls.Certificate, error) {
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	names, err := t.Identifiers()
	if err != nil {
		return nil, err
	}
	cert, err := h.pipeline.Issue(ctx, issuance.Request{
		Protocol: "server", Profile: t.Profile, Issuer: t.Issuer, Origin: "request:" + store.NewID(),
		PublicKey: fresh.Public(), Subject: commonName(names), Names: names, Requester: "server",
	})
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseChain(pki.EncodeChain(append([][]byte{cert.DER}, cert.Chain...)...))
	if err != nil {
		return nil, err
	}
	pair, err := makePair(chain, fresh)
	if err != nil {
		return nil, err
	}
	return pair, file.write(pair)
}

// commonName is the first DNS name, which old clients show.
func commonName(names []pki.Identifier) *pki.Name {
	subject := pki.Name{}
	if i := slices.IndexFunc(names, func(n pki.Identifier) bool { return n.Type == pki.DNS && len(n.Value) <= 64 }); i >= 0 {
		subject = pki.CommonNameOnly(names[i].Value)
	}
	return &subject
}

// pairFile keeps a certificate and its encrypted key in one PEM file, which is
// replaced in one step.
type pairFile struct {
	path   string
	secret keys.Secret
}

func (f pairFile) read() (*tls.Certificate, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	block, certs := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in it", f.path)
	}
	key, err := keys.Decrypt(pem.EncodeToMemory(block), f.secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	chain, err := pki.ParseChain(certs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return makePair(chain, key)
}

func (f pairFile) write(pair *tls.Certificate) error {
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("keep TLS certificate: the key cannot be kept")
	}
	text, err := keys.Encrypt(signer, f.secret)
	if err != nil {
		return fmt.Errorf("keep TLS certificate: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("keep TLS certificate: %w", err)
	}
	return writeFile(f.path, append(text, pki.EncodeChain(pair.Certificate...)...), 0o600)
}
