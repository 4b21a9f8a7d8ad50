// Package pki holds the value types of a public key infrastructure: serials,
// identifiers, reasons, key hashes, names, certificate requests, key checks and
// PEM chains. It does no I/O and decides no policy; it says what a thing is and
// whether it is well formed.
package pki

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// KeyHash is the SHA-256 of a DER SubjectPublicKeyInfo: how the store and the
// block list of compromised keys name a public key (rule X14).
type KeyHash [sha256.Size]byte

// HashKey returns the hash of a public key.
func HashKey(pub crypto.PublicKey) (KeyHash, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return KeyHash{}, fmt.Errorf("hash public key: %w", err)
	}
	return sha256.Sum256(spki), nil
}

// String returns the hash in lower-case hexadecimal.
func (h KeyHash) String() string { return hex.EncodeToString(h[:]) }
