package keys

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/need"
)

// Every form in which openssl has written keys is read.
func TestG2_25_DecryptForeign(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	right := func() ([]byte, error) { return []byte("old"), nil }
	wrong := func() ([]byte, error) { return []byte("new"), nil }
	for _, c := range []struct {
		name      string
		args      []string
		encrypted bool
	}{
		{"genrsa", []string{"genrsa", "-aes256", "-passout", "pass:old", "2048"}, true},
		{"genrsa of former versions", []string{"genrsa", "-traditional", "-aes256", "-passout", "pass:old", "2048"}, true},
		{"genrsa without passphrase", []string{"genrsa", "-traditional", "2048"}, false},
		{"genpkey", []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-aes256", "-pass", "pass:old"}, true},
		{"genpkey without passphrase", []string{"genpkey", "-algorithm", "ED25519"}, false},
		{"ecparam", []string{"ecparam", "-name", "secp384r1", "-genkey"}, false},
	} {
		path := filepath.Join(t.TempDir(), "key")
		cmd := exec.Command("openssl", c.args...)
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		key, encrypted, err := DecryptForeign(text, right)
		if err != nil || key == nil || encrypted != c.encrypted {
			t.Errorf("%s: encrypted %v, %v", c.name, encrypted, err)
		}
		if !c.encrypted {
			continue
		}
		if _, _, err := DecryptForeign(text, wrong); !errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("%s: a wrong passphrase: %v", c.name, err)
		}
		if _, _, err := DecryptForeign(text, nil); err == nil || errors.Is(err, ErrWrongPassphrase) {
			t.Errorf("%s: no passphrase: %v", c.name, err)
		}
	}
}

func TestDecryptForeignRefuses(t *testing.T) {
	t.Parallel()
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(exchange)
	if err != nil {
		t.Fatal(err)
	}
	locked := map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "RC2-CBC,00"}
	for _, c := range []struct {
		block *pem.Block
		want  string
	}{
		{&pem.Block{Type: "CERTIFICATE"}, `"CERTIFICATE" is no private key`},
		{&pem.Block{Type: "PRIVATE KEY", Bytes: der}, "cannot sign"},
		{&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("x")}, "asn1"},
		{&pem.Block{Type: "EC PARAMETERS"}, "no private key"},
		{&pem.Block{Type: "RSA PRIVATE KEY", Headers: locked, Bytes: []byte("x")}, "convert it with openssl pkcs8"},
		{&pem.Block{Type: pemEncrypted, Bytes: []byte("x")}, "encrypted key"},
	} {
		_, _, err := DecryptForeign(pem.EncodeToMemory(c.block), func() ([]byte, error) { return []byte("s"), nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.block.Type, err, c.want)
		}
	}
}

// Nothing that somebody finds in an old CA's folder makes the reader panic. What
// is encrypted as PKCS#8 has a target of its own, FuzzDecrypt.
func FuzzDecryptForeign(f *testing.F) {
	locked := map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00112233445566778899AABBCCDDEEFF"}
	for _, b := range []*pem.Block{
		{Type: "EC PRIVATE KEY", Bytes: []byte{0x30, 0}}, {Type: "RSA PRIVATE KEY", Headers: locked, Bytes: make([]byte, 32)},
		{Type: "PRIVATE KEY", Bytes: []byte{0x30, 3, 2, 1, 0}},
	} {
		f.Add(pem.EncodeToMemory(b))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), pemEncrypted) {
			return
		}
		key, _, err := DecryptForeign(text, func() ([]byte, error) { return []byte("s"), nil })
		if (err == nil) != (key != nil) {
			t.Errorf("key %v, error %v", key, err)
		}
	})
}
