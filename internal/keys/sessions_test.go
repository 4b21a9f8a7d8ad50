//go:build cgo

package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// The sessions of a token are shared by its keys and bounded by what it has, by
// what it says, or by the setting; callers wait.
func TestFT9_SessionsAreShared(t *testing.T) {
	for name, c := range map[string]struct {
		rules    []string
		sessions int // the setting
		most     int
	}{
		"said":    {[]string{"sessions 16"}, 0, 16},
		"unsaid":  {[]string{"sessions 16", "silent 1"}, 0, 16},
		"setting": {nil, 5, 5},
		"one":     {[]string{"sessions 1"}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tok := hsmtest.New(t)
			shim := hsmtest.NewShim(t, tok)
			for i := range 12 {
				k, err := Generate(Ref(tok.Ref(fmt.Sprint("k", i))), "ec-p256", tok.Secret)
				if err == nil {
					err = k.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			shim.Do(t, c.rules...)
			var all []*Key
			for i := range 12 {
				k, err := Open(t.Context(), Ref(shim.Ref(tok, fmt.Sprint("k", i))), tok.Secret, Config{Sessions: c.sessions})
				if err != nil {
					t.Fatal(err)
				}
				closeAfter(t, k)
				all = append(all, k)
			}
			errs := make(chan error, 32)
			for i := range cap(errs) {
				go func() {
					var err error
					for n := 0; n < 30 && err == nil; n++ {
						_, err = all[(i+n)%len(all)].SignContext(t.Context(), digest("m"), crypto.SHA256)
					}
					errs <- err
				}()
			}
			for range cap(errs) {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			if n := shim.MostSessions(t); n > c.most {
				t.Errorf("%d sessions were open at a time", n)
			}
			if n := shim.Calls(t, "C_Login"); n != 1 {
				t.Errorf("%d logins", n)
			}
		})
	}
}

// A caller who waits for a session does so within the deadline, and nothing was
// signed then.
func TestFT9_WaitForASession(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	made := newKeyIn(t, tok, shim.Ref(tok, "k"), "ec-p256")
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	shim.Do(t, "sessions 1")
	k, err := Open(t.Context(), made.Ref(), tok.Secret, Config{Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	shim.Do(t, "sessions 1", "C_Sign hang")
	go k.SignContext(t.Context(), digest("m"), crypto.SHA256) //nolint:errcheck // it hangs
	c := k.backend.(*tokenKey).current.Load()
	for len(c.in.token.permits) == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.backend.Sign(ctx, digest("m"), crypto.SHA256); !errors.Is(err, ErrNotSigned) ||
		!strings.Contains(err.Error(), "waiting for one of the token's 1 sessions") {
		t.Errorf("a caller who waits: %v", err)
	}
	shim.Do(t)
	signsAgain(t, k)
}

// alwaysKey makes a key that wants the PIN for each use.
func alwaysKey(t *testing.T, tok *hsmtest.Token, ref Ref, kind string) {
	t.Helper()
	u, module, err := ref.token("")
	if err != nil {
		t.Fatal(err)
	}
	mechanism, public, err := generation(kind)
	if err != nil {
		t.Fatal(err)
	}
	k := &tokenKey{uri: u, lib: libraryAt(module)}
	if err := k.lib.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer k.lib.leave()
	slot, err := k.lib.find(u, 0)
	if err != nil {
		t.Fatal(err)
	}
	in, err := k.logged(t.Context(), slot, []byte(tok.PIN))
	if err != nil {
		t.Fatal(err)
	}
	err = in.writing(t.Context(), func(o *objects) error {
		both := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{7}), pkcs11.NewAttribute(pkcs11.CKA_LABEL, u.Object)}
		private := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true)}, both...)
		_, _, err := o.p.GenerateKeyPair(o.h, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)},
			append(both, public...), private)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A key with CKA_ALWAYS_AUTHENTICATE signs: the PIN is sent for each use, and a
// wrong one once.
func TestFT9_AlwaysAuthenticate(t *testing.T) {
	for _, kind := range []string{"ec-p256", "rsa-2048"} {
		t.Run(kind, func(t *testing.T) {
			tok := hsmtest.New(t)
			shim := hsmtest.NewShim(t, tok)
			ref := Ref(shim.Ref(tok, "always"))
			alwaysKey(t, tok, ref, kind)
			pin := tok.PIN
			k, err := Open(t.Context(), ref, func() ([]byte, error) { return []byte(pin), nil }, Config{KeepAlive: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			closeAfter(t, k)
			before := shim.Calls(t, "C_Login")
			for range 3 {
				sig, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if err := verify(k.Public(), digest("m"), crypto.SHA256, sig); err != nil {
					t.Fatal(err)
				}
			}
			if n := shim.Calls(t, "C_Login") - before; n != 3 {
				t.Errorf("%d logins for 3 signatures", n)
			}
			pin = "wrong-always"
			before = shim.Calls(t, "C_Login")
			for range 3 {
				if _, err := k.backend.Sign(t.Context(), digest("m"), crypto.SHA256); !errors.Is(err, ErrWrongPassphrase) ||
					!errors.Is(err, ErrNotSigned) || !strings.Contains(err.Error(), "PIN") {
					t.Errorf("a wrong PIN: %v", err)
				}
			}
			if n := shim.Calls(t, "C_Login") - before; n != 1 {
				t.Errorf("the wrong PIN was sent %d times", n)
			}
			pin = tok.PIN
			signsAgain(t, k)
		})
	}
}

// Every code says the same of itself, and what to do, wherever it comes from.
func TestFT9_CodesSayWhatToDo(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	ref := Ref(shim.Ref(tok, "k"))
	k, err := Generate(ref, "rsa-2048", tok.Secret)
	if err != nil {
		t.Fatal(err)
	}
	lib := libraryAt(shim.Module)
	open := func() error {
		k, err := Open(t.Context(), ref, tok.Secret, Config{KeepAlive: time.Hour})
		if err == nil {
			err = errors.Join(errors.New("opened"), k.Close())
		}
		return err
	}
	sign := func() error {
		_, err := k.backend.Sign(t.Context(), digest("m"), crypto.SHA256)
		return err
	}
	decrypt := func() error {
		_, err := k.backend.(decrypter).Decrypt(t.Context(), make([]byte, 256), nil)
		return err
	}
	try := func(function string, does func() error) {
		t.Helper()
		for code, c := range ckrs {
			if function == "C_Login" && code == 0x100 { // it is logged in
				continue
			}
			shim.Do(t, fmt.Sprintf("%s 0x%X", function, code))
			err := does()
			if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.next) {
				t.Errorf("%s, %s: %v", function, c.name, err)
			}
			if function == "C_Login" && PINRefused(err) != (c.verdict&pin != 0) {
				t.Errorf("%s, %s: PINRefused is %v", function, c.name, PINRefused(err))
			}
			lib.mu.Lock()
			clear(lib.refused)
			lib.mu.Unlock()
		}
		shim.Do(t)
	}
	try("C_SignInit", sign)
	try("C_Sign", sign)
	try("C_Decrypt", decrypt)
	signsAgain(t, k)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	for _, function := range []string{"C_GetSlotList", "C_OpenSession", "C_Login", "C_FindObjectsInit"} {
		try(function, open)
	}
}
