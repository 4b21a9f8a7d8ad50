package ceremony

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/files"
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
	UseKey    bool // take the key of a token that is there already instead of making one
	// NameConstraints bounds every name below the root; nil leaves them free.
	NameConstraints *profile.NameConstraints
}

// Root makes a self-signed CA in ca's folder, which must not hold one yet, and
// returns its certificate. A key that is there without a certificate, left by a
// ceremony that was interrupted, is used if the passphrase opens it.
func Root(ctx context.Context, ca CA, spec RootSpec) (*x509.Certificate, error) {
	now := ca.Now()
	if _, err := spec.template(nil, now); err != nil { // before a key is made
		return nil, fmt.Errorf("make root: %w", err)
	}
	if exists(ca.path(certFile)) {
		return nil, refuse("exists", "make root: %s holds a CA already", ca.Dir)
	}
	if err := ca.makeDirs(); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	key, err := ca.makeKey(ctx, spec.Algorithm, spec.UseKey)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	defer ca.giveBack(key) //nolint:errcheck // nothing is lost with it
	t, err := spec.template(key.Public(), now)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	der, err := selfSign(ctx, filepath.Base(ca.Dir), key, t)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	if err := ca.found(der); err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	return x509.ParseCertificate(der)
}

// found writes what makes a folder a CA's: an empty index, the number of the
// first list, and last the chain, so that a folder that has one is complete.
func (ca CA) found(chain ...[]byte) error {
	for _, f := range []struct{ name, text string }{{indexFile, ""}, {numberTxt, firstNumber + "\n"}} {
		if err := files.Write(ca.path(f.name), []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	return files.Write(ca.path(certFile), pki.EncodeChain(chain...), 0o444)
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

// makeKey makes the CA's key, or opens the one that is there: of a token only if
// take says so, for a label alone does not tell whose key it is.
func (ca CA) makeKey(ctx context.Context, alg string, take bool) (*keys.Key, error) {
	alg = offlineAlgorithm(alg)
	if err := calaw.CheckAlgorithm(alg, calaw.Offline); err != nil {
		return nil, err
	}
	inFile := ca.Key == "" && exists(ca.path(keyFile))
	var key *keys.Key
	var err error
	if inFile || take {
		key, err = ca.openKey(ctx)
	}
	if key == nil && !inFile {
		key, err = ca.borrow(func() (*keys.Key, error) { return keys.Generate(ca.key(), alg, ca.Secret) })
	}
	if err != nil {
		return nil, err
	}
	if got := pki.KeyAlgorithm(key.Public()); got != alg {
		return nil, errors.Join(refuse("key_type", "the key %s is %s, not %s", ca.key(), got, alg), ca.giveBack(key))
	}
	if ca.Key != "" {
		return key, nil
	}
	if err := os.Chmod(ca.path(keyFile), 0o400); err != nil { // G1-25
		return nil, errors.Join(fmt.Errorf("protect key: %w", err), ca.giveBack(key))
	}
	return key, nil
}
