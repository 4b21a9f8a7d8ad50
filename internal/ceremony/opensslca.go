package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
)

// ImportOpenSSL takes an offline CA over that was run with openssl ca: its key is
// encrypted anew, under ca.Secret, into ca's folder, which must not hold a CA
// yet; index, certificates, the last list and the numbers come along, so that
// what it signed can be revoked and its lists go on. The old folder is read only;
// destroying its key is the custodians' next step. An import that was interrupted
// is done again: the certificate is written last.
func ImportOpenSSL(ctx context.Context, ca CA, from opensslca.Source) (*opensslca.Folder, error) {
	f, err := ca.readForeign(from)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	if err := ca.takeOver(ctx, f, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return f, nil
}

// readForeign reads a CA that is to go into ca's folder.
func (ca CA) readForeign(from opensslca.Source) (*opensslca.Folder, error) {
	if ca.Key != "" {
		return nil, refuse("key_type", "a key that was in a file goes into the file %s, not into a token", keyFile)
	}
	if exists(ca.path(certFile)) {
		return nil, refuse("exists", "%s holds a CA already", ca.Dir)
	}
	here, err := os.Stat(ca.Dir)
	there, err2 := os.Stat(from.Dir)
	if err == nil && err2 == nil && os.SameFile(here, there) {
		return nil, refuse("exists", "%s is the folder that is read: the CA goes into another", ca.Dir)
	}
	from.Check = func(chain []*x509.Certificate) error { return standing(chain).Err() }
	return opensslca.Read(from)
}

// takeOver writes what was read: the key first, then what record writes, and the
// certificate last.
func (ca CA) takeOver(ctx context.Context, f *opensslca.Folder, record func() error) error {
	// Before anything is written: may it stand, and does the key make an issuer?
	if err := standing(f.Chain).Err(); err != nil {
		return err
	}
	if _, err := issuer.NewOffline(filepath.Base(ca.Dir), f.Chain, imported{f.Key}, issuer.Locations{}); err != nil {
		return err
	}
	if err := ca.makeDirs(); err != nil {
		return err
	}
	if err := ca.writeForeignKey(ctx, f.Key); err != nil {
		return err
	}
	if err := record(); err != nil {
		return err
	}
	if err := ca.writeNumbers(f); err != nil {
		return err
	}
	for _, c := range f.Issued {
		name := strings.ToUpper(string(pki.SerialFromBig(c.SerialNumber))) + ".pem"
		if err := files.Write(ca.path("newcerts/"+name), pki.EncodeChain(c.Raw), 0o444); err != nil {
			return err
		}
	}
	var chain [][]byte
	for _, c := range f.Chain {
		chain = append(chain, c.Raw)
	}
	return files.Write(ca.path(certFile), pki.EncodeChain(chain...), 0o444)
}

// writeNumbers writes the index, the last list and the numbers that come next.
func (ca CA) writeNumbers(f *opensslca.Folder) error {
	texts := map[string][]byte{
		indexFile: opensslca.FormatIndex(f.Index),
		numberTxt: []byte(hexNumber(f.CRLNumber) + "\n"),
	}
	if f.CRL != nil {
		texts[crlFile] = f.CRL.Raw
		texts[crlFile+".pem"] = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: f.CRL.Raw})
	}
	if f.Serial != nil { // for openssl; serials from here are random
		texts["serial"] = []byte(hexNumber(f.Serial) + "\n")
	}
	for name, text := range texts {
		if err := files.Write(ca.path(name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeForeignKey encrypts the key into the folder and opens it as every later act
// will. A file that an interrupted import left is taken if it holds the same key.
func (ca CA) writeForeignKey(ctx context.Context, key crypto.Signer) error {
	path := ca.path(keyFile)
	if !exists(path) {
		text, err := keys.Encrypt(key, ca.Secret)
		if err != nil {
			return err
		}
		if err := files.Write(path, text, 0o400); err != nil { // G1-25
			return err
		}
	}
	written, err := keys.Open(ctx, ca.key(), ca.Secret, keys.Config{})
	if err != nil {
		return err
	}
	if !pki.SameKey(written.Public(), key.Public()) {
		return errors.Join(refuse("exists", "%s holds another key", path), written.Close())
	}
	return written.Close()
}

// imported is a key in memory, for looking whether it makes an issuer.
type imported struct{ crypto.Signer }

func (i imported) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return i.Sign(rand.Reader, digest, opts)
}
