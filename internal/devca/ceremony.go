package devca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/seal"
)

// makeSecrets makes the secrets that DIR lacks.
func makeSecrets(dir string) error {
	folder := filepath.Join(dir, "secrets")
	for _, d := range []string{folder, filepath.Join(dir, "keys")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make secrets: %w", err)
		}
	}
	for name, fresh := range map[string]func() string{
		"issuer": newPassphrase, "audit": newPassphrase, "state": newPassphrase, "kek": seal.GenerateKEK,
		ChallengeFile: newPassphrase,
	} {
		file := filepath.Join(folder, name)
		if name == ChallengeFile {
			file = filepath.Join(dir, name) // for people to look at
		}
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := files.Write(file, []byte(fresh()+"\n"), 0o600); err != nil {
			return fmt.Errorf("make secrets: %w", err)
		}
	}
	return nil
}

// newPassphrase is 160 random bits in groups of letters and digits that a person
// can copy.
func newPassphrase() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	text := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	var groups []string
	for ; text != ""; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, "-")
}

// chainFile is written last: a folder that has it has held its ceremony.
const chainFile = "chain.pem"

// ceremony makes the root in DIR/offline, the issuing CA and the root's list. The
// passphrase of the root's key is shown and kept nowhere. A ceremony that was
// interrupted signed nothing that is in use and is held again from the beginning.
func (o *Options) ceremony(ctx context.Context, now func() time.Time, out io.Writer) error {
	if _, err := os.Stat(filepath.Join(o.Dir, chainFile)); err == nil {
		return nil
	}
	if err := o.hold(ctx, now, out); err != nil {
		return fmt.Errorf("hold ceremony: %w", err)
	}
	return nil
}

func (o *Options) hold(ctx context.Context, now func() time.Time, out io.Writer) error {
	passphrase := newPassphrase()
	offline := filepath.Join(o.Dir, "offline")
	if err := os.RemoveAll(offline); err != nil {
		return err
	}
	root := ceremony.CA{Dir: offline, Secret: literal(passphrase), Now: now}
	var names *profile.NameConstraints
	if !o.FreeNames {
		names = ceremony.PrivateNames()
	}
	if o.Tiers == 1 {
		return o.holdOneTier(ctx, now, offline, names)
	}
	rootCert, err := ceremony.Root(ctx, root, ceremony.RootSpec{
		Subject: "CN=Privyseal Development Root,O=Privyseal Development", NameConstraints: names,
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(offline, 0o700); err != nil { //nolint:gosec // a folder
		return err
	}
	issued, err := o.certifyIssuer(ctx, root)
	if err != nil {
		return err
	}
	audit, err := o.key(ctx, "audit", "audit")
	if err != nil {
		return err
	}
	list, err := ceremony.CRL(ctx, root, ceremony.CRLSpec{})
	if err != nil {
		return err
	}
	if err := errors.Join(
		audit.Close(),
		files.Write(filepath.Join(o.Dir, "root.pem"), pki.EncodeChain(rootCert.Raw), 0o644),
		files.Write(filepath.Join(o.Dir, "root.crl"), list, 0o644),
	); err != nil {
		return err
	}
	const said = "The passphrase of the root's key in %s is shown once and stored nowhere:\n\n  %s\n\n"
	if _, err := fmt.Fprintf(out, said, offline, passphrase); err != nil {
		return err
	}
	return files.Write(filepath.Join(o.Dir, chainFile), pki.EncodeChain(issued.Raw, rootCert.Raw), 0o644)
}

// certifyIssuer makes the key of the issuing CA and has the root certify it.
func (o *Options) certifyIssuer(ctx context.Context, root ceremony.CA) (*x509.Certificate, error) {
	key, err := o.key(ctx, Issuer, "issuer")
	if err != nil {
		return nil, err
	}
	csr, err := ceremony.NewRequest(key, "CN=Privyseal Development Issuing CA A1,O=Privyseal Development")
	if err = errors.Join(err, key.Close()); err != nil {
		return nil, err
	}
	base := "http://" + reachable(o.HTTP)
	return ceremony.SignCA(ctx, root, csr, ceremony.CASpec{
		Locations: issuer.Locations{CRL: base + "/crl/" + Root + ".crl", CAIssuers: base + "/issuers/" + Root + ".cer"},
	})
}

// key makes a P-256 key in DIR/keys, or opens the one that an interrupted start
// left.
func (o *Options) key(ctx context.Context, name, secret string) (*keys.Key, error) {
	file := filepath.Join(o.Dir, "keys", name+".key")
	ref, open := keys.Ref("file:"+file), config.Reference("file:secrets/"+secret).Secret(o.Dir)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return keys.Generate(ref, "ec-p256", open)
	}
	return keys.Open(ctx, ref, open, keys.Config{})
}

// literal is a secret that is kept nowhere. Its readers wipe what they get.
func literal(s string) keys.Secret { return func() ([]byte, error) { return []byte(s), nil } }
