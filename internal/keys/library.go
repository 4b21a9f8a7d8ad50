package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// connection is a login at a token with one private key found in it. Its calls
// block for as long as the module likes, and are safe for concurrent use.
type connection interface {
	Public() crypto.PublicKey
	Sign(digest []byte, opts crypto.SignerOpts) ([]byte, error)
	Decrypt(msg []byte, opts crypto.DecrypterOpts) ([]byte, error)
	Close() error // waits for calls that run
}

// errReplaced is what a connection says that was closed because a newer one
// takes its place.
var errReplaced = fmt.Errorf("%w: the connection was replaced", ErrNotSigned)

const (
	// patience is how long a new connection waits for an old one to close.
	patience = time.Second
	// maxRetiring bounds the old connections that wait for calls to return.
	maxRetiring = 8
)

// library is a PKCS#11 module that this process has loaded. What PKCS#11 keeps
// per process (initialised or not, logged in or not) its keys have in common.
type library struct {
	path     string
	turn     chan struct{} // holds one token while a key connects
	mu       sync.Mutex
	keys     map[*tokenKey]struct{}
	refused  map[[32]byte]bool // PINs that a token refused, see pinMark
	retiring atomic.Int32
}

// libraries are the loaded modules by path. They are the process's, as a loaded
// module is: two objects for one module would shut it down under each other.
var libraries = struct {
	sync.Mutex
	byPath map[string]*library
}{byPath: map[string]*library{}}

func libraryAt(path string) *library {
	libraries.Lock()
	defer libraries.Unlock()
	l := libraries.byPath[path]
	if l == nil {
		l = &library{
			path: path, turn: make(chan struct{}, 1),
			keys: map[*tokenKey]struct{}{}, refused: map[[32]byte]bool{},
		}
		libraries.byPath[path] = l
	}
	return l
}

// enter waits for the caller's turn to connect, or for its context to end.
func (l *library) enter(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for the PKCS#11 module: %w", ErrNotSigned, context.Cause(ctx))
	}
}

func (l *library) leave() { <-l.turn }

func (l *library) add(k *tokenKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[k] = struct{}{}
}

func (l *library) remove(k *tokenKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, k)
}

// others are the keys of this module but one.
func (l *library) others(k *tokenKey) []*tokenKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*tokenKey, 0, len(l.keys))
	for o := range l.keys {
		if o != k {
			all = append(all, o)
		}
	}
	return all
}

// pinMark stands for a PIN at a token without being one.
func pinMark(u *URI, pin []byte) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %v\n", u.Token, u.Serial, u.SlotID)
	h.Write(pin)
	return [32]byte(h.Sum(nil))
}

func (l *library) wasRefused(mark [32]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused[mark]
}

func (l *library) setRefused(mark [32]byte, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused {
		l.refused[mark] = true
	} else {
		delete(l.refused, mark)
	}
}

// retire closes a connection in the background and reports whether that was done
// within the time given. A call that hangs in it holds it open for as long.
func (l *library) retire(c connection, within time.Duration) bool {
	if c == nil {
		return true
	}
	l.retiring.Add(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.retiring.Add(-1)
		_ = c.Close() // it may be dead already; nothing is left to be done
	}()
	if within <= 0 {
		return false
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// errCrowded answers when old connections hang in the module.
var errCrowded = errors.New("calls of earlier connections have not returned from the PKCS#11 module; a restart ends " +
	"them")

// reset closes every connection to the module, which shuts it down, so that the
// next one starts it anew: some modules find a lost token only then. It returns
// whether a new attempt is worth while. While another of the module's keys still
// answers, or a call has not returned, the module is left alone. The caller has
// the turn.
func (l *library) reset(k *tokenKey) bool {
	others := l.others(k)
	for _, o := range others {
		if o.answers() {
			return false
		}
	}
	open, closed := false, true
	for _, o := range append(others, k) {
		if c := o.drop(); c != nil {
			open = true
			closed = l.retire(c, patience) && closed
		}
	}
	return open && closed && l.retiring.Load() == 0
}
