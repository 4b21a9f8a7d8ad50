package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

func kek(b byte) []byte { return bytes.Repeat([]byte{b}, KEKSize) }

func newSealer(t *testing.T, kek []byte, older ...[]byte) *Sealer {
	t.Helper()
	s, err := New(kek, older...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealerRoundTrip(t *testing.T) {
	s := newSealer(t, kek(1))
	for _, plain := range [][]byte{nil, {0}, bytes.Repeat([]byte("secret"), 1000)} {
		sealed := s.Seal("eab:k1", plain)
		got, err := s.Open("eab:k1", sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("Open(Seal(%d bytes)) = %d bytes, %v", len(plain), len(got), err)
		}
		if len(plain) > 0 && bytes.Equal(sealed, s.Seal("eab:k1", plain)) {
			t.Error("two seals of one secret are equal: the nonce repeats")
		}
	}
}

func TestSealerRotation(t *testing.T) {
	before := newSealer(t, kek(1))
	sealed := before.Seal("nonce", []byte("x"))

	during := newSealer(t, kek(2), kek(1))
	if got, err := during.Open("nonce", sealed); err != nil || string(got) != "x" {
		t.Fatalf("the former key does not open: %q, %v", got, err)
	}
	if !during.Stale(sealed) || during.Stale(during.Seal("nonce", nil)) {
		t.Error("Stale does not tell the old key from the new")
	}

	after := newSealer(t, kek(2))
	if _, err := after.Open("nonce", sealed); !errors.Is(err, ErrKey) {
		t.Errorf("a key that is gone: %v, want ErrKey", err)
	}
	if got, err := after.Open("nonce", during.Seal("nonce", []byte("y"))); err != nil || string(got) != "y" {
		t.Errorf("the new key does not open: %q, %v", got, err)
	}
}

func TestSealerRefusesWhatWasAltered(t *testing.T) {
	s := newSealer(t, kek(1), kek(2))
	sealed := s.Seal("eab:k1", []byte("secret"))
	if _, err := s.Open("eab:k2", sealed); !errors.Is(err, ErrBroken) {
		t.Errorf("another name: %v, want ErrBroken", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := s.Open("eab:k1", bad); err == nil {
			t.Fatalf("octet %d altered, and it opens", i)
		}
	}
	for n := range sealed {
		if _, err := s.Open("eab:k1", sealed[:n]); err == nil {
			t.Fatalf("cut to %d octets, and it opens", n)
		}
	}
	// The header is under the tag: another key's id on the same ciphertext fails
	// even if both keys were equal in everything else.
	other := bytes.Clone(sealed)
	id := keyID(kek(2))
	copy(other[1:], id[:])
	if _, err := s.Open("eab:k1", other); !errors.Is(err, ErrBroken) {
		t.Errorf("another key id: %v, want ErrBroken", err)
	}
}

func TestMAC(t *testing.T) {
	s, other := newSealer(t, kek(2), kek(1)), newSealer(t, kek(3))
	former := newSealer(t, kek(1)).MAC("grant", []byte("row"))
	for _, mac := range [][]byte{s.MAC("grant", []byte("row")), former} {
		if err := s.CheckMAC("grant", []byte("row"), mac); err != nil {
			t.Error(err)
		}
		if !errors.Is(s.CheckMAC("grant", []byte("rox"), mac), ErrBroken) ||
			!errors.Is(s.CheckMAC("block", []byte("row"), mac), ErrBroken) ||
			!errors.Is(other.CheckMAC("grant", []byte("row"), mac), ErrKey) ||
			!errors.Is(s.CheckMAC("grant", []byte("row"), mac[:len(mac)-1]), ErrFormat) {
			t.Error("a MAC holds for other data, another name or key, or cut short")
		}
	}
	if !s.Stale(former) || s.Stale(s.MAC("grant", nil)) {
		t.Error("Stale does not tell the old key's MAC from the new one's")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, keys := range map[string][][]byte{
		"short":     {kek(1)[:31]},
		"empty":     {nil},
		"long":      {append(kek(1), 0)},
		"bad older": {kek(1), kek(2)[:16]},
		"twice":     {kek(1), kek(2), kek(1)},
	} {
		if _, err := New(keys[0], keys[1:]...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParse(t *testing.T) {
	a, b := GenerateKEK(), GenerateKEK()
	s, err := Parse([]byte("# current\n" + a + "\r\n\n # former\n" + b + "\n"))
	if err != nil || len(s.Keys()) != 2 || s.Keys()[0].Line != 2 || s.Keys()[1].Line != 5 || !s.Has(s.Keys()[1].ID) {
		t.Fatalf("Parse: %+v, %v", s, err)
	}
	for name, text := range map[string]string{
		"empty": "", "only a comment": "# nothing\n", "not base64": "p@ssw0rd-in-clear\n", "short": "c2hvcnQ=\n", "twice": a + "\n" + a,
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "p@ssw0rd") || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

// golden is "secret" sealed for "n" under the key of 32 times 0x01: what is in
// databases must open for as long as its version is known.
func golden(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealedFormIsStable(t *testing.T) {
	if plain, err := newSealer(t, kek(1)).Open("n", golden(t)); err != nil || string(plain) != "secret" {
		t.Errorf("the golden secret opens as %q, %v", plain, err)
	}
}

func FuzzSealerOpen(f *testing.F) {
	s, err := New(kek(1))
	if err != nil {
		f.Fatal(err)
	}
	good := golden(f)
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := s.Open("n", sealed); err == nil && !bytes.Equal(sealed, good) {
			t.Errorf("forged: %x", sealed)
		}
		s.Stale(sealed)
	})
}
