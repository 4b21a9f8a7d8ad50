package keys

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key that systemd hands over is opened from its folder and never made there.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	made, err := Generate(Ref("file:"+filepath.Join(dir, "issuer")), "ec-p256", pass("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	ref := Ref("credential:issuer")
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, err = Open(t.Context(), ref, pass("correct horse"), Config{})
	for _, err := range []error{err, ref.Available("")} {
		if err == nil || !strings.Contains(err.Error(), "LoadCredential=issuer:") {
			t.Errorf("without a folder: %v", err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	k, err := Open(t.Context(), ref, pass("correct horse"), Config{})
	if err = errors.Join(err, ref.Available("")); err != nil {
		t.Fatal(err)
	}
	if !k.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(made.Public()) || !k.Ref().InFile() {
		t.Error("another key came back")
	}
	_, err = Generate("credential:new", "ec-p256", pass("x"))
	for _, err := range []error{err, Save("credential:new", made, pass("x"))} {
		if err == nil || !strings.Contains(err.Error(), "make it at file:PATH") {
			t.Errorf("made: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a key was written")
	}
	for _, bad := range []Ref{"credential:", "credential:../issuer", "credential:a:b"} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
