// Package seal encrypts what a database must give back in clear: the secrets of
// EAB keys, private keys that all nodes share, the key of the nonces' MAC. It
// holds the format and the keys; who keeps a sealed secret has the row.
//
// It logs nothing, and no error of it holds a secret.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// KEKSize is the length of a key-encryption key in bytes.
const KEKSize = 32

// A sealed secret is version (1) | key id (8) | nonce (12) | AES-256-GCM
// ciphertext and tag. The version, the key id and the name under which the
// secret is kept are authenticated with it: a row copied onto another name, or
// onto another key, does not open.
const (
	version    = 1
	keyIDSize  = 8
	nonceSize  = 12
	headerSize = HeadSize + nonceSize
	tagSize    = 16
	domain     = "privyseal sealed secret\x00"
)

// Errors of Open. Neither says anything about the secret.
var (
	ErrFormat = errors.New("not a sealed secret of a known version")
	ErrKey    = errors.New("sealed under a key-encryption key that key_encryption does not have")
	ErrBroken = errors.New("sealed secret was altered or belongs to another name")
)

// Remedy is what to do when a key is missing.
const Remedy = "put its line back below the first one and restart; privyseal kek reseal makes it needless"

// KeyID names a key-encryption key without telling anything of it.
type KeyID [keyIDSize]byte

// String returns the id in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Sealer encrypts secrets for the database under a key-encryption key that the
// database does not hold. It is safe for concurrent use.
type Sealer struct {
	keys  []KEK // the first seals
	aeads map[KeyID]cipher.AEAD
	macs  map[KeyID][]byte // keys of MAC
}

// KEK is a key-encryption key that a Sealer has, without the key.
type KEK struct {
	ID   KeyID
	Line int // of the secret that Parse read, from 1; 0 if New made the Sealer
}

// New returns a Sealer that seals under kek and opens what was sealed
// under kek or any of older: to rotate, put the new key first, keep the old one
// until Stale is false for every row, which resealing sees to.
func New(kek []byte, older ...[]byte) (*Sealer, error) {
	s := &Sealer{aeads: make(map[KeyID]cipher.AEAD, 1+len(older)), macs: make(map[KeyID][]byte, 1+len(older))}
	for i, key := range append([][]byte{kek}, older...) {
		if len(key) != KEKSize {
			return nil, fmt.Errorf("key-encryption key %d: want %d bytes, have %d", i+1, KEKSize, len(key))
		}
		id := keyID(key)
		if _, twice := s.aeads[id]; twice {
			return nil, fmt.Errorf("key-encryption key %d: given twice", i+1)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("key-encryption key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key-encryption key %d: %w", i+1, err)
		}
		s.aeads[id], s.macs[id] = aead, macKey(key)
		s.keys = append(s.keys, KEK{ID: id})
	}
	return s, nil
}

// Keys returns the keys, the one that Seal uses first.
func (s *Sealer) Keys() []KEK { return slices.Clone(s.keys) }

// Has reports whether secrets that are sealed under a key can be opened.
func (s *Sealer) Has(id KeyID) bool { return s.aeads[id] != nil }

// Seal encrypts plain for the place called name, such as "eab:" and a kid.
func (s *Sealer) Seal(name string, plain []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(plain)+tagSize)
	out[0] = version
	current := s.keys[0].ID
	copy(out[1:], current[:])
	nonce := out[HeadSize:headerSize]
	_, _ = rand.Read(nonce) // never fails; it ends the process instead
	return s.aeads[current].Seal(out, nonce, plain, covered(out[:HeadSize], name))
}

// Open returns the secret that was sealed for name.
func (s *Sealer) Open(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+tagSize {
		return nil, fmt.Errorf("open secret %q: %w", name, ErrFormat)
	}
	id, err := KeyOf(sealed)
	if err != nil {
		return nil, fmt.Errorf("open secret %q: %w", name, err)
	}
	aead, ok := s.aeads[id]
	if !ok {
		return nil, fmt.Errorf("open secret %q: %w (%s): %s", name, ErrKey, id, Remedy)
	}
	nonce := sealed[HeadSize:headerSize]
	plain, err := aead.Open(nil, nonce, sealed[headerSize:], covered(sealed[:HeadSize], name))
	if err != nil {
		return nil, fmt.Errorf("open secret %q: %w", name, ErrBroken)
	}
	return plain, nil
}

// Stale reports whether sealed opens under a key other than the current one and
// so should be sealed again before that key is taken away.
func (s *Sealer) Stale(sealed []byte) bool {
	id, err := KeyOf(sealed)
	return err == nil && id != s.keys[0].ID
}

// GenerateKEK returns a new random key-encryption key as one line of text, the
// form that ParseKEKs reads.
func GenerateKEK() string {
	var key [KEKSize]byte
	_, _ = rand.Read(key[:])
	return base64.StdEncoding.EncodeToString(key[:])
}

// Parse reads the key-encryption keys of a secret file: one key per line in base64,
// the first seals. Empty lines and lines that begin with # are skipped. Its errors
// name the line, never its content.
func Parse(text []byte) (*Sealer, error) {
	var keys [][]byte
	var lines []int
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != KEKSize {
			return nil, fmt.Errorf("parse key-encryption keys: line %d: want %d bytes in base64", n+1, KEKSize)
		}
		keys, lines = append(keys, key), append(lines, n+1)
	}
	if len(keys) == 0 {
		return nil, errors.New("parse key-encryption keys: there is none")
	}
	s, err := New(keys[0], keys[1:]...)
	if err != nil {
		return nil, fmt.Errorf("parse key-encryption keys: %w", err)
	}
	for i := range s.keys {
		s.keys[i].Line = lines[i]
	}
	return s, nil
}

// keyID derives a key's id: a MAC of a constant under the key, so that the id
// reveals nothing of it and needs no configuration.
func keyID(key []byte) (id KeyID) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("privyseal kek id"))
	copy(id[:], mac.Sum(nil))
	return id
}

// HeadSize is how many octets of a sealed secret KeyOf reads.
const HeadSize = 1 + keyIDSize

// KeyOf returns the id of the key that a secret is sealed under. The beginning of the
// sealed secret will do.
func KeyOf(sealed []byte) (id KeyID, err error) {
	if len(sealed) < HeadSize || sealed[0] != version {
		return id, ErrFormat
	}
	copy(id[:], sealed[1:])
	return id, nil
}

// covered is the additional data that the tag covers.
func covered(header []byte, name string) []byte {
	data := make([]byte, 0, len(domain)+len(header)+len(name))
	data = append(data, domain...)
	data = append(data, header...)
	return append(data, name...)
}
