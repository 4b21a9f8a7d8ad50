package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
)

// generators makes a key of each algorithm that Generate knows, by the words
// that configuration and metrics use.
var generators = map[string]func() (crypto.Signer, error){
	"ec-p256":  func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"ec-p384":  func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"ec-p521":  func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
	"rsa-2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"rsa-3072": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"rsa-4096": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	"ed25519": func() (crypto.Signer, error) {
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		return priv, err
	},
}

// algorithms lists the words in the order in which errors show them.
const algorithms = "ec-p256, ec-p384, ec-p521, rsa-2048, rsa-3072, rsa-4096 or ed25519"

// Make makes a private key of the named algorithm in memory: whoever calls keeps it.
func Make(alg string) (crypto.Signer, error) {
	gen, ok := generators[alg]
	if !ok {
		return nil, fmt.Errorf("generate key: algorithm %q: want %s", alg, algorithms)
	}
	signer, err := gen()
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return signer, nil
}

// checkInput refuses, before any backend sees it, what no CA signs: a hash below
// SHA-256, a digest of another length than its hash (rule X16). Its errors wrap
// ErrNotSigned.
func checkInput(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) error {
	if opts == nil {
		return fmt.Errorf("%w: no hash is named", ErrNotSigned)
	}
	hash := opts.HashFunc()
	switch pub.(type) {
	case ed25519.PublicKey:
		if hash != 0 {
			return fmt.Errorf("%w: Ed25519 signs the message itself, not its %s", ErrNotSigned, hash)
		}
		return nil
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return fmt.Errorf("%w: key of type %T", ErrNotSigned, pub)
	}
	switch hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return fmt.Errorf("%w: hash %s: want SHA-256, SHA-384 or SHA-512", ErrNotSigned, hash)
	}
	if len(digest) != hash.Size() {
		return fmt.Errorf("%w: digest of %d octets for %s", ErrNotSigned, len(digest), hash)
	}
	return nil
}

// keepAliveInput returns what KeepAlive signs with a key of this type.
func keepAliveInput(pub crypto.PublicKey) ([]byte, crypto.SignerOpts) {
	if _, ok := pub.(ed25519.PublicKey); ok {
		return []byte(keepAlive), crypto.Hash(0)
	}
	sum := sha256.Sum256([]byte(keepAlive))
	return sum[:], crypto.SHA256
}

// verify checks a signature that the key itself has made.
func verify(pub crypto.PublicKey, digest []byte, hash crypto.Hash, sig []byte) error {
	ok := false
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, digest, sig)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(pub, digest, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
	}
	if !ok {
		return errors.New("the key returned a signature that does not verify")
	}
	return nil
}
