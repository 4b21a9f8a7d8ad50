package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A key whose reconnect failed answers with that failure for a rest before it
// tries again: longer each time, and short enough to be back within seconds.
const (
	shortRest = 500 * time.Millisecond
	longRest  = 3 * time.Second
)

// errNoConnection is the state of a key between a failure and a reconnect.
var errNoConnection = fmt.Errorf("%w: no connection to the token", ErrNotSigned)

// dialer opens a connection to the token and key that a reference names.
type dialer func(u *URI, module string, pin []byte) (connection, error)

// tokenKey is a private key in a PKCS#11 token. A connection that fails is
// replaced once per operation; the operation is then tried once more.
type tokenKey struct {
	uri     *URI
	secret  Secret
	lib     *library
	dial    dialer
	public  crypto.PublicKey
	current atomic.Pointer[connection] // nil while there is none
	failed  atomic.Pointer[error]      // the last reconnect's failure, for a rest
	rest    time.Duration              // the next one; of whoever has the library's turn
	closed  atomic.Bool
	report  func(error) // told of every reconnect
}

func (t *tokenKey) Public() crypto.PublicKey { return t.public }

func (t *tokenKey) Sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return t.do(ctx, heals, func(c connection) ([]byte, error) { return c.Sign(digest, opts) })
}

// Decrypt does not reconnect on codes that a bad ciphertext causes: strangers
// choose those.
func (t *tokenKey) Decrypt(ctx context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return decryptWith(opts, func(opts crypto.DecrypterOpts) ([]byte, error) {
		return t.do(ctx, heals|padding, func(c connection) ([]byte, error) { return c.Decrypt(msg, opts) })
	})
}

// Close gives the connection back. Calls that hang keep it open behind.
func (t *tokenKey) Close() error {
	t.closed.Store(true)
	t.lib.remove(t)
	if c := t.drop(); c != nil && !t.lib.retire(c, patience) {
		return errCrowded
	}
	return nil
}

// drop takes the connection out of use.
func (t *tokenKey) drop() connection {
	if p := t.current.Swap(nil); p != nil {
		return *p
	}
	return nil
}

// do runs an operation, and once more on a new connection if the first failed in
// a way that one may cure. mask is heals, with padding for those that take only
// a sure sign of it.
func (t *tokenKey) do(ctx context.Context, mask verdict, op func(connection) ([]byte, error)) ([]byte, error) {
	old, out, first := t.try(op)
	if first == nil || !curable(first, mask) {
		return out, first
	}
	if ctx.Err() != nil { // nobody waits for it any more
		return nil, first
	}
	if err := t.reconnect(ctx, old, first); err != nil {
		return nil, after(first, err)
	}
	_, out, err := t.try(op)
	if err != nil {
		return nil, after(first, err)
	}
	return out, nil
}

// try runs an operation on the current connection.
func (t *tokenKey) try(op func(connection) ([]byte, error)) (*connection, []byte, error) {
	p := t.current.Load()
	if p == nil {
		return nil, nil, errNoConnection
	}
	out, err := op(*p)
	return p, out, err
}

func curable(err error, mask verdict) bool {
	if errors.Is(err, errNoConnection) || errors.Is(err, errReplaced) {
		return true
	}
	if mask&padding != 0 && says(err, padding) {
		return false
	}
	return says(err, heals)
}

// after joins the failures of two tries. Nothing was signed only if neither did.
func after(first, second error) error {
	switch {
	case errors.Is(first, errNoConnection) || errors.Is(first, errReplaced):
		return second
	case errors.Is(first, ErrNotSigned):
		return fmt.Errorf("%w (at first: %s)", second, first.Error())
	}
	return fmt.Errorf("%w; then: %s", first, second.Error())
}

// reconnect replaces a connection that failed. Of many callers with one broken
// connection, one does it and the rest take the result.
func (t *tokenKey) reconnect(ctx context.Context, old *connection, cause error) error {
	if err := t.lib.enter(ctx); err != nil {
		return err
	}
	defer t.lib.leave()
	switch now := t.current.Load(); {
	case t.closed.Load():
		return fmt.Errorf("%w: the key is closed", ErrNotSigned)
	case now != nil && now != old:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNotSigned, context.Cause(ctx))
	}
	if p := t.failed.Load(); p != nil {
		return *p
	}
	err := t.replace(old, cause)
	if t.report != nil {
		t.report(err)
	}
	if err == nil {
		t.rest = 0
		return nil
	}
	err = fmt.Errorf("%w: reconnect to the token: %w", ErrNotSigned, err)
	t.failed.Store(&err)
	t.rest = min(t.rest+shortRest, longRest)
	time.AfterFunc(t.rest, func() { t.failed.Store(nil) })
	return err
}

// replace makes a connection and puts it in the place of old. Where the sessions
// of old exist no more it is closed first: a token that counts its sessions from
// one again would otherwise see the new ones closed in its name.
func (t *tokenKey) replace(old *connection, cause error) error {
	if t.lib.retiring.Load() >= maxRetiring {
		return errCrowded
	}
	if old != nil && says(cause, void) && t.current.CompareAndSwap(old, nil) {
		t.lib.retire(*old, patience)
		old = nil
	}
	c, err := t.connect(false)
	if err != nil && !says(err, pin) && !errors.Is(err, errSecret) && t.lib.reset(t) {
		old = nil
		c, err = t.connect(false)
	}
	if err != nil {
		if old != nil && t.current.CompareAndSwap(old, nil) {
			t.lib.retire(*old, 0)
		}
		return err
	}
	if t.closed.Load() {
		t.lib.retire(c, 0)
		return errReplaced
	}
	if p := t.current.Swap(&c); p != nil {
		t.lib.retire(*p, 0)
	}
	return nil
}

// errSecret is in the chain when the PIN could not be had.
var errSecret = errors.New("the PIN")

// connect dials with the PIN as it is now. A PIN that the token has refused is
// not tried again until it changes or, on a first connection, a person asks.
func (t *tokenKey) connect(first bool) (connection, error) {
	pinText, err := passphrase(t.secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	defer clear(pinText)
	mark := pinMark(t.uri, pinText)
	if !first && t.lib.wasRefused(mark) {
		return nil, fmt.Errorf("the token refused this PIN before, and it is not tried again: %w",
			&tokenError{code: ckrPINIncorrect})
	}
	c, err := t.dial(t.uri, t.lib.path, pinText)
	if err != nil {
		if says(err, pin) {
			t.lib.setRefused(mark, true)
		}
		return nil, err
	}
	t.lib.setRefused(mark, false)
	if t.public != nil && !samePublic(t.public, c.Public()) {
		t.lib.retire(c, 0)
		return nil, errors.New("the token has another key under this name than before")
	}
	return c, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// answers reports whether the key's connection works, as far as a second can
// tell. A call that hangs counts as work: the module must not be shut down.
func (t *tokenKey) answers() bool {
	p := t.current.Load()
	if p == nil {
		return false
	}
	done := make(chan error, 1)
	go func() {
		digest, opts := keepAliveInput(t.public)
		_, err := (*p).Sign(digest, opts)
		done <- err
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return !says(err, heals)
	case <-timer.C:
		return true
	}
}

// openToken connects to the key that u names.
func openToken(
	ctx context.Context, u *URI, module string, secret Secret, dial dialer, report func(error),
) (*tokenKey, error) {
	t := &tokenKey{uri: u, secret: secret, lib: libraryAt(module), dial: dial, report: report}
	done := make(chan error, 1)
	if err := t.lib.enter(ctx); err != nil {
		return nil, err
	}
	go func() {
		defer t.lib.leave()
		c, err := t.connect(true)
		if err == nil {
			t.public = c.Public()
			t.current.Store(&c)
			t.lib.add(t)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return t, err
	case <-ctx.Done():
		go func() {
			if <-done == nil {
				_ = t.Close() // it came too late for anyone
			}
		}()
		return nil, fmt.Errorf("the PKCS#11 module did not answer in time: %w", context.Cause(ctx))
	}
}
