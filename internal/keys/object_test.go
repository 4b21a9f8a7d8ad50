//go:build cgo

package keys

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// A key that stands there in another way than the reference says is told so.
func TestFT9_KeysInWords(t *testing.T) {
	tok := hsmtest.New(t)
	base, query := "pkcs11:token=lab;", "?module-path="+tok.Module
	alone := newKeyIn(t, tok, base+"object=alone;id=%01"+query, "ec-p256")
	other := newKeyIn(t, tok, base+"object=other;id=%02"+query, "ec-p256")
	rsa := newKeyIn(t, tok, base+"object=rsa;id=%03"+query, "rsa-2048")
	newKeyIn(t, tok, base+"object=whole;id=%04"+query, "ec-p256")
	changed := func(k *Key, do func(o *objects, public pkcs11.ObjectHandle) error) {
		t.Helper()
		c := k.backend.(*tokenKey).current.Load()
		err := c.in.writing(t.Context(), func(o *objects) error {
			found, err := o.named(pkcs11.CKO_PUBLIC_KEY, nil, c.key.uri.Object)
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			return do(o, found[0])
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	destroy := func(o *objects, public pkcs11.ObjectHandle) error { return o.p.DestroyObject(o.h, public) }
	changed(alone, destroy)
	changed(rsa, destroy)
	changed(other, func(o *objects, public pkcs11.ObjectHandle) error {
		return o.p.SetAttributeValue(o.h, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{9})})
	})
	for ref, want := range map[string]string{
		"object=alone":         "no public key or certificate with its id %01",
		"object=other":         "the private key's id is %02, and the public key with its label has the id %09",
		"object=rsa":           "", // the private key shows its modulus
		"id=04":                "are written id=%04; id=04 is text",
		"object=whole;id=%01":  "1 have the id with another label, 1 the label with another id",
		"object=nothing":       "no private key has this label and id",
		"object=whole;id=%04":  "",
		"object=whole%20;id=4": "no private key",
	} {
		k, err := Open(t.Context(), Ref(base+ref+query), tok.Secret, Config{})
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				continue
			}
			signsAgain(t, k)
			closeAfter(t, k)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", ref, err, want)
		}
		// What is half there is not made anew.
		if half := strings.Contains(ref, "alone") || strings.Contains(ref, "other"); half && errors.Is(err, ErrNoKey) {
			t.Errorf("%s: it looks as if there were no key", ref)
		}
	}
}

// Without SOFTHSM2_CONF SoftHSM finds other tokens than those that were made.
func TestFT9_NoConfiguration(t *testing.T) {
	tok := hsmtest.New(t)
	ref := Ref(tok.Ref("k"))
	conf := os.Getenv("SOFTHSM2_CONF")
	if err := os.Unsetenv("SOFTHSM2_CONF"); err != nil {
		t.Fatal(err)
	}
	defer os.Setenv("SOFTHSM2_CONF", conf) //nolint:errcheck // it was set before
	if _, err := Open(t.Context(), ref, tok.Secret, Config{}); err == nil || !strings.Contains(err.Error(), "SOFTHSM2_CONF is not set") {
		t.Errorf("without a configuration: %v", err)
	}
}

// A module that is none, or is missing, is told so.
func TestFT9_NoModule(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{text: "no PKCS#11 library", text + "x": "no such file"} {
		_, err := Open(t.Context(), Ref("pkcs11:token=a;object=b?module-path="+path), pass("1234"), Config{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", path, err, want)
		}
	}
}
