//go:build cgo

package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

const (
	// patience is how long something waits for calls that run in the module.
	patience = time.Second
	// longestRest is the most between two restarts of a module that is in use.
	longestRest = 5 * time.Minute
)

// library is a PKCS#11 module that this process has loaded. What PKCS#11 keeps
// per process (started or not, logged in or not) its keys have in common.
type library struct {
	path string
	turn chan struct{} // holds one item while a key connects

	// Of whoever has the turn:
	module *pkcs11.Ctx // nil while it is stopped
	fresh  bool        // it was started in this turn
	tokens map[uint]*token
	rest   time.Duration // before the next restart that others pay for

	resting atomic.Bool
	gate    atomic.Pointer[chan struct{}] // while it is not nil, no call begins
	mu      sync.Mutex
	keys    map[*tokenKey]struct{}
	refused map[[32]byte]uint // PINs that a token refused, see pinMark, and its code
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
			path: path, turn: make(chan struct{}, 1), tokens: map[uint]*token{},
			keys: map[*tokenKey]struct{}{}, refused: map[[32]byte]uint{},
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

// leave gives the turn back. A module without keys is stopped: the next start
// reads its configuration again.
func (l *library) leave() {
	l.fresh = false
	if len(l.others(nil)) == 0 {
		if open, quiet := l.quiet(patience); quiet {
			l.stop()
			l.rest = 0
			l.resting.Store(false)
			open()
		}
	}
	<-l.turn
}

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

// refusal returns the code with which the token refused the PIN, or nil.
func (l *library) refusal(mark [32]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if code, ok := l.refused[mark]; ok {
		return &tokenError{code: code}
	}
	return nil
}

// judged records what the token said of a PIN. Other failures say nothing of it.
func (l *library) judged(mark [32]byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e *tokenError
	switch {
	case err == nil:
		delete(l.refused, mark)
	case errors.As(err, &e) && e.is(pin):
		l.refused[mark] = e.code
	}
}

// start loads and initialises the module unless that is done.
func (l *library) start() error {
	if l.module != nil {
		return nil
	}
	p := pkcs11.New(l.path)
	if p == nil {
		if err := missing(l.path); err != nil {
			return fmt.Errorf("load PKCS#11 module %w", err)
		}
		return fmt.Errorf("load PKCS#11 module %s: it is no PKCS#11 library for this machine, or one that it needs is "+
			"missing: ldd says which", l.path)
	}
	err := p.Initialize()
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		p.Destroy()
		return fmt.Errorf("start PKCS#11 module: %w%s", meaning(err), l.hint())
	}
	l.module, l.fresh = p, true
	return nil
}

// hint says what SoftHSM needs and does not complain of.
func (l *library) hint() string {
	if _, set := os.LookupEnv("SOFTHSM2_CONF"); set || !strings.Contains(strings.ToLower(l.path), "softhsm") {
		return ""
	}
	return "; SOFTHSM2_CONF is not set in this process's environment, so SoftHSM reads the configuration that its " +
		"package installed"
}

// stop ends the module and every session in it. No call may run.
func (l *library) stop() {
	for _, t := range l.tokens {
		if t.login != nil {
			t.login.retire(true)
		}
	}
	clear(l.tokens)
	if l.module != nil {
		_ = l.module.Finalize() // it may have been ended by another part of the process
		l.module.Destroy()
		l.module = nil
	}
}

// quiet keeps new calls out of the module and waits until those that run have
// returned. It reports whether they did in time; if so the caller opens again.
func (l *library) quiet(wait time.Duration) (open func(), quiet bool) {
	gate := make(chan struct{})
	l.gate.Store(&gate)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	taken := make(map[*token]int)
	open = func() {
		for t, n := range taken {
			for range n {
				<-t.permits
			}
		}
		l.gate.Store(nil)
		close(gate)
	}
	for _, t := range l.tokens {
		for range cap(t.permits) - t.withheld() {
			select {
			case t.permits <- struct{}{}:
				taken[t]++
			case <-timer.C:
				open()
				return nil, false
			}
		}
	}
	return open, true
}

// Why a module is not started anew, for the person who has to do it instead.
var (
	errUseless = errors.New("another key of the token answers")
	errResting = errors.New("the module is started anew for it now and then, for other tokens of it are in use")
	errBusy    = errors.New("calls of other keys do not return from the PKCS#11 module, so that it cannot be started " +
		"anew: restart this node once the token is back")
	errOtherPIN = errors.New("the PKCS#11 module cannot be started anew while another token of it is in use whose " +
		"PIN file does not hold the PIN that it was opened with: restart this node once the token is back and " +
		"the PIN is right")
)

// restart starts the module anew, for some modules look for their tokens only
// then. Keys of other tokens wait meanwhile and are logged in again by their next
// call; that they can be is made sure of first. The caller has the turn.
func (l *library) restart(ctx context.Context, k *tokenKey, slot *token) error {
	inUse := false
	for t, o := range l.inUse(k) {
		switch {
		case !o.answers(ctx):
			continue
		case t == slot:
			return errUseless
		case l.resting.Load():
			return errResting
		case !o.sameSecret():
			return errOtherPIN
		}
		inUse = true
	}
	if inUse {
		l.rest = min(max(2*l.rest, patience), longestRest)
		l.resting.Store(true)
		time.AfterFunc(l.rest, func() { l.resting.Store(false) })
	}
	open, quiet := l.quiet(patience)
	if !quiet {
		return errBusy
	}
	defer open()
	l.stop()
	return l.start()
}

// inUse returns a key other than k of each token that has one connected.
func (l *library) inUse(k *tokenKey) map[*token]*tokenKey {
	found := make(map[*token]*tokenKey)
	for _, o := range l.others(k) {
		if c := o.current.Load(); c != nil {
			found[c.in.token] = o
		}
	}
	return found
}
