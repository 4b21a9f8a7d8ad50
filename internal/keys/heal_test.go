//go:build cgo

package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// healing is how long a key may take to sign again once its token does.
const healing = 5 * time.Second

// signsAgain waits until the key signs again, and fails when that takes too long.
func signsAgain(t *testing.T, k *Key) {
	t.Helper()
	begun := time.Now()
	for {
		_, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256)
		switch {
		case err == nil:
			t.Logf("signs again after %v", time.Since(begun).Round(time.Millisecond))
			return
		case time.Since(begun) > healing:
			t.Fatalf("not healed after %v: %v", healing, err)
		case !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0:
			t.Fatalf("want Unavailable with RetryAfter: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// raw is the module beside the key: what another part of the process could do.
func raw(t *testing.T, module string) *pkcs11.Ctx {
	t.Helper()
	p := pkcs11.New(module)
	if p == nil {
		t.Fatal("module not loaded")
	}
	t.Cleanup(p.Destroy)
	return p
}

func closeSessions(t *testing.T, p *pkcs11.Ctx) {
	t.Helper()
	slots, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if err := p.CloseAllSessions(s); err != nil {
			t.Fatal(err)
		}
	}
}

// Sessions that are closed underneath, and a module that is shut down underneath,
// cost no signature: the one reconnect and the one retry are enough.
func TestTokenHealsUnnoticed(t *testing.T) {
	tok := hsmtest.New(t)
	var reconnects []error
	k, err := GenerateIn(Ref(tok.Ref("k")), "ec-p256", tok.Secret, Config{Observe: func(e Event) {
		if e.Op == "reconnect" {
			reconnects = append(reconnects, e.Err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	second := newKeyIn(t, tok, tok.Ref("second"), "ec-p256")
	p := raw(t, tok.Module)
	for name, breakIt := range map[string]func(){
		"sessions closed": func() { closeSessions(t, p) },
		"logged out": func() {
			slots, _ := p.GetSlotList(true)
			s, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
			if err == nil {
				err = p.Logout(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"module shut down": func() {
			if err := p.Finalize(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for range 3 {
			breakIt()
			for range 2 {
				for _, key := range []*Key{k, second} {
					sig, err := key.SignContext(t.Context(), digest("m"), crypto.SHA256)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if err := verify(key.Public(), digest("m"), crypto.SHA256, sig); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
			}
		}
	}
	if len(reconnects) == 0 {
		t.Fatal("no reconnect was reported")
	}
	for _, err := range reconnects {
		if err != nil {
			t.Fatalf("a reconnect failed: %v", err)
		}
	}
}

// A token whose files go away answers Unavailable in time, and is back within
// seconds of their return, whether or not anyone asks for a signature.
func TestTokenGoesAwayAndReturns(t *testing.T) {
	tok := hsmtest.New(t)
	k := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	second := newKeyIn(t, tok, tok.Ref("second"), "rsa-2048")
	away := tok.Dir + ".away"
	for round, used := range []bool{true, false} {
		if err := os.Rename(tok.Dir, away); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			for _, key := range []*Key{k, second} {
				begun := time.Now()
				_, err := key.SignContext(t.Context(), digest("m"), crypto.SHA256)
				if !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 || !errors.Is(err, ErrNotSigned) {
					t.Fatalf("round %d: the token is away: %v", round, err)
				}
				if took := time.Since(begun); took > 10*time.Second {
					t.Fatalf("the answer took %v", took)
				}
			}
		}
		if k.Healthy() == nil {
			t.Fatal("the key says it is well")
		}
		if err := os.Rename(away, tok.Dir); err != nil {
			t.Fatal(err)
		}
		if !used {
			for begun := time.Now(); k.Healthy() != nil; time.Sleep(20 * time.Millisecond) {
				if time.Since(begun) > healing {
					t.Fatalf("not healed by itself: %v", k.Healthy())
				}
			}
		}
		signsAgain(t, k)
		signsAgain(t, second)
	}
}

func TestTokenWrongPINStopsAtOnce(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	ref := Ref(shim.Ref(tok, "k"))
	pin := tok.PIN
	k, err := Generate(ref, "ec-p256", func() ([]byte, error) { return []byte(pin), nil })
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)

	pin = "9999wrong"
	closeSessions(t, raw(t, tok.Module)) // also logs out
	before := shim.Calls(t, "C_Login")
	for range 5 {
		_, err = k.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if !errors.Is(err, ErrWrongPassphrase) || !errors.Is(err, ErrNotSigned) || !fault.Is(err, fault.Unavailable) {
			t.Fatalf("wrong PIN: %v", err)
		}
		if strings.Contains(err.Error(), pin) {
			t.Fatalf("the PIN is in the error: %v", err)
		}
		time.Sleep(longRest / 4) // beyond a rest
	}
	if n := shim.Calls(t, "C_Login") - before; n != 1 {
		t.Fatalf("the wrong PIN was tried %d times", n)
	}
	if err := k.Healthy(); !errors.Is(err, ErrWrongPassphrase) {
		t.Fatalf("Healthy() = %v", err)
	}
	pin = tok.PIN // the person sees it and mends the file
	signsAgain(t, k)

	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	wrong := func() ([]byte, error) { return []byte("0000wrong"), nil }
	if _, err := Open(t.Context(), ref, wrong, Config{}); !errors.Is(err, ErrWrongPassphrase) || strings.Contains(err.Error(), "0000wrong") {
		t.Fatalf("open with a wrong PIN: %v", err)
	}
	if _, err := Open(t.Context(), ref, func() ([]byte, error) { return nil, errors.New("no such file") }, Config{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Fatalf("open without a PIN: %v", err)
	}
}

// What a code means for the outcome, through the real calls: one retry after
// codes that a new connection may cure, none after others.
func TestTokenCodes(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	k := newKeyIn(t, tok, shim.Ref(tok, "k"), "rsa-2048")
	for _, c := range []struct {
		rule      string
		notSigned bool
		tries     int // of C_SignInit
		words     string
	}{
		{"C_SignInit 0xB3", true, 2, "CKR_SESSION_HANDLE_INVALID"},
		{"C_SignInit 0x101", true, 2, "CKR_USER_NOT_LOGGED_IN"},
		{"C_SignInit 0x60", true, 2, "CKR_KEY_HANDLE_INVALID"},
		{"C_SignInit 0xE0", true, 2, "CKR_TOKEN_NOT_PRESENT"},
		{"C_SignInit 0x30", false, 2, "CKR_DEVICE_ERROR"},
		{"C_Sign 0x30", false, 2, "CKR_DEVICE_ERROR"},
		{"C_Sign 0x32", false, 2, "CKR_DEVICE_REMOVED"},
		{"C_Sign 0xB0", false, 2, "CKR_SESSION_CLOSED"},
		{"C_Sign 0x5", false, 2, "CKR_GENERAL_ERROR"},
		{"C_SignInit 0x70", true, 1, "CKR_MECHANISM_INVALID"},
		{"C_SignInit 0x68", true, 1, "CKR_KEY_FUNCTION_NOT_PERMITTED"},
		{"C_Sign 0x31", false, 1, "CKR_DEVICE_MEMORY"},
		{"C_Sign 0x80000042", false, 1, "0x80000042"},
	} {
		before := shim.Calls(t, "C_SignInit")
		shim.Do(t, c.rule)
		_, err := k.backend.Sign(t.Context(), digest("m"), crypto.SHA256)
		tries := shim.Calls(t, "C_SignInit") - before
		shim.Do(t)
		if err == nil || errors.Is(err, ErrNotSigned) != c.notSigned || !strings.Contains(err.Error(), c.words) || tries != c.tries {
			t.Errorf("%s: %d tries, %v", c.rule, tries, err)
		}
		signsAgain(t, k)
	}
	// A connection that cannot be had: the first failure decides what is known.
	shim.Do(t, "C_Sign 0x30", "C_OpenSession 0x30")
	if _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); err == nil || errors.Is(err, ErrNotSigned) {
		t.Errorf("device error, then no connection: %v", err)
	}
	shim.Do(t)
	signsAgain(t, k)
	// A stranger's ciphertext must not make the key reconnect.
	login := shim.Calls(t, "C_Login")
	shim.Do(t, "C_Decrypt 0x5")
	opts := sessionKeyOf(16)
	if key, err := k.Decrypt(nil, bytes.Repeat([]byte{1}, 256), opts); err != nil || len(key) != 16 {
		t.Errorf("bad ciphertext: %x, %v", key, err)
	}
	if n := shim.Calls(t, "C_Login") - login; n != 0 {
		t.Errorf("a bad ciphertext caused %d logins", n)
	}
	shim.Do(t, "C_Decrypt 0xB3")
	if _, err := k.Decrypt(nil, bytes.Repeat([]byte{1}, 256), opts); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a lost session at a decryption: %v", err)
	}
}

// A module that hangs, in whatever call: every caller is answered within the
// deadline, goroutines and threads stay bounded, and the key is back within
// seconds of the module.
func TestTokenHangs(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	const deadline = time.Second
	k, err := GenerateIn(Ref(shim.Ref(tok, "k")), "ec-p256", tok.Secret, Config{Deadline: deadline, Queue: 8})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	signsAgain(t, k)
	goroutines, running := runtime.NumGoroutine(), threads(t)
	for name, rules := range map[string][]string{
		"signature":        {"C_Sign hang"},
		"reconnect, login": {"C_SignInit 0xB3", "C_Login hang"},
		"reconnect, slots": {"C_SignInit 0x30", "C_GetSlotList hang"},
		"reconnect, start": {"C_SignInit 0xE0", "C_Initialize hang"},
	} {
		shim.Do(t, rules...)
		most, mostThreads := 0, 0
		for range 3 {
			errs := make(chan error, 64)
			begun := time.Now()
			for range cap(errs) {
				go func() { _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); errs <- err }()
			}
			for range cap(errs) {
				if err := <-errs; !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if took := time.Since(begun); took > 3*deadline {
				t.Fatalf("%s: the answers took %v", name, took)
			}
			most, mostThreads = max(most, runtime.NumGoroutine()), max(mostThreads, threads(t))
		}
		t.Logf("%s: at most %d goroutines and %d threads more", name, most-goroutines, mostThreads-running)
		if most-goroutines > parallel+8 || mostThreads-running > parallel+8 {
			t.Errorf("%s: %d goroutines and %d threads more", name, most-goroutines, mostThreads-running)
		}
		if k.Healthy() == nil {
			t.Errorf("%s: the key says it is well", name)
		}
		shim.Do(t)
		signsAgain(t, k)
	}
	// The parts that come late are gone.
	for begun := time.Now(); runtime.NumGoroutine() > goroutines+2; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > healing {
			t.Fatalf("%d goroutines, %d at first", runtime.NumGoroutine(), goroutines)
		}
	}
	// Opening is bounded too.
	shim.Do(t, "C_FindObjectsInit hang")
	begun := time.Now()
	if _, err := Open(t.Context(), k.Ref(), tok.Secret, Config{Deadline: deadline}); err == nil || time.Since(begun) > 3*deadline {
		t.Fatalf("Open of a module that hangs: %v after %v", err, time.Since(begun))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, k.Ref(), tok.Secret, Config{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Open, cancelled: %v", err)
	}
	shim.Do(t)
	signsAgain(t, k)
	late := libraryAt(shim.Module) // the opener whose caller left comes to its end
	if err := late.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	late.leave()
	for begun := time.Now(); len(late.others(nil)) != 1; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > healing {
			t.Fatal("a key that came late stays open")
		}
	}
}

// threads counts the threads of this process; 0 where that cannot be told.
func threads(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "Threads:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Another key under the same name is not the key that was opened.
func TestTokenKeyReplaced(t *testing.T) {
	tok := hsmtest.New(t)
	k := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	c := k.backend.(*tokenKey).current.Load()
	if err := c.in.writing(t.Context(), func(o *objects) error { return o.p.DestroyObject(o.h, c.handle) }); err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256); !errors.Is(err, ErrNotSigned) || !strings.Contains(err.Error(), "no private key") {
		t.Fatalf("a key that was deleted: %v", err)
	}
	other := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	signsAgain(t, other)
	begun := time.Now()
	for {
		_, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if err != nil && strings.Contains(err.Error(), "another key") {
			return
		}
		if err == nil || time.Since(begun) > healing {
			t.Fatalf("another key of the same name: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
