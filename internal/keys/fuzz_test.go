package keys

import (
	"encoding/asn1"
	"encoding/pem"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/youmark/pkcs8"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	slot := uint64(7)
	for _, c := range []struct {
		in   string
		want *URI   // nil: an error
		err  string // part of it
	}{
		{"pkcs11:token=The%20CA;object=root;type=private", &URI{Token: "The CA", Object: "root", Type: "private"}, ""},
		{"pkcs11:id=%00%ffA;slot-id=7?module-path=/usr/lib/softhsm.so", &URI{ID: []byte{0, 0xff, 'A'}, SlotID: &slot, ModulePath: "/usr/lib/softhsm.so"}, ""},
		{"pkcs11:object=a&b;serial=1;model=m;manufacturer=x?module-name=p11", &URI{Object: "a&b", Serial: "1", Model: "m", Manufacturer: "x", ModuleName: "p11"}, ""},
		{"pkcs11:object=a;library-version=2.1;library-manufacturer=x;library-description=y;slot-manufacturer=z;slot-description=w",
			&URI{Object: "a", LibraryVersion: "2.1", LibraryManufacturer: "x", LibraryDescription: "y", SlotManufacturer: "z", SlotDescription: "w"}, ""},
		{"file:x", nil, "want pkcs11:"},
		{"pkcs11:", nil, "name=value"},
		{"pkcs11:token=x", nil, "want object= or id="},
		{"pkcs11:object=a;", nil, "name=value"},
		{"pkcs11:object=a;object=b", nil, "given twice"},
		{"pkcs11:object=a;colour=red", nil, `"colour" is not known`},
		{"pkcs11:object=a;type=cert", nil, "want private"},
		{"pkcs11:object=a;slot-id=0x1", nil, "decimal"},
		{"pkcs11:object=a b", nil, "percent-encoded"},
		{"pkcs11:object=a%2", nil, "percent-encoding"},
		{"pkcs11:object=%ff", nil, "UTF-8"},
		{"pkcs11:object=%00", nil, "UTF-8"},
		{"pkcs11:object=a?", nil, "name=value"},
		{"pkcs11:object=a?module-path=lib.so", nil, "absolute"},
		{"pkcs11:object=a?x=1", nil, "not known"},
		{"pkcs11:object=a?pin-value=1234", nil, "does not belong"},
		{"pkcs11:object=a?pin-source=file:/x", nil, "does not belong"},
	} {
		got, err := ParseURI(c.in)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v: want %q", c.in, err, c.err)
			} else if strings.Contains(err.Error(), "1234") {
				t.Errorf("%s: the error shows the PIN: %v", c.in, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.in, d)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=The%20CA;object=root;type=private?module-path=/usr/lib/x.so")
	f.Add("pkcs11:id=%00%ff;slot-id=18446744073709551615")
	f.Add("pkcs11:object=a?pin-value=1&pin-source=|x")
	f.Add("pkcs11:;;=?&=")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err == nil && u.Object == "" && len(u.ID) == 0 {
			t.Fatalf("%q names no object", s)
		}
		if (err == nil) != (Ref(s).Check() == nil) && strings.HasPrefix(s, "pkcs11:") {
			t.Fatalf("%q: Check and ParseURI disagree", s)
		}
	})
}

// encrypted returns a key file whose structure is chosen piece by piece.
func encrypted(tb testing.TB, kdfOID asn1.ObjectIdentifier, kdfParams any, iv []byte, data []byte) []byte {
	tb.Helper()
	type algorithm struct {
		OID    asn1.ObjectIdentifier
		Params any
	}
	der, err := asn1.Marshal(struct {
		Alg  algorithm
		Data []byte
	}{algorithm{oidPBES2, struct{ KDF, Cipher algorithm }{
		algorithm{kdfOID, kdfParams}, algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, iv},
	}}, data})
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: der})
}

type scrypt struct {
	Salt    []byte
	N, R, P int
}

type pbkdf2 struct {
	Salt []byte
	N    int
}

func TestDecryptRefusesCostAndDamage(t *testing.T) {
	t.Parallel()
	iv, data := make([]byte, 16), make([]byte, 32)
	for name, text := range map[string][]byte{
		"scrypt memory":   encrypted(t, oidScrypt, scrypt{nil, 1 << 30, 8, 1}, iv, data),
		"scrypt overflow": encrypted(t, oidScrypt, scrypt{nil, 1 << 62, math.MaxInt64, math.MaxInt64}, iv, data),
		"scrypt work":     encrypted(t, oidScrypt, scrypt{nil, 1 << 14, 8, 1 << 30}, iv, data),
		"scrypt negative": encrypted(t, oidScrypt, scrypt{nil, 16, -1, 1}, iv, data),
		"scrypt N":        encrypted(t, oidScrypt, scrypt{nil, 15, 1, 1}, iv, data),
		"pbkdf2 work":     encrypted(t, oidPBKDF2, pbkdf2{nil, math.MaxInt32}, iv, data),
		"pbkdf2 zero":     encrypted(t, oidPBKDF2, pbkdf2{nil, 0}, iv, data),
		"short IV":        encrypted(t, oidScrypt, scrypt{nil, 16, 1, 1}, iv[:8], data),
		"half a block":    encrypted(t, oidScrypt, scrypt{nil, 16, 1, 1}, iv, data[:24]),
		"no data":         encrypted(t, oidScrypt, scrypt{nil, 16, 1, 1}, iv, nil),
		"other KDF":       encrypted(t, asn1.ObjectIdentifier{1, 2, 3}, scrypt{}, iv, data),
	} {
		asked := false
		_, err := Decrypt(text, func() ([]byte, error) { asked = true; return []byte("s"), nil })
		if err == nil || asked {
			t.Errorf("%s: %v, passphrase asked: %v", name, err, asked)
		}
	}
	if _, err := Decrypt(encrypted(t, oidScrypt, scrypt{nil, 16, 1, 1}, iv, data), pass("s")); err == nil {
		t.Error("zeros were taken for a key")
	}
}

func FuzzDecrypt(f *testing.F) {
	good, err := pkcs8.MarshalPrivateKey(mustGenerate(f), []byte("s"), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.ScryptOpts{SaltSize: 8, CostParameter: 2, BlockSize: 1, ParallelizationParameter: 1},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: good}))
	f.Add(encrypted(f, oidScrypt, scrypt{nil, 16, 1, 1}, make([]byte, 16), make([]byte, 16)))
	f.Add(encrypted(f, oidPBKDF2, pbkdf2{[]byte("salt"), 1}, make([]byte, 16), make([]byte, 48)))
	f.Add(encrypted(f, oidScrypt, scrypt{nil, 1 << 62, 1 << 62, 1 << 62}, make([]byte, 16), make([]byte, 16)))
	f.Fuzz(func(t *testing.T, text []byte) {
		block, _ := pem.Decode(text)
		// What is valid but slow is left out: a fuzzer would only wait for it.
		if block == nil || checkEncrypted(block.Bytes, limits{iterations: 100, memory: 1 << 16, work: 1 << 16}) != nil {
			_, err := Decrypt(text, nil)
			if err == nil {
				t.Fatal("opened without a passphrase")
			}
			return
		}
		_, _ = Decrypt(text, pass("s")) // must not panic
	})
}

func mustGenerate(tb testing.TB) any {
	tb.Helper()
	k, err := Make("ec-p256")
	if err != nil {
		tb.Fatal(err)
	}
	return k
}
