package quorum

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// FIPS 197, sections 4.2 and 4.2.1: {57}•{83}={c1}, {57}•{13}={fe} and the powers
// of x on the way.
func TestFieldFIPS197(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ a, b, want byte }{
		{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0x57, 0x04, 0x47}, {0x57, 0x08, 0x8e}, {0x57, 0x10, 0x07},
	} {
		if got := mul(c.a, c.b); got != c.want {
			t.Errorf("%02x•%02x = %02x, want %02x", c.a, c.b, got, c.want)
		}
	}
}

func TestFieldLaws(t *testing.T) {
	t.Parallel()
	if inverse(0) != 0 {
		t.Error("1/0 is not 0")
	}
	for a := range 256 {
		a := byte(a)
		if a != 0 && mul(a, inverse(a)) != 1 {
			t.Fatalf("%02x • 1/%02x is not 1", a, a)
		}
		for b := range 256 {
			b := byte(b)
			if mul(a, b) != mul(b, a) || mul(a, b^0x35) != mul(a, b)^mul(a, 0x35) || mul(mul(a, b), 7) != mul(a, mul(b, 7)) {
				t.Fatalf("%02x, %02x: not a field", a, b)
			}
		}
	}
}

// The example of draft-mcgrew-tss-03, section 9: "test" and a zero octet, two of
// two.
func TestPublishedVector(t *testing.T) {
	t.Parallel()
	var shares []Share
	for i, text := range []string{"b9fa07e185", "f5409b4511"} {
		v, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		s := Share{number: i + 1}
		copy(s.value[:], v)
		shares = append(shares, s)
	}
	if got := interpolate(shares)[:5]; !bytes.Equal(got, []byte("test\x00")) {
		t.Errorf("got %x", got)
	}
}

// mustSplit returns the shares of a random secret.
func mustSplit(t testing.TB, k, n int) ([]byte, Set, []Share) {
	t.Helper()
	secret := NewSecret()
	set, shares, err := Split(secret, k, n)
	if err != nil {
		t.Fatal(err)
	}
	return secret, set, shares
}

// Any k shares in any order, brought onto paper and back, restore the secret; k−1
// do not.
func TestG1_26_AnyQuorum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 9).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		secret := rapid.SliceOfN(rapid.Byte(), SecretSize, SecretSize).Draw(t, "secret")
		set, shares, err := Split(secret, k, n)
		if err != nil {
			t.Fatal(err)
		}
		c := Collect(set)
		for i, s := range rapid.Permutation(shares).Draw(t, "order")[:k] {
			if missing := c.Missing(); missing != k-i {
				t.Fatalf("%d missing, want %d", missing, k-i)
			}
			if _, err := c.Secret(); err == nil {
				t.Fatal("a secret from too few shares")
			}
			again, err := ParseShare(strings.Join(s.Lines(), "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Add(again); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := c.Secret(); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("restored %x, %v", got, err)
		}
	})
}

// All three-share subsets of five, and that two shares leave every secret
// possible: for each octet there is a third share that makes it the secret.
func TestG1_26_TooFewSharesTellNothing(t *testing.T) {
	t.Parallel()
	_, _, shares := mustSplit(t, 3, 5)
	for place := range SecretSize {
		possible := map[byte]bool{}
		for v := range 256 {
			third := shares[4]
			third.value[place] = byte(v)
			possible[interpolate([]Share{shares[0], shares[1], third})[place]] = true
		}
		if len(possible) != 256 {
			t.Fatalf("octet %d: two shares leave %d secrets", place, len(possible))
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size, k, n int
		want       string
	}{
		{31, 2, 3, "31 octets"}, {32, 1, 3, "at least 2"}, {32, 0, 0, "at least 2"}, {32, 4, 3, "from 4"}, {32, 2, 256, "to 255"},
	} {
		if _, _, err := Split(make([]byte, c.size), c.k, c.n); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	_, set, shares := mustSplit(t, 2, MaxShares)
	if _, err := Combine(set, shares[MaxShares-2:]); err != nil {
		t.Errorf("the last two of 255: %v", err)
	}
}

// A share that is wrong, foreign or repeated is named.
func TestG1_26_WrongShareIsNamed(t *testing.T) {
	t.Parallel()
	_, set, shares := mustSplit(t, 3, 5)
	_, other, foreign := mustSplit(t, 3, 5)
	changed := shares[2]
	changed.value[9] ^= 1
	otherK := shares[2]
	otherK.need = 2
	beyond := shares[2]
	beyond.of, beyond.number = 9, 9
	for _, c := range []struct {
		name   string
		shares []Share
		want   string
	}{
		{"one", shares[:1], "2 missing"},
		{"none", nil, "3 missing"},
		{"two", shares[3:], "1 missing"},
		{"repeated", []Share{shares[0], shares[1], shares[0]}, "share 1 was given twice"},
		{"foreign", []Share{shares[0], foreign[2], shares[1]}, fmt.Sprintf("share 3 is not of this set: it is of set %s, and set %s is needed", other.ID, set.ID)},
		{"changed", []Share{changed, shares[0], shares[1]}, "share 3 is not of this set: it bears the set's id"},
		{"other k", []Share{otherK, shares[0], shares[1]}, "share 3 is not of this set: it says 2 of 5"},
		{"beyond", []Share{beyond}, "share 9 is not of this set"},
	} {
		if _, err := Combine(set, c.shares); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	set.Whole[0] ^= 1
	if _, err := Combine(set, shares[:3]); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged record: %v", err)
	}
}

func TestG1_26_Collector(t *testing.T) {
	t.Parallel()
	secret, set, shares := mustSplit(t, 2, 3)
	_, _, foreign := mustSplit(t, 2, 3)
	c := Collect(set)
	for _, step := range []struct {
		share   Share
		want    string
		missing int
	}{
		{foreign[0], "not of this set", 2}, {shares[1], "", 1}, {shares[1], "share 2 was given already", 1}, {shares[0], "", 0}, {shares[2], "", 0},
	} {
		err := c.Add(step.share)
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("%s: %v, want %q", step.share, err, step.want)
		}
		if c.Missing() != step.missing {
			t.Errorf("%d missing, want %d", c.Missing(), step.missing)
		}
	}
	if got, err := c.Secret(); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%v", err)
	}
	if got := fmt.Sprint(c.Numbers()); got != "[2 1 3]" {
		t.Errorf("numbers %s", got)
	}
	c.Clear()
	if c.Missing() != 2 {
		t.Error("shares are left after Clear")
	}
}

func TestSetText(t *testing.T) {
	t.Parallel()
	_, set, shares := mustSplit(t, 2, 3)
	text, err := set.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSet(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Combine(again, shares[1:]); err != nil {
		t.Error(err)
	}
	for _, s := range shares {
		if strings.Contains(string(text), hex.EncodeToString(s.value[:8])) {
			t.Error("the public record holds a share")
		}
	}
	good := string(text)
	for name, bad := range map[string]string{
		"empty":     "",
		"unknown":   strings.Replace(good, `"need"`, `"nead"`, 1),
		"k":         strings.Replace(good, `"need": 2`, `"need": 1`, 1),
		"n":         strings.Replace(good, `"of": 3`, `"of": 4`, 1),
		"format":    strings.Replace(good, "quorum/1", "quorum/2", 1),
		"id":        strings.Replace(good, set.ID.String(), "7f3a-91c", 1),
		"hash":      strings.Replace(good, hex.EncodeToString(set.Salt[:]), "00", 1),
		"more":      good + "{}",
		"very long": good + strings.Repeat(" ", maxSetText),
	} {
		if _, err := ParseSet([]byte(bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := (Set{}).Text(); err == nil {
		t.Error("an empty set was written")
	}
	if _, err := Combine(Set{}, shares); err == nil {
		t.Error("an empty set was combined")
	}
}
