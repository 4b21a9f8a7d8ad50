// Package keys opens private keys wherever they live and signs with them.
//
// A key is named by a Ref: an encrypted PKCS#8 file, or an object in a PKCS#11
// token. Open hands out a *Key, a crypto.Signer that never lets a slow or dead
// backend pile up callers: each signature has a deadline, the callers that may
// wait are counted, and every failure says whether a signature may have been
// made (ErrNotSigned). The package does not know what it signs: issuer verifies
// each signature against the CA's certificate before it is released.
//
// It imports neither the store nor metrics; Config.Observe reports what happens.
package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// ErrNotSigned is in the chain of every error after which it is certain that no
// signature was made: the queue was full, the key was closed, the deadline
// passed while waiting, or the request itself was refused. Any other error from
// a signature leaves the outcome unknown.
var ErrNotSigned = errors.New("no signature was made")

// errDeadline is the cause of a context that ended by the key's own deadline, as
// against a caller who went away.
var errDeadline = errors.New("the key did not answer in time")

// Secret returns a passphrase or PIN when it is needed. The slice is wiped
// after use.
type Secret func() ([]byte, error)

// Config bounds the use of one key. The zero value takes the defaults.
type Config struct {
	// Deadline is how long one signature may take, waiting included; 0 is 10 s.
	Deadline time.Duration
	// Queue is how many callers may wait for the key; one more is turned away at
	// once. 0 is 256.
	Queue int
	// Observe, if set, is called after every operation. It must not block.
	Observe func(Event)
	// Now is the clock for Event.Duration; without it durations are zero.
	Now func() time.Time
	// Module is the PKCS#11 library to load for a pkcs11: reference that names
	// none itself, as an absolute path.
	Module string
	// Sessions is how many sessions all keys of a token use at most; 0 is 32. A token
	// that says that it has fewer is asked for no more.
	Sessions int
	// FinalTry sends a PIN although the token says that a wrong one would lock it.
	FinalTry bool
	// KeepAlive is how often a key in a token shows that it still signs; 0 is 30 s.
	// While it does not, it is asked every second, which is how it heals unused.
	KeepAlive time.Duration
}

// Event is one operation of a key, for metrics and logs. "pin" is none: its Err
// tells that a token with which all is well counts wrong PINs.
type Event struct {
	Ref      Ref
	Op       string        // "sign", "decrypt", "keepalive" or, of a token, "reconnect" or "pin", see below
	Duration time.Duration // waiting included
	Waiting  int           // callers in the queue afterwards
	Err      error         // nil on success
}

// backend is one place where a private key can live. Sign may block for as long
// as the device likes: Key bounds it from outside, and ends ctx when no caller
// waits any more. An error that wraps ErrNotSigned promises that the device made
// no signature.
type backend interface {
	Public() crypto.PublicKey
	Sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	Close() error
}

// Key is an open private key. Its methods may be called concurrently.
type Key struct {
	ref      Ref
	backend  backend
	public   crypto.PublicKey
	cfg      Config
	slots    chan struct{} // one token per operation that runs in the backend
	jobs     chan job      // to workers that wait for one
	waiting  atomic.Int64
	ailment  atomic.Pointer[error] // the last operation's failure; nil is health
	closing  chan struct{}
	closeKey sync.Once
}

// parallel is how many operations may run in a backend at a time. A file's are
// bound by the processor; a token's by its sessions.
const parallel = 16

// newKey puts the queue and the deadline in front of a backend.
func newKey(ref Ref, b backend, cfg Config) *Key {
	if cfg.Deadline <= 0 {
		cfg.Deadline = 10 * time.Second
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 256
	}
	if cfg.KeepAlive <= 0 {
		cfg.KeepAlive = 30 * time.Second
	}
	k := &Key{
		ref: ref, backend: b, cfg: cfg,
		slots: make(chan struct{}, parallel), jobs: make(chan job), closing: make(chan struct{}),
	}
	if b != nil {
		k.public = b.Public()
	}
	return k
}

// Ref returns the reference by which the key was opened.
func (k *Key) Ref() Ref { return k.ref }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer within the key's own deadline. The source of
// randomness is the backend's; rand is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.SignContext(context.Background(), digest, opts)
}

// SignContext signs a digest (RSA, ECDSA; opts names its hash) or a whole message
// (Ed25519; opts' hash is 0). It answers fault.Unavailable with RetryAfter when
// the queue is full or the deadline passes.
func (k *Key) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := checkInput(k.public, digest, opts); err != nil {
		return nil, fmt.Errorf("sign with %s: %w", k.ref, err)
	}
	return k.observed(ctx, "sign", func(ctx context.Context) ([]byte, error) {
		return k.backend.Sign(ctx, digest, opts)
	})
}

// operation is one use of the backend.
type operation func(ctx context.Context) ([]byte, error)

// observed runs one operation, keeps its result as the key's health and reports it.
func (k *Key) observed(ctx context.Context, op string, f operation) ([]byte, error) {
	var start time.Time
	if k.cfg.Now != nil {
		start = k.cfg.Now()
	}
	out, err := k.run(ctx, f)
	if k.cfg.Observe != nil {
		ev := Event{Ref: k.ref, Op: op, Waiting: int(k.waiting.Load()), Err: err}
		if k.cfg.Now != nil {
			ev.Duration = k.cfg.Now().Sub(start)
		}
		k.cfg.Observe(ev)
	}
	return out, err
}

func (k *Key) run(ctx context.Context, f operation) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, k.cfg.Deadline, errDeadline)
	defer cancel()
	if err := k.acquire(ctx); err != nil {
		return nil, err
	}

	done := make(chan result, 1)
	k.start(job{ctx, f, done})

	select {
	case r := <-done:
		if errors.Is(r.err, errDecrypt) {
			return nil, fmt.Errorf("use key %s: %w", k.ref, r.err) // the message's fault is not the key's
		}
		k.remember(r.err)
		if r.err != nil {
			return nil, k.unavailable(r.err, "the signing key failed")
		}
		return r.out, nil
	case <-ctx.Done():
		return nil, k.abandoned(ctx, nil)
	}
}

// acquire takes a slot in the backend or returns an error that wraps ErrNotSigned.
func (k *Key) acquire(ctx context.Context) error {
	select {
	case <-k.closing:
		return k.unavailable(fmt.Errorf("%w: the key is closed", ErrNotSigned), "the signing key is closed")
	default:
	}
	select {
	case k.slots <- struct{}{}:
		return nil
	default:
	}
	if k.waiting.Add(1) > int64(k.cfg.Queue) {
		k.waiting.Add(-1)
		return k.unavailable(fmt.Errorf("%w: %d callers wait already", ErrNotSigned, k.cfg.Queue),
			"the signing key is busy")
	}
	defer k.waiting.Add(-1)
	select {
	case k.slots <- struct{}{}:
		return nil
	case <-k.closing:
		return k.unavailable(fmt.Errorf("%w: the key is closed", ErrNotSigned), "the signing key is closed")
	case <-ctx.Done():
		return k.abandoned(ctx, ErrNotSigned)
	}
}

// abandoned is the error of an operation whose context ended. The key is ill
// only if its own deadline passed; a caller who left says nothing about it.
func (k *Key) abandoned(ctx context.Context, certainty error) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errDeadline) {
		k.remember(errDeadline)
	}
	if certainty != nil {
		cause = fmt.Errorf("%w: %w", certainty, cause)
	}
	return k.unavailable(cause, "the signing key did not answer in time")
}

func (k *Key) unavailable(err error, detail string) error {
	return fault.Wrap(fault.Unavailable, fmt.Errorf("use key %s: %w", k.ref, err), detail).
		Because("signer_unavailable").After(k.cfg.Deadline)
}

func (k *Key) remember(err error) {
	if err == nil {
		k.ailment.Store(nil)
		return
	}
	k.ailment.Store(&err)
}

// Healthy returns nil if the last operation succeeded or none has run yet, and
// otherwise why it failed.
func (k *Key) Healthy() error {
	select {
	case <-k.closing:
		return fmt.Errorf("key %s: closed", k.ref)
	default:
	}
	if p := k.ailment.Load(); p != nil {
		return fmt.Errorf("key %s: %w", k.ref, *p)
	}
	return nil
}

// keepAlive is what KeepAlive signs. A certificate, a CRL, an OCSP response and
// every other DER structure begin with 0x30, so a string that begins with 0x00
// can be none of them.
const keepAlive = "\x00privyseal keep-alive: this signature proves nothing but that the key answers"

// KeepAlive makes a signature over a fixed string to learn whether the key still
// answers; Healthy gives the result afterwards.
func (k *Key) KeepAlive(ctx context.Context) error {
	digest, opts := keepAliveInput(k.public)
	sig, err := k.observed(ctx, "keepalive", func(ctx context.Context) ([]byte, error) {
		return k.backend.Sign(ctx, digest, opts)
	})
	if err != nil {
		return err
	}
	if err := verify(k.public, digest, opts.HashFunc(), sig); err != nil {
		err = fmt.Errorf("keep-alive: %w", err)
		k.remember(err)
		return fmt.Errorf("key %s: %w", k.ref, err)
	}
	return nil
}

// Close turns new callers away, waits up to the deadline for operations that
// run, and releases the backend.
func (k *Key) Close() error {
	var err error
	k.closeKey.Do(func() {
		close(k.closing)
		timer := time.NewTimer(k.cfg.Deadline)
		defer timer.Stop()
		for range cap(k.slots) {
			select {
			case k.slots <- struct{}{}:
				continue
			case <-timer.C:
				err = fmt.Errorf("close key %s: %w", k.ref, errDeadline)
			}
			break
		}
		if cerr := k.backend.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close key %s: %w", k.ref, cerr))
		}
	})
	return err
}
