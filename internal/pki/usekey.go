package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// What an operation by a public key costs is up to who made the key: it grows
// with the square of an RSA modulus and with the length of the exponent. So a
// stranger's key is used through the functions here and nowhere else, which a
// test of the whole tree holds: first the size of the key is looked at, then the
// operation waits for its turn.

// usableCurves are those of crypto/elliptic; any other would be computed with in
// ways that are slow.
var usableCurves = []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()}

// Usable refuses, with a BadPublicKey fault, public keys that nothing is computed
// with: those of unknown kinds, and RSA keys of more than 8192 bits or an exponent
// that is even, less than 3 or more than 2^31-1. It is no judgement of a key's
// strength: see CheckKey.
func Usable(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch {
		case k == nil || k.N == nil || k.N.Sign() <= 0:
			return badKey("key_invalid", "public key rsa: no modulus")
		case k.N.BitLen() > maxRSA:
			return badKey("key_size", "public key rsa: %d bits, at most %d are accepted", k.N.BitLen(), maxRSA)
		case k.N.Bit(0) == 0:
			return badKey("key_weak", "public key rsa: the modulus has a small factor")
		case k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32:
			return badKey("key_exponent",
				"public key rsa: the exponent must be odd and between 3 and %d", math.MaxInt32)
		}
		return nil
	case *ecdsa.PublicKey:
		if k != nil && slices.Contains(usableCurves, k.Curve) {
			return nil
		}
		return badKey("key_type", "public key ec: its curve is not accepted")
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize { // crypto/ed25519 panics with others
			return nil
		}
		return badKey("key_invalid", "public key ed25519: wrong length")
	}
	return badKey("key_type", "public key: its algorithm is not accepted")
}

// keyWaiting is how many operations by strangers' keys may wait. The dearest one
// takes a few milliseconds, so the last in a full queue waits less than a second.
const keyWaiting = 256

// KeyUses is the queue of all operations by strangers' keys in this process: what
// they compete for is its processors.
var KeyUses = NewQueue(runtime.GOMAXPROCS(0), keyWaiting)

// UseKey runs an operation by a stranger's public key, such as the verification of
// a signature, if the key is Usable and when its turn comes. Its faults are
// BadPublicKey, Unavailable if too many wait or ctx ends first, and whatever the
// operation returns. An operation does not use another key: it has the turn.
func UseKey(ctx context.Context, key crypto.PublicKey, operation func() error) error {
	if err := Usable(key); err != nil {
		return err
	}
	var err error
	if busy := KeyUses.Do(ctx, func() { err = operation() }); busy != nil {
		return busy
	}
	return err
}

// CheckSignature verifies a signature by a stranger's key. Faults are those of
// UseKey; an error that is no fault is that of a signature that is not right.
func CheckSignature(
	ctx context.Context, key crypto.PublicKey, algorithm x509.SignatureAlgorithm, signed, signature []byte,
) error {
	holder := &x509.Certificate{PublicKey: key}
	return UseKey(ctx, key, func() error { return holder.CheckSignature(algorithm, signed, signature) })
}

// maxBetween is how many certificates of a client's are tried between its own and
// an anchor.
const maxBetween = 4

// Tried returns those of the certificates that a stranger sent beside its own that
// VerifyChain looks at.
func Tried(sent []*x509.Certificate) []*x509.Certificate { return sent[:min(len(sent), maxBetween)] }

// VerifyChain reports whether one of the roots certifies a stranger's certificate
// at a time, directly or by the others that the stranger sent, for any use. Of
// those, the first few with a Usable key count.
func VerifyChain(
	ctx context.Context, c *x509.Certificate, sent []*x509.Certificate, roots *x509.CertPool, at time.Time,
) error {
	between := x509.NewCertPool()
	for _, other := range Tried(sent) {
		if Usable(other.PublicKey) == nil {
			between.AddCert(other)
		}
	}
	return UseKey(ctx, c.PublicKey, func() error {
		_, err := c.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		return err
	})
}

// SignedBy reports whether the key of a certificate signed another one, as an
// operator, a ceremony or the records have it. It looks at nothing but the
// signature, and waits for no turn: it is not for what strangers send.
func SignedBy(c, issuer *x509.Certificate) error {
	if err := Usable(issuer.PublicKey); err != nil {
		return err
	}
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
}

// CertifiedBy is SignedBy that also wants the issuer to be a CA and the signature
// to be without SHA-1.
func CertifiedBy(c, issuer *x509.Certificate) error {
	if err := Usable(issuer.PublicKey); err != nil {
		return err
	}
	return c.CheckSignatureFrom(issuer)
}

// ListedBy is CertifiedBy for a revocation list.
func ListedBy(list *x509.RevocationList, issuer *x509.Certificate) error {
	if err := Usable(issuer.PublicKey); err != nil {
		return err
	}
	return list.CheckSignatureFrom(issuer)
}

// Queue bounds what is dear: so much of it at a time, so much waiting.
type Queue struct {
	slots   chan struct{} // a token for each that runs
	waiting chan struct{} // and one for each that runs or waits
}

// NewQueue returns a queue in which as many as parallel run and as many as waiting
// wait.
func NewQueue(parallel, waiting int) *Queue {
	return &Queue{make(chan struct{}, parallel), make(chan struct{}, parallel+waiting)}
}

// queueRetry is when a client that found a full queue should come back.
const queueRetry = 5 * time.Second

var errBusy = fault.New(fault.Unavailable, "too many requests at a time; try again in %d seconds",
	queueRetry/time.Second).Because("busy").After(queueRetry)

// Do runs f in its turn. Its fault is Unavailable, and f has not run, if too many
// wait already or ctx ends first.
func (q *Queue) Do(ctx context.Context, f func()) error {
	select {
	case q.waiting <- struct{}{}:
	default:
		return errBusy
	}
	defer func() { <-q.waiting }()
	select {
	case q.slots <- struct{}{}:
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, fmt.Errorf("wait for a turn: %w", context.Cause(ctx)), errBusy.Detail).
			Because(errBusy.Reason).After(queueRetry)
	}
	defer func() { <-q.slots }()
	f()
	return nil
}
