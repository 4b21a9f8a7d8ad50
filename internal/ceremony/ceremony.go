// Package ceremony holds the acts of an offline CA over a folder: make a root,
// sign a CA below it, revoke, publish the list. `privyseal dev` performs them for
// its small hierarchy, the offline tool for the real ones.
//
// There is no store and no network. The folder has the layout that OpenSSL's CA
// guides use, so that openssl can read it, and carry on with it in an emergency:
//
//	private/ca.key    the CA's key, encrypted (folder 0700, file 0400)
//	certs/ca.pem      the CA's certificate, then those above it
//	newcerts/         every certificate that was signed, SERIAL.pem
//	csr/              every request that was signed, SERIAL.pem
//	crl/ca.crl        the newest list, DER; ca.crl.pem is the same
//	index.txt         what was signed and what is revoked
//	crlnumber         the number of the next list, hexadecimal
//
// Unlike the guides' folders there is no serial file: serials are random.
//
// Certificates and lists are made by issuer alone, which lints each under a
// throw-away signature before the key is used. What is about to be signed is on
// record first: the line in index.txt, the number in crlnumber.
package ceremony

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// CA is a CA's folder and what opens its key.
type CA struct {
	Dir    string           // the folder
	Key    keys.Ref         // the CA's key; empty is the file private/ca.key in the folder
	Secret keys.Secret      // passphrase or PIN of the key
	Now    func() time.Time // the clock
	// Record, if set, is told the serial of every certificate after its draft has
	// passed the linter and before the key is used; its error stops the act.
	Record func(pki.Serial) error
	// Listed, if set, is the number of the newest list that the transcript knows.
	Listed *big.Int

	shared openKeys    // where keys stay open; nil: each act opens and closes its own
	retry  func() bool // whether another passphrase may be tried after a wrong one; nil: no
}

// openKeys are keys that stay open while a ceremony lasts, so that a passphrase is
// stretched and a token logged in to only once.
type openKeys map[keys.Ref]*keys.Key

// borrow returns the CA's key from those that are open, or what open returns.
func (ca CA) borrow(open func() (*keys.Key, error)) (*keys.Key, error) {
	if key := ca.shared[ca.key()]; key != nil {
		return key, nil
	}
	key, err := open()
	if err == nil && ca.shared != nil {
		ca.shared[ca.key()] = key
	}
	return key, err
}

// giveBack closes a key that does not stay open.
func (ca CA) giveBack(key *keys.Key) error {
	if ca.shared != nil {
		return nil
	}
	return key.Close()
}

// openKey opens the CA's key. The caller gives it back.
func (ca CA) openKey(ctx context.Context) (*keys.Key, error) {
	return ca.borrow(func() (*keys.Key, error) {
		for {
			key, err := keys.Open(ctx, ca.key(), ca.Secret, keys.Config{})
			if !errors.Is(err, keys.ErrWrongPassphrase) || ca.retry == nil || !ca.retry() {
				return key, err
			}
		}
	})
}

func (k openKeys) close() error {
	var err error
	for _, key := range k {
		err = errors.Join(err, key.Close())
	}
	return err
}

// Names of what a folder holds.
const (
	keyFile   = "private/ca.key"
	certFile  = "certs/ca.pem"
	crlFile   = "crl/ca.crl"
	indexFile = "index.txt"
	numberTxt = "crlnumber"
)

func (ca CA) path(name string) string { return filepath.Join(ca.Dir, filepath.FromSlash(name)) }

func (ca CA) key() keys.Ref {
	if ca.Key != "" {
		return ca.Key
	}
	return keys.Ref("file:" + ca.path(keyFile))
}

// Chain returns the CA's certificate and those above it, root last.
func (ca CA) Chain() ([]*x509.Certificate, error) {
	text, err := os.ReadFile(ca.path(certFile))
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate %s: %w", ca.path(certFile), err)
	}
	return chain, nil
}

// open returns the CA as an issuer, if what exists of it may do what is asked. The
// caller gives the key back.
func (ca CA) open(
	ctx context.Context, loc issuer.Locations, may func(calaw.Verdict) error,
) (*issuer.Issuer, *keys.Key, error) {
	chain, err := ca.Chain()
	if err != nil {
		return nil, nil, err
	}
	if err := may(standing(chain)); err != nil {
		return nil, nil, err
	}
	key, err := ca.openKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	i, err := issuer.NewOffline(filepath.Base(ca.Dir), chain, key, loc)
	if err != nil {
		return nil, nil, errors.Join(err, ca.giveBack(key))
	}
	return i, key, nil
}

// standing is the verdict on a CA at no time in particular: what it signs is held
// against its validity, and a CA that has expired still publishes lists.
func standing(chain []*x509.Certificate) calaw.Verdict {
	v := calaw.Foreign(chain, chain[0].NotBefore)
	v.NotNow = nil
	return v
}

// makeDirs makes the folders that are not there yet.
func (ca CA) makeDirs() error {
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{
		{"", 0o755}, {"certs", 0o755}, {"crl", 0o755}, {"newcerts", 0o755}, {"csr", 0o755}, {"private", 0o700},
	} {
		if err := os.MkdirAll(ca.path(d.name), d.mode); err != nil {
			return fmt.Errorf("make CA folder: %w", err)
		}
	}
	// MkdirAll leaves a folder that is there already as it is.
	if err := os.Chmod(ca.path("private"), 0o700); err != nil { //nolint:gosec // a folder
		return fmt.Errorf("make CA folder: %w", err)
	}
	return nil
}

// refuse is the fault of an act that the rules of the ceremony forbid.
func refuse(reason, format string, args ...any) error {
	return fault.New(fault.Denied, format, args...).Because(reason)
}
