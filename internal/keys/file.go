package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/youmark/pkcs8"

	"github.com/privyseal/privyseal/internal/files"
)

const (
	pemEncrypted = "ENCRYPTED PRIVATE KEY" // RFC 7468, section 11
)

// kdf is the cost of every file that Generate writes. OpenSSL refuses scrypt
// beyond 32 MiB, which holds N at 16384; p raises the work instead.
var kdf = pkcs8.ScryptOpts{SaltSize: 16, CostParameter: scryptN, BlockSize: 8, ParallelizationParameter: 3}

// fileKey is a private key that was read from an encrypted file.
type fileKey struct{ signer crypto.Signer }

func (f fileKey) Public() crypto.PublicKey { return f.signer.Public() }
func (f fileKey) Close() error             { return nil }

func (f fileKey) Sign(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return f.signer.Sign(rand.Reader, digest, opts)
}

// generateFile makes a key, writes it encrypted and returns it.
func generateFile(path, alg string, secret Secret) (fileKey, error) {
	if _, err := os.Lstat(path); err == nil {
		return fileKey{}, fmt.Errorf("generate key: %s exists and is not overwritten", path)
	}
	signer, err := Make(alg)
	if err != nil {
		return fileKey{}, err
	}
	text, err := Encrypt(signer, secret)
	if err != nil {
		return fileKey{}, fmt.Errorf("generate key %s: %w", path, err)
	}
	if err := writeNew(path, text); err != nil {
		return fileKey{}, fmt.Errorf("generate key: %w", err)
	}
	return fileKey{signer}, nil
}

// Encrypt returns a private key as PEM of a PBES2-encrypted PKCS#8 (RFC 5958),
// which openssl reads too. An empty passphrase is refused.
func Encrypt(key crypto.Signer, secret Secret) ([]byte, error) {
	pass, err := passphrase(secret)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	der, err := pkcs8.MarshalPrivateKey(key, pass, &pkcs8.Opts{Cipher: pkcs8.AES256CBC, KDFOpts: kdf})
	if err != nil {
		return nil, fmt.Errorf("encrypt key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: der}), nil
}

func passphrase(secret Secret) ([]byte, error) {
	if secret == nil {
		return nil, errors.New("a passphrase is needed and none is configured")
	}
	pass, err := secret()
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	if len(pass) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	return pass, nil
}

// writeNew writes a file that must not exist yet, all or nothing.
func writeNew(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Link(tmp.Name(), path); err != nil { // fails where path exists
		return fmt.Errorf("write %s: %w", path, err)
	}
	return files.SyncDir(dir)
}

// openFile reads and decrypts a key file.
func openFile(path string, secret Secret) (fileKey, error) {
	text, err := files.ReadSecret(path)
	if err != nil {
		return fileKey{}, fmt.Errorf("open key: %w", err)
	}
	signer, err := Decrypt(text, secret)
	if err != nil {
		return fileKey{}, fmt.Errorf("open key %s: %w", path, err)
	}
	return fileKey{signer}, nil
}
