package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// decrypter is a backend whose key can decrypt. Its errors need not say whether
// anything was decrypted: that harms nobody.
type decrypter interface {
	Decrypt(ctx context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error)
}

// errDecrypt is all that is said of a ciphertext that does not decrypt.
var errDecrypt = errors.New("the ciphertext does not decrypt with this key")

// Decrypt implements crypto.Decrypter within the key's own deadline.
func (k *Key) Decrypt(_ io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.DecryptContext(context.Background(), msg, opts)
}

// DecryptContext decrypts what was encrypted to an RSA key: opts is
// *rsa.PKCS1v15DecryptOptions or *rsa.OAEPOptions. With a SessionKeyLen a
// ciphertext that does not decrypt gives a random key and no error (RFC 3218,
// section 2.3.2), so that nobody learns from the answer. Deadline, queue and
// health are as for SignContext.
func (k *Key) DecryptContext(ctx context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d, ok := k.backend.(decrypter)
	pub, isRSA := k.public.(*rsa.PublicKey)
	if !ok || !isRSA {
		return nil, fmt.Errorf("decrypt with %s: a key of type %T does not decrypt", k.ref, k.public)
	}
	if len(msg) != pub.Size() {
		return nil, fmt.Errorf("decrypt with %s: %w", k.ref, errDecrypt)
	}
	return k.observed(ctx, "decrypt", func(ctx context.Context) ([]byte, error) {
		return d.Decrypt(ctx, msg, opts)
	})
}

// Decrypt lets Go's own implementation decrypt.
func (f fileKey) Decrypt(_ context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	d, ok := f.signer.(crypto.Decrypter)
	if !ok {
		return nil, errDecrypt
	}
	plain, err := d.Decrypt(rand.Reader, msg, opts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDecrypt, err)
	}
	return plain, nil
}

// decryptWith gives the session-key form of PKCS#1 v1.5 to a token, which has
// none. Tokens differ in how long a bad ciphertext takes them; the answer itself
// does not tell it from a good one.
func decryptWith(opts crypto.DecrypterOpts, token func(crypto.DecrypterOpts) ([]byte, error)) ([]byte, error) {
	raw := func(opts crypto.DecrypterOpts) ([]byte, error) {
		plain, err := token(opts)
		if says(err, padding) {
			err = fmt.Errorf("%w: %w", errDecrypt, err)
		}
		return plain, err
	}
	switch o := opts.(type) {
	case nil:
		return raw(&rsa.PKCS1v15DecryptOptions{}) //nolint:staticcheck // the mechanism of SCEP
	case *rsa.OAEPOptions:
		if o.MGFHash != 0 && o.MGFHash != o.Hash {
			return nil, fmt.Errorf("%w: OAEP with two different hashes is not supported", errDecrypt)
		}
		return raw(o)
	case *rsa.PKCS1v15DecryptOptions: //nolint:staticcheck // the mechanism of SCEP
		if o.SessionKeyLen == 0 {
			return raw(o)
		}
		return sessionKey(o.SessionKeyLen, raw)
	}
	return nil, fmt.Errorf("%w: options of type %T", errDecrypt, opts)
}

func sessionKey(size int, raw func(crypto.DecrypterOpts) ([]byte, error)) ([]byte, error) {
	key := make([]byte, size)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	plain, err := raw(&rsa.PKCS1v15DecryptOptions{}) //nolint:staticcheck // the mechanism of SCEP
	if err != nil && !errors.Is(err, errDecrypt) {
		return nil, err
	}
	good := subtle.ConstantTimeEq(int32(len(plain)), int32(size)) //nolint:gosec // both are at most a modulus
	padded := make([]byte, size)
	copy(padded, plain)
	subtle.ConstantTimeCopy(good, key, padded)
	return key, nil
}
