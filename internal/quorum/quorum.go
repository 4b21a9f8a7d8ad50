// Package quorum divides a secret among custodians so that any k of n of them
// restore it and fewer learn nothing of it (Shamir's scheme over GF(2^8)), and
// brings the shares onto paper and back.
//
// Split makes the shares and a Set, the public record that is kept beside what
// the secret opens. The Set holds a salted hash of every share and of the secret,
// so that a wrong, foreign or repeated share is named instead of yielding a wrong
// secret. A Share prints as a Sheet of five lines of words, each with a checksum,
// and ParseShare says which line was mistyped. Collector takes shares one by one.
//
// The secret is 32 random octets that stand for nothing but a key file's
// passphrase: keys makes the file, with Passphrase(secret). The package reads no
// file and has no clock.
package quorum

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
)

// SecretSize is the length of a secret and of a share's value, in octets.
const SecretSize = 32

// MaxShares is the largest n: the field has no more places.
const MaxShares = 255

// NewSecret returns a random secret.
func NewSecret() []byte {
	secret := make([]byte, SecretSize)
	_, _ = rand.Read(secret) // crypto/rand.Read never fails; it ends the process instead
	return secret
}

// Passphrase returns the secret as the passphrase of a key file: 64 lower-case
// hexadecimal digits, which openssl takes too.
func Passphrase(secret []byte) []byte {
	return hex.AppendEncode(nil, secret)
}

// Split divides a secret of SecretSize random octets into n shares of which any k
// restore it, 2 ≤ k ≤ n ≤ 255, and returns the record of the set with them.
// Each call makes another set, whose shares do not go with those of any other.
func Split(secret []byte, k, n int) (Set, []Share, error) {
	switch {
	case len(secret) != SecretSize:
		return Set{}, nil, fmt.Errorf("split secret: %d octets: want %d", len(secret), SecretSize)
	case k < 2:
		return Set{}, nil, fmt.Errorf("split secret: %d of %d shares: want at least 2, so that nobody holds the "+
			"secret alone", k, n)
	case n < k || n > MaxShares:
		return Set{}, nil, fmt.Errorf("split secret: %d of %d shares: want from %d to %d shares in all", k, n, k,
			MaxShares)
	}
	id := newID()
	shares := make([]Share, n)
	for i := range shares {
		shares[i] = Share{id: id, need: k, of: n, number: i + 1}
	}
	polynomial := make([]byte, k)
	defer clear(polynomial)
	for i, s := range secret {
		// The other coefficients are random, the highest too: one that were never
		// 0 would tell something about the secret.
		_, _ = rand.Read(polynomial)
		polynomial[0] = s
		for j := range shares {
			shares[j].value[i] = evaluate(polynomial, byte(j+1))
		}
	}
	set := newSet(id, k, shares, secret)
	// A fault of the machine must show before the secret is forgotten.
	for _, some := range [][]Share{shares[:k], shares[n-k:]} {
		again, err := Combine(set, some)
		if err != nil {
			return Set{}, nil, fmt.Errorf("split secret: check: %w", err)
		}
		clear(again)
	}
	return set, shares, nil
}

// Combine restores the secret from k or more shares of the set. Its errors name
// the share that is wrong, foreign or given twice, and say how many are missing.
func Combine(set Set, shares []Share) ([]byte, error) {
	if err := set.check(); err != nil {
		return nil, err
	}
	given := make(map[int]bool, len(shares))
	for _, s := range shares {
		if err := set.Check(s); err != nil {
			return nil, err
		}
		if given[s.number] {
			return nil, fmt.Errorf("share %d was given twice", s.number)
		}
		given[s.number] = true
	}
	if missing := set.Need - len(shares); missing > 0 {
		return nil, fmt.Errorf("%d of the %d shares that are needed: %d missing", len(shares), set.Need, missing)
	}
	secret := interpolate(shares[:set.Need])
	if got := set.commitment(0, secret); subtle.ConstantTimeCompare(got[:], set.Whole[:]) != 1 {
		clear(secret)
		return nil, fmt.Errorf("the shares of set %s do not make its secret: the record of the set is damaged", set.ID)
	}
	return secret, nil
}

// interpolate returns the polynomials' values at 0.
func interpolate(shares []Share) []byte {
	places := make([]byte, len(shares))
	for i, s := range shares {
		places[i] = byte(s.number)
	}
	secret := make([]byte, SecretSize)
	for i, w := range weights(places) {
		for j, y := range shares[i].value {
			secret[j] ^= mul(w, y)
		}
	}
	return secret
}

// hash is SHA-256 of the parts, of which only the last varies in length.
func hash(parts ...[]byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p) //nolint:errcheck // a hash never fails
	}
	h.Sum(sum[:0])
	return sum
}
