package owncert

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// File keeps one certificate with its chain and its encrypted key in one PEM file,
// which is replaced in one step.
type File struct {
	Path   string
	Secret keys.Secret
	Log    *slog.Logger
}

// Load implements Storage. A file that cannot be read is replaced.
func (f File) Load(ctx context.Context, have []Generation) ([]Generation, error) {
	if len(have) > 0 {
		return have, nil
	}
	p, err := f.Read()
	if err == nil {
		return []Generation{{Pairs: []Pair{*p}}}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		f.Log.WarnContext(ctx, "a kept certificate cannot be used; a new one is issued", "file", f.Path, "error", err)
	}
	return nil, nil
}

// Read returns what the file holds.
func (f File) Read() (*Pair, error) {
	text, err := files.ReadSecret(f.Path)
	if err != nil {
		return nil, err
	}
	block, certs := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in it", f.Path)
	}
	key, err := keys.Decrypt(pem.EncodeToMemory(block), f.Secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	chain, err := pki.ParseChain(certs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	p := &Pair{Certificate: chain[0], Chain: chain[1:], Key: key}
	return p, p.match()
}

// Keep implements Storage.
func (f File) Keep(_ context.Context, all []Generation) ([]Generation, error) {
	p := all[0].Pairs[0]
	text, err := keys.Encrypt(p.Key, f.Secret)
	if err != nil {
		return nil, fmt.Errorf("keep certificate: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return nil, fmt.Errorf("keep certificate: %w", err)
	}
	if err := files.Write(f.Path, append(text, pki.EncodeChain(p.TLS().Certificate...)...), 0o600); err != nil {
		return nil, fmt.Errorf("keep certificate: %w", err)
	}
	return all[:1], nil
}

// match refuses a key that is not the certificate's.
func (p *Pair) match() error {
	if !pki.SameKey(p.Key.Public(), p.Certificate.PublicKey) {
		return errOtherKey
	}
	return nil
}

var errOtherKey = errors.New("the key is not the one of the certificate")

// Join makes a pair of a chain, root last or left out, and the key of its first
// certificate.
func Join(chain []*x509.Certificate, key crypto.Signer) (*Pair, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	p := &Pair{Certificate: chain[0], Chain: chain[1:], Key: key}
	return p, p.match()
}

// TLS returns the pair as a listener presents it. The root is left out: a client
// has it or does not trust it.
func (p *Pair) TLS() *tls.Certificate {
	out := &tls.Certificate{Certificate: [][]byte{p.Certificate.Raw}, PrivateKey: p.Key, Leaf: p.Certificate}
	for _, c := range p.Chain {
		if !pki.SelfIssued(c) {
			out.Certificate = append(out.Certificate, c.Raw)
		}
	}
	return out
}

// TLSWithRoot is TLS with the root, as far as it is kept: for clients that know it by
// its fingerprint.
func (p *Pair) TLSWithRoot() *tls.Certificate {
	out := &tls.Certificate{Certificate: [][]byte{p.Certificate.Raw}, PrivateKey: p.Key, Leaf: p.Certificate}
	for _, c := range p.Chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}
