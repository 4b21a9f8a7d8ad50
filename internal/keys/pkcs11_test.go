//go:build cgo

package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // SoftHSM's OAEP knows no other hash
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// newKeyIn makes a key in a token and closes it with the test.
func newKeyIn(t *testing.T, tok *hsmtest.Token, ref, alg string) *Key {
	t.Helper()
	k, err := Generate(Ref(ref), alg, tok.Secret)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	return k
}

func closeAfter(t *testing.T, k *Key) {
	t.Helper()
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTokenKeyTypes(t *testing.T) {
	tok := hsmtest.New(t)
	for _, alg := range []string{"ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "rsa-4096"} {
		t.Run(alg, func(t *testing.T) {
			k := newKeyIn(t, tok, tok.Ref("k-"+alg), alg)
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				h := hash.New()
				h.Write([]byte("message"))
				d := h.Sum(nil)
				sig, err := k.Sign(nil, d, hash)
				if err != nil {
					t.Fatalf("%s: %v", hash, err)
				}
				if err := verify(k.Public(), d, hash, sig); err != nil {
					t.Fatalf("%s: %v", hash, err)
				}
				opensslVerifies(t, k.Public(), hash, sig)
				pub, ok := k.Public().(*rsa.PublicKey)
				if !ok {
					continue
				}
				for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, rsa.PSSSaltLengthAuto, 20} {
					opts := &rsa.PSSOptions{SaltLength: salt, Hash: hash}
					sig, err := k.Sign(nil, d, opts)
					if err != nil || rsa.VerifyPSS(pub, hash, d, sig, opts) != nil {
						t.Fatalf("PSS, %s, salt %d: %v", hash, salt, err)
					}
				}
			}
			again, err := Open(t.Context(), k.Ref(), tok.Secret, Config{})
			if err != nil {
				t.Fatal(err)
			}
			closeAfter(t, again)
			if !samePublic(again.Public(), k.Public()) {
				t.Fatal("the key that was opened is not the one that was made")
			}
			if err := again.KeepAlive(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// opensslVerifies checks a signature over "message" with another implementation.
func opensslVerifies(t *testing.T, pub crypto.PublicKey, hash crypto.Hash, sig []byte) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, err := exec.Command("openssl", "dgst", "-"+strings.ToLower(strings.ReplaceAll(hash.String(), "-", "")),
		"-verify", write("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"-signature", write("sig", sig), write("message", []byte("message"))).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
}

func TestTokenLookup(t *testing.T) {
	tok := hsmtest.New(t)
	tok.Add(t, "other")
	base := "pkcs11:token=lab;"
	query := "?module-path=" + tok.Module
	one := newKeyIn(t, tok, base+"object=one;id=%01"+query, "ec-p256")
	newKeyIn(t, tok, base+"object=two;id=%02"+query, "ec-p256")
	serial := tokenSerial(t, tok)

	for _, alg := range []string{"ec-p256", "ed25519"} {
		for _, taken := range []string{"object=one", "object=one;id=%03", "object=new;id=%01"} {
			if _, err := Generate(Ref(base+taken+query), alg, tok.Secret); err == nil {
				t.Fatalf("%s was generated although taken", taken)
			}
		}
	}
	if _, err := Generate(Ref(base+"object=e"+query), "ed25519", tok.Secret); err == nil || !strings.Contains(err.Error(), "want ec-p256") {
		t.Fatalf("ed25519 in a token: %v", err)
	}
	if _, err := Generate(Ref(base+"id=%09"+query), "ec-p256", tok.Secret); err == nil {
		t.Fatal("a key without a label was made")
	}

	for _, c := range []struct{ ref, wrong string }{
		{"token=lab;object=one", ""},
		{"token=lab;id=%01", ""},
		{"token=lab;object=one;id=%01", ""},
		{"serial=" + serial + ";object=one", ""},
		{"token=lab;serial=" + serial + ";object=one", ""},
		{"token=lab;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;serial=" + serial + ";object=one;type=private", ""},
		{"token=lab;library-manufacturer=SoftHSM;object=one", ""},
		{"token=lab;object=one;id=%02", "no private key"},
		{"token=lab;object=on", "no private key"},
		{"token=other;object=one", "no private key"},
		{"token=none;object=one", "no token"},
		{"token=lab;serial=0;object=one", "no token"},
		{"token=lab;model=YubiHSM;object=one", "no token"},
		{"token=lab;library-description=x;object=one", "another one"},
		{"manufacturer=SoftHSM%20project;object=one", "want token="},
		{"object=one", "want token="},
	} {
		k, err := Open(t.Context(), Ref("pkcs11:"+c.ref+query), tok.Secret, Config{})
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: %v: want %q", c.ref, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		if !samePublic(k.Public(), one.Public()) {
			t.Errorf("%s found another key", c.ref)
		}
		closeAfter(t, k)
	}
	if _, err := Open(t.Context(), "pkcs11:token=lab;object=one", tok.Secret, Config{}); err == nil || !strings.Contains(err.Error(), "module-path") {
		t.Fatalf("no module: %v", err)
	}
	k, err := Open(t.Context(), "pkcs11:token=lab;object=one", tok.Secret, Config{Module: tok.Module})
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, k)
	if _, err := Open(t.Context(), "pkcs11:token=lab;object=one?module-path=/none.so", tok.Secret, Config{}); err == nil {
		t.Fatal("a module that is not there was loaded")
	}
}

func tokenSerial(t *testing.T, tok *hsmtest.Token) string {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--show-slots").Output()
	if err != nil {
		t.Fatal(err)
	}
	serial := ""
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if name == "Serial number" {
			serial = value
		}
		if name == "Label" && value == tok.Label {
			return serial
		}
	}
	t.Fatal("no serial number")
	return ""
}

func TestTokenAmbiguousLabel(t *testing.T) {
	tok := hsmtest.New(t)
	tok.Add(t, tok.Label)
	_, err := Open(t.Context(), Ref(tok.Ref("k")), tok.Secret, Config{})
	if err == nil || !strings.Contains(err.Error(), "2 tokens") {
		t.Fatalf("two tokens of one label: %v", err)
	}
}

// sessionKeyOf are the options of SCEP and CMS.
func sessionKeyOf(size int) crypto.DecrypterOpts {
	return &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size} //nolint:staticcheck // the mechanism of SCEP
}

func TestTokenDecrypt(t *testing.T) {
	tok := hsmtest.New(t)
	k := newKeyIn(t, tok, tok.Ref("ra"), "rsa-2048")
	var _ crypto.Decrypter = k
	pub := k.Public().(*rsa.PublicKey)
	secret := []byte("0123456789abcdef")
	pkcs1, err := rsa.EncryptPKCS1v15(rand.Reader, pub, secret) //nolint:staticcheck // what SCEP clients send
	if err != nil {
		t.Fatal(err)
	}
	oaep, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, secret, nil) //nolint:gosec // see the import
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		msg  []byte
		opts crypto.DecrypterOpts
	}{
		"default":     {pkcs1, nil},
		"PKCS1":       {pkcs1, sessionKeyOf(0)},
		"session key": {pkcs1, sessionKeyOf(16)},
		"OAEP":        {oaep, &rsa.OAEPOptions{Hash: crypto.SHA1}},
	} {
		plain, err := k.Decrypt(nil, c.msg, c.opts)
		if err != nil || string(plain) != string(secret) {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	bad := append([]byte{}, pkcs1...)
	bad[200] ^= 1
	first, err := k.Decrypt(nil, bad, sessionKeyOf(16))
	if err != nil || len(first) != 16 {
		t.Fatalf("a bad ciphertext gave itself away: %x, %v", first, err)
	}
	if second, _ := k.Decrypt(nil, bad, sessionKeyOf(16)); string(second) == string(first) {
		t.Fatal("the key in the place of a bad ciphertext's is not random")
	}
	if long, err := k.Decrypt(nil, pkcs1, sessionKeyOf(32)); err != nil || len(long) != 32 {
		t.Fatalf("a session key of another length: %x, %v", long, err)
	}
	if _, err := k.Decrypt(nil, bad, nil); err == nil {
		t.Fatal("a bad ciphertext was decrypted")
	}
	if _, err := k.Decrypt(nil, pkcs1[1:], nil); !errors.Is(err, errDecrypt) {
		t.Fatalf("a short ciphertext: %v", err)
	}
	if _, err := k.Decrypt(nil, oaep, &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA256}); err == nil {
		t.Fatal("two hashes in OAEP were taken")
	}
	if k.Healthy() != nil {
		t.Fatalf("a stranger's ciphertext made the key ill: %v", k.Healthy())
	}
	if _, err := newKeyIn(t, tok, tok.Ref("ec"), "ec-p256").Decrypt(nil, pkcs1, nil); err == nil {
		t.Fatal("an EC key decrypted")
	}
}

func TestTokenConcurrentUse(t *testing.T) {
	tok := hsmtest.New(t)
	k := newKeyIn(t, tok, tok.Ref("k"), "ec-p256")
	errs := make(chan error, 32)
	for range 32 {
		go func() {
			for range 20 {
				sig, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256)
				if err == nil && !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest("m"), sig) {
					err = errors.New("bad signature")
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}
