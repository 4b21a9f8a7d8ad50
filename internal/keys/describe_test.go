//go:build cgo

package keys

import (
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// A token describes itself without a PIN; with one the key is looked at.
func TestFT9_DescribesAToken(t *testing.T) {
	tok := hsmtest.New(t)
	shim := hsmtest.NewShim(t, tok)
	ref := Ref(shim.Ref(tok, "always"))
	alwaysKey(t, tok, ref, "ec-p256")
	before := shim.Calls(t, "C_Login")
	shim.Do(t, "sessions 16", "flags 0x20000")
	d, err := Describe(t.Context(), ref, nil, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if row := d.Row(); d.Token != "lab" || !strings.Contains(row, "| `shim.so` | 16 | one left | not tried |") {
		t.Error(row)
	}
	if n := shim.Calls(t, "C_Login") - before; n != 0 {
		t.Errorf("%d logins", n)
	}
	shim.Do(t)
	if d, err = Describe(t.Context(), ref, tok.Secret, Config{}); err != nil || !strings.Contains(d.Login, "each use") {
		t.Error(d, err)
	}
}
