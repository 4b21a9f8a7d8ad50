//go:build cgo

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

// tokenKey is a private key in a PKCS#11 token. A connection that fails is
// replaced once per operation; the operation is then tried once more.
type tokenKey struct {
	uri      *URI
	secret   Secret
	lib      *library
	sessions int  // Config.Sessions
	finalTry bool // Config.FinalTry
	public   crypto.PublicKey
	current  atomic.Pointer[conn]  // nil while there is none
	failed   atomic.Pointer[error] // the last reconnect's failure, for a rest
	rest     time.Duration         // the next one; of whoever has the library's turn
	closed   atomic.Bool
	report   func(op string, err error) // told of every reconnect, and of a token that counts wrong PINs
}

func (t *tokenKey) Public() crypto.PublicKey { return t.public }

func (t *tokenKey) Sign(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return t.do(ctx, heals, func(c *conn) ([]byte, error) { return c.sign(ctx, digest, opts) })
}

// Decrypt does not reconnect on codes that a bad ciphertext causes: strangers
// choose those.
func (t *tokenKey) Decrypt(ctx context.Context, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return decryptWith(opts, func(opts crypto.DecrypterOpts) ([]byte, error) {
		return t.do(ctx, heals|padding, func(c *conn) ([]byte, error) { return c.decrypt(ctx, msg, opts) })
	})
}

// errCrowded answers a close while calls hang.
var errCrowded = errors.New("calls have not returned from the PKCS#11 module; a restart of this node ends them")

// Close gives the key up, and stops the module with the last one.
func (t *tokenKey) Close() error {
	t.closed.Store(true)
	t.current.Store(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.lib.turn <- struct{}{}
		t.lib.remove(t)
		t.lib.leave()
	}()
	timer := time.NewTimer(2 * patience)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errCrowded
	}
}

// do runs an operation, and once more on a new connection if the first failed in
// a way that one may cure. mask is heals, with padding for those that take only
// a sure sign of it.
func (t *tokenKey) do(ctx context.Context, mask verdict, op func(*conn) ([]byte, error)) ([]byte, error) {
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
func (t *tokenKey) try(op func(*conn) ([]byte, error)) (*conn, []byte, error) {
	c := t.current.Load()
	if c == nil {
		return nil, nil, errNoConnection
	}
	out, err := op(c)
	return c, out, err
}

// reconnect replaces a connection that failed. Of many callers with one broken
// connection, one does it and the rest take the result.
func (t *tokenKey) reconnect(ctx context.Context, old *conn, cause error) error {
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
	t.current.Store(nil)
	if old != nil && !errors.Is(cause, errReplaced) && old.in == old.in.token.login {
		old.in.retire(says(cause, void))
	}
	c, err := t.connect(ctx)
	if err == nil && t.closed.Load() {
		err = errReplaced
	}
	t.report("reconnect", err)
	if err == nil {
		t.rest = 0
		t.current.Store(c)
		return nil
	}
	err = fmt.Errorf("%w: reconnect to the token: %w", ErrNotSigned, err)
	t.failed.Store(&err)
	t.rest = min(t.rest+shortRest, longRest)
	time.AfterFunc(t.rest, func() { t.failed.Store(nil) })
	return err
}

// errSecret is in the chain when the PIN could not be had.
var errSecret = errors.New("the PIN")

// connect finds the token and the key with the PIN as it is now, and once more
// after a restart of the module where that may help. The caller has the turn.
func (t *tokenKey) connect(ctx context.Context) (*conn, error) {
	secret, err := passphrase(t.secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSecret, err)
	}
	defer clear(secret)
	c, slot, err := t.dial(ctx, secret)
	lost := errors.Is(err, errNoToken) || says(err, heals) || t.public != nil && errors.Is(err, ErrNoKey)
	if lost && !t.lib.fresh {
		switch failed := t.lib.restart(ctx, t, slot); {
		case failed == nil:
			if c, _, err = t.dial(ctx, secret); err == nil {
				t.lib.rest = 0
			}
		case !errors.Is(failed, errUseless):
			err = fmt.Errorf("%w; %w", err, failed)
		}
	}
	if err == nil && t.public != nil && !samePublic(t.public, c.public) {
		err = errors.New("the token has another key under this name than before")
	}
	return c, err
}

// dial finds the token, logs in unless another key has, and finds the key.
func (t *tokenKey) dial(ctx context.Context, secret []byte) (*conn, *token, error) {
	slot, err := t.lib.find(t.uri, t.sessions)
	if err != nil {
		return nil, nil, err
	}
	for {
		shared := slot.login != nil && !slot.login.isOver()
		in, err := t.logged(ctx, slot, secret)
		if err != nil {
			return nil, slot, err
		}
		c, err := in.find(ctx, t.uri)
		if err == nil {
			c.key = t
			return c, slot, nil
		}
		if !shared || !curable(err, heals) {
			return nil, slot, fmt.Errorf("find key in token: %w", err)
		}
		in.retire(says(err, void))
	}
}

// logged returns the token's login, which it makes unless another key has.
func (t *tokenKey) logged(ctx context.Context, slot *token, secret []byte) (*login, error) {
	if in := slot.login; in != nil && !in.isOver() {
		return in, nil
	}
	in, err := slot.logIn(ctx, secret, t)
	if err != nil {
		return nil, fmt.Errorf("connect to token: %w", err)
	}
	return in, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// answers reports whether the key's connection works, as far as a second can
// tell. A call that hangs counts as work: the module must not be shut down.
func (t *tokenKey) answers(ctx context.Context) bool {
	c := t.current.Load()
	if c == nil {
		return false
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() {
		digest, opts := keepAliveInput(t.public)
		_, err := c.sign(ctx, digest, opts)
		done <- err
	}()
	select {
	case err := <-done:
		return !curable(err, heals)
	case <-ctx.Done():
		return true
	}
}

// sameSecret reports whether the key's PIN is still the one that opened its token.
func (t *tokenKey) sameSecret() bool {
	c := t.current.Load()
	if c == nil {
		return false
	}
	secret, err := passphrase(t.secret)
	defer clear(secret)
	return err == nil && c.in.token.pinMark(secret) == c.in.mark
}

// openToken connects to the key that u names.
func openToken(
	ctx context.Context, u *URI, module string, secret Secret, cfg Config, report func(op string, err error),
) (backend, error) {
	t := &tokenKey{
		uri: u, secret: secret, lib: libraryAt(module), sessions: cfg.Sessions, finalTry: cfg.FinalTry,
		report: report,
	}
	done := make(chan error, 1)
	if err := t.lib.enter(ctx); err != nil {
		return nil, err
	}
	go func() {
		c, err := t.connect(ctx)
		if err == nil {
			t.public = c.public
			t.current.Store(c)
			t.lib.add(t)
		}
		t.lib.leave()
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
