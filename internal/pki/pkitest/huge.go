// Package pkitest makes keys for tests that nobody makes otherwise.
package pkitest

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"
	"slices"
)

// HugeKey is an RSA key of any size with a secret that is quick to find, so that
// what it signs verifies: its modulus is a power of one prime. It signs by
// RSASSA-PKCS1-v1_5 with SHA-256 and nothing else.
type HugeKey struct{ public rsa.PublicKey }

// prime is a Mersenne prime; exponent divides no prime-1 and is not prime.
var (
	prime    = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 61), big.NewInt(1))
	exponent = big.NewInt(65537)
)

// Huge returns the key of the largest size that has not more than bits.
func Huge(bits int) *HugeKey {
	power := int64(bits / prime.BitLen())
	return &HugeKey{rsa.PublicKey{N: new(big.Int).Exp(prime, big.NewInt(power), nil), E: int(exponent.Int64())}}
}

// Public returns an *rsa.PublicKey.
func (k *HugeKey) Public() crypto.PublicKey { return &k.public }

// sha256Prefix is the DigestInfo of SHA-256 before the digest (RFC 8017, section
// 9.2, note 1).
var sha256Prefix = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20}

// Sign signs a digest of SHA-256.
func (k *HugeKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != 32 {
		return nil, errors.New("a huge key signs SHA-256 only")
	}
	size := k.public.Size()
	info := slices.Concat(sha256Prefix, digest)
	padded := slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, size-len(info)-3), []byte{0}, info)
	root, err := k.root(new(big.Int).SetBytes(padded))
	if err != nil {
		return nil, err
	}
	return root.FillBytes(make([]byte, size)), nil
}

// root returns the number whose power by the exponent is m: that modulo the
// prime, lifted by Newton's method to twice as many digits at each step.
func (k *HugeKey) root(m *big.Int) (*big.Int, error) {
	one := big.NewInt(1)
	if new(big.Int).Mod(m, prime).Sign() == 0 {
		return nil, errors.New("the message is a multiple of the prime: sign another one")
	}
	inverse := new(big.Int).ModInverse(exponent, new(big.Int).Sub(prime, one))
	x, modulus := new(big.Int).Exp(m, inverse, prime), new(big.Int).Set(prime)
	for modulus.Cmp(k.public.N) < 0 {
		modulus.Mul(modulus, modulus)
		if modulus.Cmp(k.public.N) > 0 {
			modulus.Set(k.public.N)
		}
		power := new(big.Int).Exp(x, new(big.Int).Sub(exponent, one), modulus) // x^(e-1)
		miss := new(big.Int).Mul(power, x)
		miss.Sub(miss, m).Mod(miss, modulus)
		slope := power.Mul(power, exponent)
		miss.Mul(miss, slope.ModInverse(slope, modulus))
		x.Sub(x, miss).Mod(x, modulus)
	}
	return x, nil
}
