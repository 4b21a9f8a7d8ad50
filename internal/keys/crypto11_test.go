//go:build cgo

package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"os"
	"os/exec"
	"testing"

	"github.com/ThalesGroup/crypto11"

	"github.com/privyseal/privyseal/internal/keys/hsmtest"
)

// makeByCrypto11 is set for the process that makes the keys of
// TestKeysOfFormerReleases: a module is started once in a process.
const makeByCrypto11 = "PRIVYSEAL_TEST_CRYPTO11"

// TestKeysOfFormerReleases: keys that crypto11 made in a token, as releases before did and
// other programs do, are found by label, by id and by both, and sign.
func TestKeysOfFormerReleases(t *testing.T) { // not parallel: the token is found by the environment
	if module := os.Getenv(makeByCrypto11); module != "" {
		makeKeys(t, module)
		return
	}
	tok := hsmtest.New(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKeysOfFormerReleases$", "-test.v")
	cmd.Env = append(os.Environ(), makeByCrypto11+"="+tok.Module)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, object := range []string{"object=an-ec", "object=an-rsa", "id=%07%01", "object=an-rsa;id=%07%02"} {
		ref := "pkcs11:token=" + tok.Label + ";" + object + "?module-path=" + tok.Module
		k, err := Open(t.Context(), Ref(ref), tok.Secret, Config{})
		if err != nil {
			t.Fatalf("%s: %v", object, err)
		}
		signature, err := k.SignContext(t.Context(), digest("m"), crypto.SHA256)
		if err != nil {
			t.Fatalf("%s: %v", object, err)
		}
		switch pub := k.Public().(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(pub, digest("m"), signature) {
				t.Errorf("%s: the signature is wrong", object)
			}
		case *rsa.PublicKey:
			if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest("m"), signature); err != nil {
				t.Errorf("%s: %v", object, err)
			}
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

func makeKeys(t *testing.T, module string) {
	t.Helper()
	c, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: "lab", Pin: "1234", MaxSessions: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GenerateECDSAKeyPairWithLabel([]byte{7, 1}, []byte("an-ec"), elliptic.P256()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GenerateRSAKeyPairWithLabel([]byte{7, 2}, []byte("an-rsa"), 2048); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
