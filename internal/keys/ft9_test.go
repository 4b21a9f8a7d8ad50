//go:build cgo

package keys

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
