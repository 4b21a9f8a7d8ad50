//go:build cgo

package keys

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// token is a token in its slot. All keys in it share its sessions.
type token struct {
	lib     *library
	slot    uint
	name    tokenName
	permits chan struct{} // one item per session in use; its room is the bound
	login   *login        // the newest; of whoever has the library's turn
}

// tokenName tells a token from others, in whatever slot it is.
type tokenName struct{ manufacturer, model, serial, label string }

// defaultSessions is how many sessions a token is asked for that bounds none.
const defaultSessions = 32

// unbounded are the values of CK_TOKEN_INFO that say nothing.
func unbounded(n uint) bool {
	return n == pkcs11.CK_EFFECTIVELY_INFINITE || n == pkcs11.CK_UNAVAILABLE_INFORMATION
}

// tokenAt is the token in a slot. Another one than was there before gets
// sessions of its own.
func (l *library) tokenAt(slot uint, info *pkcs11.TokenInfo, sessions int) *token {
	name := tokenName{info.ManufacturerID, info.Model, info.SerialNumber, info.Label}
	t := l.tokens[slot]
	if t != nil && t.name == name {
		return t
	}
	if t != nil && t.login != nil {
		t.login.retire(true)
	}
	if sessions <= 0 {
		sessions = defaultSessions
	}
	if n := info.MaxSessionCount; !unbounded(n) && n < uint(sessions) {
		sessions = int(n) //nolint:gosec // it is less than an int
	}
	t = &token{lib: l, slot: slot, name: name, permits: make(chan struct{}, sessions)}
	l.tokens[slot] = t
	return t
}

func (t *token) withheld() int {
	if t.login == nil {
		return 0
	}
	t.login.mu.Lock()
	defer t.login.mu.Unlock()
	return t.login.withheld
}

// pinMark stands for a PIN at a token without being one.
func (t *token) pinMark(pin []byte) [32]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", t.name)
	h.Write(pin)
	return [32]byte(h.Sum(nil))
}

// login is a token as this process is logged in to it, with the sessions opened
// since. It ends when a key finds it broken; another one follows.
type login struct {
	token *token
	p     *pkcs11.Ctx
	mark  [32]byte      // of the PIN that opened it
	over  chan struct{} // closed when it has ended

	mu       sync.Mutex
	idle     []pkcs11.SessionHandle
	open     int // idle ones and those in use
	withheld int // permits for sessions that the token did not have
}

// Flags of CK_TOKEN_INFO about the user's PIN (PKCS#11 2.40, section 3.2).
const (
	pinCountLow = 0x00010000
	pinFinalTry = 0x00020000
	pinLocked   = 0x00040000
)

// mayTry looks at what the token says of its PIN before one is sent.
func (t *token) mayTry(p *pkcs11.Ctx, mark [32]byte, k *tokenKey) error {
	if err := t.lib.refusal(mark); err != nil {
		return fmt.Errorf("the token refused this PIN before and it is not sent again, until the PIN's file says "+
			"something else or this node is restarted: %w", err)
	}
	info, err := p.GetTokenInfo(t.slot)
	switch {
	case err != nil:
		return fmt.Errorf("read token information: %w", meaning(err))
	case info.Flags&pinLocked != 0:
		return fmt.Errorf("no PIN was sent (CKF_USER_PIN_LOCKED): %w", &tokenError{code: ckrPINLocked})
	case info.Flags&pinFinalTry != 0 && !k.finalTry:
		return errFinalTry
	case info.Flags&(pinFinalTry|pinCountLow) != 0:
		k.report("pin", fmt.Errorf("token %q, serial %q%s", t.name.label, t.name.serial, tries(info.Flags)))
	}
	return nil
}

// tries says what a token's flags say of its PIN, for the end of a message.
func tries(flags uint) string {
	switch {
	case flags&pinLocked != 0:
		return "; the PIN is locked now (CKF_USER_PIN_LOCKED)"
	case flags&pinFinalTry != 0:
		return "; one try is left before the PIN is locked (CKF_USER_PIN_FINAL_TRY)"
	case flags&pinCountLow != 0:
		return "; a wrong PIN was sent since the last right one (CKF_USER_PIN_COUNT_LOW)"
	}
	return ""
}

// logIn opens the token's first session with the PIN, in place of a login that is
// given up. The caller has the library's turn.
func (t *token) logIn(ctx context.Context, secret []byte, k *tokenKey) (*login, error) {
	mark := t.pinMark(secret)
	if err := t.mayTry(t.lib.module, mark, k); err != nil {
		return nil, err
	}
	in := &login{token: t, p: t.lib.module, mark: mark, over: make(chan struct{})}
	h, err := in.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	err = in.p.Login(h, pkcs11.CKU_USER, string(secret))
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		err = nil
	} else {
		err = meaning(err)
		t.lib.judged(mark, err)
	}
	if err != nil {
		in.release(h, false)
		in.retire(false)
		if says(err, pin) {
			info, _ := in.p.GetTokenInfo(t.slot) // without it there is less to say
			return nil, fmt.Errorf("log in: %w%s%s", err, tries(info.Flags), blanks(secret))
		}
		return nil, fmt.Errorf("log in: %w", err)
	}
	in.release(h, false)
	t.login = in
	return in, nil
}

// blanks says so where a PIN begins or ends as a file's text does by mistake.
func blanks(secret []byte) string {
	if s := string(secret); s != strings.TrimSpace(s) {
		return "; the PIN as it was read begins or ends with a blank or a line end: look at its file with od -c"
	}
	return ""
}

// session takes one of the token's sessions, and waits for one as long as the
// caller does.
func (in *login) session(ctx context.Context) (pkcs11.SessionHandle, error) {
	for {
		if err := in.permit(ctx); err != nil {
			return 0, err
		}
		h, again, err := in.take()
		if !again {
			if err != nil {
				<-in.token.permits
			}
			return h, err
		}
	}
}

func (in *login) permit(ctx context.Context) error {
	waiting := func() error {
		return fmt.Errorf("%w: waiting for one of the token's %d sessions: %w", ErrNotSigned, cap(in.token.permits),
			context.Cause(ctx))
	}
	if gate := in.token.lib.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return waiting()
		}
	}
	select {
	case in.token.permits <- struct{}{}:
		return nil
	case <-in.over:
		return errReplaced
	case <-ctx.Done():
		return waiting()
	}
}

// take returns an idle session or opens one. Where the token has no more, because
// other programs hold them, the permit is kept and the caller waits for another.
func (in *login) take() (h pkcs11.SessionHandle, again bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.isOver() {
		return 0, false, errReplaced
	}
	if n := len(in.idle); n > 0 {
		h, in.idle = in.idle[n-1], in.idle[:n-1]
		return h, false, nil
	}
	in.open++
	in.mu.Unlock()
	h, err = in.p.OpenSession(in.token.slot, pkcs11.CKF_SERIAL_SESSION)
	in.mu.Lock()
	if err == nil {
		return h, false, nil
	}
	in.open--
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)) && in.open > 0 && !in.isOver() {
		in.withheld++
		return 0, true, nil
	}
	return 0, false, fmt.Errorf("%w: %w", ErrNotSigned, meaning(err))
}

func (in *login) isOver() bool {
	select {
	case <-in.over:
		return true
	default:
		return false
	}
}

// release gives a session back. One that is spoilt, or whose login has ended, is
// closed. With the last one the login would end at the token, so it ends here too.
func (in *login) release(h pkcs11.SessionHandle, spoilt bool) {
	in.mu.Lock()
	if !spoilt && !in.isOver() {
		in.idle = append(in.idle, h)
		in.mu.Unlock()
		<-in.token.permits
		return
	}
	in.drop()
	in.mu.Unlock()
	_ = in.p.CloseSession(h) // it may be gone
	<-in.token.permits
}

// drop counts a session less. The caller holds mu.
func (in *login) drop() {
	if in.open--; in.open == 0 {
		in.end()
	}
}

// end lets nobody take another session. The caller holds mu.
func (in *login) end() {
	if in.isOver() {
		return
	}
	close(in.over)
	for range in.withheld {
		<-in.token.permits
	}
	in.withheld = 0
}

// retire ends the login. Sessions in use are closed when their calls return;
// idle ones now, unless they are gone.
func (in *login) retire(gone bool) {
	in.mu.Lock()
	in.end()
	idle := in.idle
	in.open -= len(idle)
	in.idle = nil
	in.mu.Unlock()
	for _, h := range idle {
		if !gone {
			_ = in.p.CloseSession(h)
		}
	}
}

// spare closes an idle session, but never the last, to make room for another kind.
func (in *login) spare() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if n := len(in.idle); n > 1 {
		_ = in.p.CloseSession(in.idle[n-1])
		in.idle = in.idle[:n-1]
		in.open--
	}
}

// forget is release of a session that does not exist any more: its number may be
// that of a newer one.
func (in *login) forget() {
	in.mu.Lock()
	in.drop()
	in.mu.Unlock()
	<-in.token.permits
}
