package pki

import (
	"math/big"
	"testing"
)

func TestX1_SerialShape(t *testing.T) {
	seen := map[Serial]bool{}
	for range 1000 {
		s := NewSerial()
		n := s.Big()
		if n.Sign() <= 0 || n.BitLen() < 127 || n.BitLen() > 159 || len(n.Bytes()) > 20 {
			t.Fatalf("serial %s has %d bits in %d octets", s, n.BitLen(), len(n.Bytes()))
		}
		if SerialFromBig(n) != s || seen[s] {
			t.Fatalf("serial %s does not survive a round trip, or came twice", s)
		}
		seen[s] = true
	}
}

func TestParseSerial(t *testing.T) {
	for in, want := range map[string]Serial{
		"0A:ff": "0aff", "0x1": "01", "aff": "0aff", " 00ab ": "ab",
	} {
		got, err := ParseSerial(in)
		if err != nil || got != want {
			t.Errorf("ParseSerial(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	tooLong := new(big.Int).Lsh(big.NewInt(1), 159).Text(16)
	for _, in := range []string{"", "zz", "0", "0000", tooLong} {
		if got, err := ParseSerial(in); err == nil {
			t.Errorf("ParseSerial(%q) = %q, want an error", in, got)
		}
	}
}

func TestReasonNames(t *testing.T) {
	for r := range reasonNames {
		if got, err := ParseReason(r.String()); err != nil || got != r {
			t.Errorf("ParseReason(%q) = %d, %v", r.String(), got, err)
		}
	}
	if _, err := ParseReason("boredom"); err == nil || Reason(7).Valid() {
		t.Error("a reason outside RFC 5280 was taken")
	}
}
