package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"os/exec"
	"strings"
	"testing"
)

func TestX13_KeyLists(t *testing.T) {
	t.Parallel()
	n, _ := new(big.Int).SetString("c0ffee00000000000000000000000000000000000000000000000000000000f1", 16)
	listed := &rsa.PublicKey{N: n, E: 65537}
	other := &rsa.PublicKey{N: new(big.Int).Add(n, big.NewInt(2)), E: 65537}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := HashKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	// printf 'Modulus=%s\n' C0FFEE…F1 | sha1sum | cut -c 21-40
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf 'Modulus=%s\n' C0FFEE00000000000000000000000000000000000000000000000000000000F1 | openssl dgst -sha1 -r | cut -c 21-40`).Output()
	if err != nil {
		t.Fatal(err)
	}
	var l KeyList
	has := func(pub any) bool {
		h, err := HashKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return l.Has(pub, h)
	}
	if has(listed) || has(ec.Public()) || l.Len() != 0 {
		t.Error("an empty list has keys")
	}
	if err := l.Read(strings.NewReader("# by hand\n\n"+string(out)), KeyListModulus); err != nil {
		t.Fatal(err)
	}
	if err := l.Read(strings.NewReader(hash.String()+" stolen in May\n"), KeyListSPKI); err != nil {
		t.Fatal(err)
	}
	if !has(listed) || has(other) || !has(ec.Public()) || l.Len() != 2 {
		t.Errorf("%d keys: %v %v %v", l.Len(), has(listed), has(other), has(ec.Public()))
	}
	for text, form := range map[string]string{
		"abcd\n":                           KeyListSPKI,
		hash.String() + "00\n":             KeyListSPKI,
		strings.ToUpper(hash.String()):     KeyListSPKI,
		hash.String()[:20]:                 KeyListSPKI,
		strings.Repeat("z", 20):            KeyListModulus,
		strings.Repeat("0", 1<<17):         KeyListModulus,
		strings.Repeat("0", 20) + "\nabc":  KeyListModulus,
		"00000000000000000000 # a comment": "md5",
	} {
		if err := new(KeyList).Read(strings.NewReader(text), form); err == nil {
			t.Errorf("%s: %.40q is read", form, text)
		}
	}
}
