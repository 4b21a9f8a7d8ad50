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

// tokenOf reads what the token of the label says of itself.
func tokenOf(t *testing.T, tok *hsmtest.Token, label string) (slot uint, serial string) {
	t.Helper()
	p := raw(t, tok.Module)
	if err := p.Initialize(); err == nil {
		defer p.Finalize() //nolint:errcheck // a test will notice
	}
	slots, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range slots {
		if info, err := p.GetTokenInfo(id); err == nil && info.Label == label {
			return id, info.SerialNumber
		}
	}
	t.Fatalf("no token %s", label)
	return 0, ""
}

// A wrong PIN is sent once per token, however many keys there are and however
// they name it, until the secret says something else.
func TestFT9_OneTryPerTokenAndPIN(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	slot, serial := tokenOf(t, tok, tok.Label)
	for _, label := range []string{"a", "b"} {
		k, err := Generate(Ref(shim.Ref(tok, label)), "ec-p256", tok.Secret)
		if err == nil {
			err = k.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	before := shim.Calls(t, "C_Login")
	pin := "wrong-1"
	secret := func() ([]byte, error) { return []byte(pin), nil }
	refs := []string{"token=lab", "serial=" + serial, fmt.Sprintf("slot-id=%d", slot), "token=lab;serial=" + serial,
		"token=lab;model=SoftHSM%20v2"}
	open := func() (all []*Key) {
		for i, ref := range refs {
			for _, object := range []string{"a", "b"} {
				k, err := Open(t.Context(), Ref("pkcs11:"+ref+";object="+object+"?module-path="+shim.Module), secret, Config{})
				if err == nil {
					all = append(all, k)
					continue
				}
				if !errors.Is(err, ErrWrongPassphrase) || !PINRefused(err) || strings.Contains(err.Error(), pin) {
					t.Fatalf("%s: %v", ref, err)
				}
				want := "not sent again, until the PIN's file says something else"
				if i > 0 && object == "b" && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v: want %q", ref, err, want)
				}
			}
		}
		return all
	}
	for want := 1; want <= 2; want++ {
		for range 2 {
			if all := open(); len(all) != 0 {
				t.Fatal("opened with a wrong PIN")
			}
		}
		if n := shim.Calls(t, "C_Login") - before; n != want {
			t.Fatalf("%d logins after %d wrong PINs", n, want)
		}
		pin = "wrong-2"
	}
	pin = tok.PIN + "\n"
	if _, err := Open(t.Context(), Ref(shim.Ref(tok, "a")), secret, Config{}); err == nil || !strings.Contains(err.Error(), "blank or a line end") {
		t.Errorf("a PIN with a line end: %v", err)
	}
	pin = tok.PIN
	all := open()
	if len(all) != 2*len(refs) {
		t.Fatalf("%d keys opened with the right PIN", len(all))
	}
	for _, k := range all {
		signsAgain(t, k)
		closeAfter(t, k)
	}
	if n := shim.Calls(t, "C_Login") - before; n != 4 {
		t.Errorf("%d logins: %d keys share one", n-3, len(all))
	}
}

// What the token says of its PIN is looked at before one is sent.
func TestFT9_PINFlags(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	ref := Ref(shim.Ref(tok, "k"))
	k, err := Generate(ref, "ec-p256", tok.Secret)
	if err == nil {
		err = k.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags    string
		finalTry bool
		logins   int
		words    string // of the error; none is success
		warning  string
	}{
		{"flags 0x40000", false, 0, "CKF_USER_PIN_LOCKED", ""},
		{"flags 0x40000", true, 0, "CKR_PIN_LOCKED", ""},
		{"flags 0x20000", false, 0, "pkcs11.final_try: true", ""},
		{"flags 0x20000", true, 1, "", "CKF_USER_PIN_FINAL_TRY"},
		{"flags 0x10000", false, 1, "", "CKF_USER_PIN_COUNT_LOW"},
		{"", false, 1, "", ""},
	} {
		before := shim.Calls(t, "C_Login")
		shim.Do(t, c.flags)
		var warned []string
		k, err := Open(t.Context(), ref, tok.Secret, Config{FinalTry: c.finalTry, Observe: func(e Event) {
			if e.Op == "pin" {
				warned = append(warned, e.Err.Error())
			}
		}})
		if n := shim.Calls(t, "C_Login") - before; n != c.logins {
			t.Errorf("%s, %v: %d logins", c.flags, c.finalTry, n)
		}
		if c.words != "" {
			if err == nil || !PINRefused(err) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s, %v: %v: want %q", c.flags, c.finalTry, err, c.words)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s, %v: %v", c.flags, c.finalTry, err)
		}
		if said := strings.Join(warned, "\n"); !strings.Contains(said, c.warning) || (said == "") != (c.warning == "") {
			t.Errorf("%s: said %q", c.flags, said)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// After a refusal the error says what is left.
	shim.Do(t)
	wrong := func() ([]byte, error) { return []byte("wrong-9"), nil }
	if _, err := Open(t.Context(), ref, wrong, Config{}); err == nil || !strings.Contains(err.Error(), "CKF_USER_PIN_COUNT_LOW") {
		t.Errorf("a wrong PIN: %v", err)
	}
}

// Tokens are counted before anybody logs in.
func TestFT9_TwoTokensOfOneLabel(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	_, first := tokenOf(t, tok, tok.Label)
	tok.Add(t, tok.Label)
	_, err := Open(t.Context(), Ref(shim.Ref(tok, "k")), tok.Secret, Config{})
	if err == nil || strings.Count(err.Error(), "serial \"") != 2 || !strings.Contains(err.Error(), first) ||
		!strings.Contains(err.Error(), "no PIN was sent") {
		t.Errorf("two tokens of one label: %v", err)
	}
	if n := shim.Calls(t, "C_Login"); n != 0 {
		t.Errorf("%d logins", n)
	}
	ref := Ref("pkcs11:token=lab;serial=" + first + ";object=k?module-path=" + shim.Module)
	k, err := Generate(ref, "ec-p256", tok.Secret)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	signsAgain(t, k)
}

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
