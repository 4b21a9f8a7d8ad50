package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/titanous/rocacheck"

	"github.com/privyseal/privyseal/internal/fault"
)

// maxRSA is the largest modulus that anything here computes with.
const maxRSA = 8192

// KeyPolicy says which public keys are accepted. The zero value accepts none.
type KeyPolicy struct {
	RSAMin, RSAMax int      // modulus length in bits; RSAMax 0 refuses RSA
	Curves         []string // names as crypto/elliptic has them: "P-256"
	Ed25519        bool
}

// DefaultLeafKeys is what a profile accepts unless it says otherwise.
func DefaultLeafKeys() KeyPolicy {
	return KeyPolicy{RSAMin: 2048, RSAMax: maxRSA, Curves: []string{"P-256", "P-384"}}
}

// AccountKeys is what may sign for an account (rule A16).
func AccountKeys() KeyPolicy {
	return KeyPolicy{RSAMin: 2048, RSAMax: 4096, Curves: []string{"P-256", "P-384", "P-521"}, Ed25519: true}
}

// KeyAlgorithm returns the word for a key's kind in configuration, metrics and
// flags: "ec-p256", "rsa-3072", "ed25519"; "unknown" for anything else.
func KeyAlgorithm(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == nil {
			return "unknown"
		}
		return "ec-" + strings.ReplaceAll(strings.ToLower(k.Curve.Params().Name), "-", "")
	case *rsa.PublicKey:
		if k.N == nil {
			return "unknown"
		}
		return fmt.Sprintf("rsa-%d", k.N.BitLen())
	case ed25519.PublicKey:
		return "ed25519"
	}
	return "unknown"
}

// SameKey reports whether two public keys are equal.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// badKey is the fault of a key that is refused.
func badKey(reason, format string, args ...any) error {
	return fault.New(fault.BadPublicKey, format, args...).Because(reason)
}

// CheckKey refuses keys that the policy does not allow and keys that are known
// to be breakable, with a BadPublicKey fault (rule X13).
func CheckKey(pub crypto.PublicKey, policy KeyPolicy) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == nil || !slices.Contains(policy.Curves, k.Curve.Params().Name) {
			return badKey("key_type", "public key %s: this curve is not accepted", KeyAlgorithm(pub))
		}
		// ECDH checks that the point is on the curve and not at infinity.
		if _, err := k.ECDH(); err != nil {
			return badKey("key_invalid", "public key %s: not a point of its curve", KeyAlgorithm(pub))
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(k, policy)
	case ed25519.PublicKey:
		if !policy.Ed25519 {
			return badKey("key_type", "public key ed25519: this kind is not accepted")
		}
		if len(k) != ed25519.PublicKeySize {
			return badKey("key_invalid", "public key ed25519: wrong length")
		}
		return nil
	}
	return badKey("key_type", "public key: its algorithm is not accepted")
}

func checkRSA(k *rsa.PublicKey, policy KeyPolicy) error {
	if policy.RSAMax == 0 {
		return badKey("key_type", "public key rsa: this kind is not accepted")
	}
	if k.N == nil || k.N.Sign() <= 0 {
		return badKey("key_invalid", "public key rsa: no modulus")
	}
	bits := k.N.BitLen()
	switch {
	case bits < policy.RSAMin:
		return badKey("key_size", "public key rsa: %d bits, at least %d are wanted", bits, policy.RSAMin)
	case bits > min(policy.RSAMax, maxRSA):
		return badKey("key_size", "public key rsa: %d bits, at most %d are accepted", bits, min(policy.RSAMax, maxRSA))
	case bits%8 != 0:
		return badKey("key_size", "public key rsa: %d bits is not a whole number of octets", bits)
	case k.E < 65537 || k.E%2 == 0:
		return badKey("key_exponent", "public key rsa: the exponent must be odd and at least 65537")
	case k.N.Bit(0) == 0 || hasSmallFactor(k.N):
		return badKey("key_weak", "public key rsa: the modulus has a small factor")
	case rocacheck.IsWeak(k):
		return badKey("key_weak", "public key rsa: made by a generator with the ROCA flaw (CVE-2017-15361)")
	case closePrimes(k.N, fermatRounds):
		return badKey("key_weak", "public key rsa: its two primes are too close to each other")
	}
	return nil
}

// smallPrimes is the product of the odd primes below 752, the bound that
// Boulder's and the CA/Browser Forum's test share.
var smallPrimes = primorial(752)

func primorial(limit int64) *big.Int {
	product := big.NewInt(1)
	for n := int64(3); n < limit; n += 2 {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
}

func hasSmallFactor(n *big.Int) bool {
	rest := new(big.Int).Mod(smallPrimes, n)
	if rest.Sign() == 0 {
		return true
	}
	return new(big.Int).GCD(nil, nil, n, rest).Cmp(big.NewInt(1)) != 0
}

const fermatRounds = 110

// closePrimes runs rounds of Fermat's factorisation: n = a²−b² with a just
// above √n finds primes that were picked next to each other.
func closePrimes(n *big.Int, rounds int) bool {
	one := big.NewInt(1)
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) == 0 {
		return true
	}
	a.Add(a, one)
	b2 := new(big.Int).Mul(a, a)
	b2.Sub(b2, n)
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, one) // (a+1)² − a²
	root, square := new(big.Int), new(big.Int)
	two := big.NewInt(2)
	for range rounds {
		if maybeSquare(b2) {
			root.Sqrt(b2)
			if square.Mul(root, root).Cmp(b2) == 0 {
				return true
			}
		}
		b2.Add(b2, step)
		step.Add(step, two)
	}
	return false
}

// squares64 has a bit for every residue that a square can have modulo 64; most
// numbers are ruled out by it without a square root.
var squares64 = func() (set uint64) {
	for i := uint64(0); i < 64; i++ {
		set |= 1 << (i * i % 64)
	}
	return set
}()

func maybeSquare(n *big.Int) bool {
	words := n.Bits()
	if len(words) == 0 {
		return true
	}
	return squares64>>(uint64(words[0])%64)&1 == 1
}
