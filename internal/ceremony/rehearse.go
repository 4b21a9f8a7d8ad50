package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// rehearse performs the acts of a file that are not done yet in a temporary
// folder: on copies of the CAs' public files, with throw-away keys in the place of
// the real ones, through the same functions. Whatever the rules or the linter
// refuse shows before a custodian is asked for anything, and what comes out is the
// plan that is shown.
func (r *run) rehearse(ctx context.Context) (_ []outcome, err error) {
	dir, err := os.MkdirTemp("", "privyseal-rehearsal-")
	if err != nil {
		return nil, fmt.Errorf("rehearse: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	held := openKeys{}
	defer held.close() //nolint:errcheck // they are thrown away
	s := &stage{file: r.file, in: r.in, cas: map[string]CA{}}
	for i := range r.file.CAs {
		name := r.file.CAs[i].Name
		ca := CA{
			Dir: filepath.Join(dir, name), Key: keys.Ref("file:throw-away-" + name), Now: r.now,
			shared: held, Listed: r.cas[name].Listed,
		}
		key, err := r.understudy(name, ca)
		if err != nil {
			return nil, fmt.Errorf("rehearse: %s: %w", name, err)
		}
		held[ca.Key] = keys.Hold(ca.Key, key, keys.Config{})
		s.cas[name] = ca
	}
	outcomes := make([]outcome, len(r.file.Acts))
	for n, act := range r.file.Acts {
		if r.journal.done(n) {
			continue
		}
		s.again, s.settled = r.journal.Pending != nil && r.journal.Pending.Act == n, nil
		if s.again {
			if s.settled, err = s.made(act); err != nil {
				return nil, err
			}
		}
		name, by := act.name()
		if outcomes[n], err = s.perform(ctx, act); err == nil {
			err = r.recordable(by, outcomes[n])
		}
		if err != nil {
			return nil, fmt.Errorf("act %d, %s: %w", n+1, name, err)
		}
	}
	return outcomes, nil
}

// understudy fills ca's folder with what the named CA's folder says and returns
// the throw-away key that stands in for its key. Where there is no CA yet the
// folder stays empty, and the key is of the kind that the CA will have.
func (r *run) understudy(name string, ca CA) (crypto.Signer, error) {
	if exists(r.cas[name].path(certFile)) {
		return r.cas[name].copyPublic(ca)
	}
	if r.algorithm(name) == "rsa-4096" {
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
}

// algorithm returns what kind of key the file's acts make for a CA.
func (r *run) algorithm(name string) string {
	for _, act := range r.file.Acts {
		switch {
		case act.Root != nil && act.Root.CA == name:
			return act.Root.Algorithm
		case act.SignCA != nil && act.SignCA.New == name:
			return act.SignCA.Algorithm
		}
	}
	return ""
}

// copyPublic makes a twin of the CA in to's folder: index, number and list as they
// are, and a chain that says the same with other keys. It returns the twin's key.
func (ca CA) copyPublic(to CA) (crypto.Signer, error) {
	if err := to.makeDirs(); err != nil {
		return nil, err
	}
	for _, name := range []string{indexFile, numberTxt, crlFile} {
		text, err := os.ReadFile(ca.path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("copy: %w", err)
		}
		if err := files.Write(to.path(name), text, 0o600); err != nil {
			return nil, err
		}
	}
	chain, err := ca.Chain()
	if err != nil {
		return nil, err
	}
	twins, key, err := twinChain(chain)
	if err != nil {
		return nil, err
	}
	return key, files.Write(to.path(certFile), pki.EncodeChain(twins...), 0o600)
}

// twinChain returns certificates that say what those of a chain say, each signed
// by a throw-away key in the place of the real one, and the key of the first.
func twinChain(chain []*x509.Certificate) (twins [][]byte, key crypto.Signer, err error) {
	var issuer *x509.Certificate
	var issuerKey crypto.Signer
	twins = make([][]byte, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		if key, err = twinKey(chain[i].PublicKey); err != nil {
			return nil, nil, err
		}
		template := *chain[i]
		template.ExtraExtensions, template.SignatureAlgorithm = chain[i].Extensions, x509.UnknownSignatureAlgorithm
		if issuer == nil {
			template.PublicKey = key.Public()
			issuer, issuerKey = &template, key
		}
		if twins[i], err = x509.CreateCertificate(rand.Reader, &template, issuer, key.Public(), issuerKey); err != nil {
			return nil, nil, fmt.Errorf("make a twin of %s: %w", chain[i].Subject, err)
		}
		if issuer, err = x509.ParseCertificate(twins[i]); err != nil {
			return nil, nil, fmt.Errorf("make a twin of %s: %w", chain[i].Subject, err)
		}
		issuerKey = key
	}
	return twins, key, nil
}

// twinKey returns a throw-away key of the type. For RSA the shortest that signs
// as a CA will do: making one of 4096 bits takes seconds.
func twinKey(pub crypto.PublicKey) (crypto.Signer, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve == nil {
			break
		}
		return ecdsa.GenerateKey(pub.Curve, rand.Reader)
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
}

// alike holds a certificate against the one that was rehearsed: everything but
// serial, times and what follows from other keys.
func alike(rehearsed, signed *x509.Certificate) error {
	for _, c := range []struct {
		what string
		same bool
	}{
		{"subject", bytes.Equal(rehearsed.RawSubject, signed.RawSubject)},
		{"issuer", bytes.Equal(rehearsed.RawIssuer, signed.RawIssuer)},
		{"number of extensions", len(rehearsed.Extensions) == len(signed.Extensions)},
	} {
		if !c.same {
			return fmt.Errorf("what was signed is not what was rehearsed: its %s differs", c.what)
		}
	}
	for i, e := range signed.Extensions {
		r := rehearsed.Extensions[i]
		byKey := e.Id.Equal(oidSubjectKeyID) || e.Id.Equal(oidAuthorityKeyID)
		if !e.Id.Equal(r.Id) || e.Critical != r.Critical || !byKey && !bytes.Equal(e.Value, r.Value) {
			return fmt.Errorf("what was signed is not what was rehearsed: its extension %s differs", e.Id)
		}
	}
	return nil
}

var oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
