package ceremony

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// RootSpec says what root is to be made.
type RootSpec struct {
	Subject   string // RFC 4514: "CN=Example Root,O=Example,C=DE"
	Algorithm string // "ec-p384" (default) or "rsa-4096"
	Years     int    // calendar years; default 20, more than 25 only with Override
	Override  bool   // the ceremony's custodians accept more than 25 years
	NotBefore time.Time
	// NameConstraints bounds every name below the root; nil leaves them free.
	NameConstraints *profile.NameConstraints
}

// Root makes a self-signed CA in ca's folder, which must not hold one yet, and
// returns its certificate. A key that is there without a certificate, left by a
// ceremony that was interrupted, is used if the passphrase opens it.
func Root(ctx context.Context, ca CA, spec RootSpec) (*x509.Certificate, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	if exists(ca.path(certFile)) {
		return nil, refuse("exists", "make root: %s holds a CA already", ca.Dir)
	}
	if err := ca.makeDirs(); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	key, err := ca.makeKey(ctx, spec.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	defer key.Close() //nolint:errcheck // a file's key has nothing to release
	t, err := spec.template(key.Public(), ca.Now())
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	der, err := selfSign(ctx, filepath.Base(ca.Dir), key, t)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	// The certificate is written last: a folder that has one is complete.
	for _, f := range []struct{ name, text string }{{indexFile, ""}, {numberTxt, firstNumber + "\n"}} {
		if err := writeFile(ca.path(f.name), []byte(f.text), 0o644); err != nil {
			return nil, fmt.Errorf("make root: %w", err)
		}
	}
	if err := writeFile(ca.path(certFile), pki.EncodeChain(der), 0o444); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	return x509.ParseCertificate(der)
}

// selfSign makes the certificate by the same two steps as every other one.
func selfSign(ctx context.Context, id string, key *keys.Key, t *profile.Template) ([]byte, error) {
	i, err := issuer.SelfSigned(id, t.RawSubject, key)
	if err != nil {
		return nil, err
	}
	d, err := i.Draft(t, pki.NewSerial())
	if err != nil {
		return nil, err
	}
	return i.Sign(ctx, d)
}

// makeKey makes the CA's key, or opens the one that is there.
func (ca CA) makeKey(ctx context.Context, alg string) (*keys.Key, error) {
	switch alg {
	case "":
		alg = "ec-p384"
	case "ec-p384", "rsa-4096":
	default:
		return nil, refuse("key_type", "a root's key is ec-p384 or rsa-4096, not %s", alg)
	}
	path := ca.path(keyFile)
	key, err := ca.takeKey(ctx, alg)
	if err != nil {
		return nil, err
	}
	if got := pki.KeyAlgorithm(key.Public()); got != alg {
		return nil, errors.Join(refuse("key_type", "the key in %s is %s, not %s", path, got, alg), key.Close())
	}
	if ca.Key != "" {
		return key, nil
	}
	if err := os.Chmod(path, 0o400); err != nil { // G1-25
		return nil, errors.Join(fmt.Errorf("protect key: %w", err), key.Close())
	}
	return key, nil
}

func (ca CA) takeKey(ctx context.Context, alg string) (*keys.Key, error) {
	if ca.Key == "" && exists(ca.path(keyFile)) {
		return keys.Open(ctx, ca.key(), ca.Secret, keys.Config{})
	}
	return keys.Generate(ca.key(), alg, ca.Secret)
}
