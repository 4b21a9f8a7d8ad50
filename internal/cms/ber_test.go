package cms

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
)

// form is how the test's own encoder writes a DER message again.
type form struct {
	indefinite bool // constructed elements end with an end-of-contents
	pieces     int  // octet strings come in pieces of so many octets; 0 is in one
	nested     bool // and the pieces in strings of their own
	long       int  // lengths take so many octets more than they need
}

var forms = map[string]form{
	"indefinite":       {indefinite: true},
	"pieces":           {pieces: 7},
	"one octet pieces": {pieces: 1, indefinite: true},
	"nested pieces":    {pieces: 5, nested: true, indefinite: true},
	"long lengths":     {long: 2},
	"everything":       {indefinite: true, pieces: 300, nested: true, long: 1},
}

// encode writes the elements of der again. Implicit [0] strings at the end of
// an EncryptedContentInfo come in pieces too.
func (f form) encode(der []byte) []byte {
	var out []byte
	for len(der) > 0 {
		tag, body, rest := split(der)
		der = rest
		switch {
		case tag&constructed != 0:
			out = append(out, f.element(tag, f.encode(body))...)
		case f.pieces > 0 && (tag == 4 || tag == 0x80 && len(rest) == 0):
			out = append(out, f.element(tag|constructed, f.split(body, f.nested && tag == 4))...)
		default:
			out = append(out, f.element(tag, body)...)
		}
	}
	return out
}

func (f form) split(body []byte, nested bool) []byte {
	var out []byte
	for len(body) > 0 {
		n := min(f.pieces, len(body))
		piece := f.element(4, body[:n])
		if nested {
			piece = f.element(0x24, piece)
		}
		out, body = append(out, piece...), body[n:]
	}
	return out
}

func (f form) element(tag byte, body []byte) []byte {
	if f.indefinite && tag&constructed != 0 {
		return append(append([]byte{tag, 0x80}, body...), 0, 0)
	}
	octets := max(lengthOctets(len(body))-1, 0)
	if octets == 0 && f.long == 0 {
		return append([]byte{tag, byte(len(body))}, body...)
	}
	out := []byte{tag, 0}
	for i := max(octets, 1) + f.long - 1; i >= 0; i-- {
		out = append(out, byte(uint64(len(body))>>(8*i)))
	}
	out[1] = 0x80 | byte(len(out)-2)
	return append(out, body...)
}

// split takes the first element off a DER text that is known to be right.
func split(der []byte) (tag byte, body, rest []byte) {
	n, at := int(der[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		n = 0
		for _, c := range der[2 : 2+octets] {
			n = n<<8 | int(c)
		}
		at += octets
	}
	return der[0], der[at : at+n], der[at+n:]
}

func unhex(s string) []byte { return must(hex.DecodeString(strings.ReplaceAll(s, " ", ""))) }

func TestNormalise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ber, der string }{
		{"null", "0500", "0500"},
		{"empty sequence", "3080 0000", "3000"},
		{"sequence", "3080 020101 0500 0000", "3005 020101 0500"},
		{"nested", "3080 3080 3180 0000 0000 0000", "3004 3002 3100"},
		{"indefinite in definite", "3009 3080 020101 0000 0500", "3007 3003 020101 0500"},
		{"definite in indefinite", "3080 3003 020101 0000", "3005 3003 020101"},
		{"long length", "30820003 020101", "3003 020101"},
		{"longest length", "308800000000 00000003 020101", "3003 020101"},
		{"string", "2480 0402 0102 0401 03 0000", "0403 010203"},
		{"empty string", "2480 0000", "0400"},
		{"definite string", "2404 0402 0102", "0402 0102"},
		{"nested string", "2480 2480 0401 01 0000 2403 040102 040103 0000", "0403 010203"},
		{"text", "2c80 0401 61 0401 62 0000", "0c02 6162"},
		{"implicit string stays", "a080 0401 61 0000", "a003 0401 61"},
		{"external", "2880 0500 0000", "2802 0500"},
		{"length that grows", "30 80 04 7e" + strings.Repeat("00", 126) + "0000", "30 8180 04 7e" + strings.Repeat("00", 126)},
		{"private class", "e080 c500 0000", "e002 c500"},
		{"zeros in a string", "3080 0402 0000 0000", "3004 0402 0000"},
	} {
		got, err := normalise(unhex(c.ber), Limits{})
		if err != nil || !bytes.Equal(got, unhex(c.der)) {
			t.Errorf("%s: %x, %v, want %s", c.name, got, err, c.der)
		}
	}
}

func TestNormaliseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ber string }{
		{"nothing", ""},
		{"a tag alone", "30"},
		{"cut contents", "3003 0201"},
		{"cut length", "3082 01"},
		{"no length octets left in the parent", "3002 0482 0001"},
		{"longer than its parent", "3003 040201 00"},
		{"no end", "3080 0500"},
		{"half an end", "3080 0500 00"},
		{"something after the end", "3000 00"},
		{"two elements", "0500 0500"},
		{"an end with contents", "3080 000100 0000"},
		{"an end in definite length", "3004 0500 0000"},
		{"an end alone", "0000"},
		{"a primitive one of indefinite length", "0480 0000"},
		{"a sequence that is primitive", "1000"},
		{"a set that is primitive", "1100"},
		{"an integer that is constructed", "2203 020101"},
		{"a bit string in pieces", "2304 0302 0000"},
		{"an unlike piece", "2403 020101"},
		{"a piece of another class", "2403 840101"},
		{"a high tag number", "1f8101 00"},
		{"a length of nine octets", "3089 000000000000000001 00"},
		{"a length over any", "3088 ffffffffffffffff"},
		{"a reserved length", "30ff"},
	} {
		if got, err := normalise(unhex(c.ber), Limits{}); err == nil {
			t.Errorf("%s: %x", c.name, got)
		} else {
			wantFault(t, err, fault.Malformed, "cms_syntax")
		}
	}
}

func TestNormaliseKeepsDER(t *testing.T) {
	t.Parallel()
	der := deviceRSA().cert.Raw
	got, err := normalise(der, Limits{})
	if err != nil || &got[0] != &der[0] || len(got) != len(der) {
		t.Errorf("DER is copied or changed: %v", err)
	}
	for name, f := range forms {
		if got, err := normalise(f.encode(der), Limits{}); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSCEP_S28_LimitsOfForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ber  []byte
		l    Limits
		ok   bool
	}{
		{"64 KiB", append([]byte{4, 0x82, 0xff, 0xfc}, make([]byte, 0xfffc)...), Limits{}, true},
		{"more", append([]byte{4, 0x82, 0xff, 0xfd}, make([]byte, 0xfffd)...), Limits{}, false},
		{"more by leave", append([]byte{4, 0x82, 0xff, 0xfd}, make([]byte, 0xfffd)...), Limits{Size: 1 << 20}, true},
		{"32 deep", unhex(strings.Repeat("3080", 32) + strings.Repeat("0000", 32)), Limits{}, true},
		{"33 deep", unhex(strings.Repeat("3080", 33) + strings.Repeat("0000", 33)), Limits{}, false},
		{"33 deep strings", unhex(strings.Repeat("2480", 33) + strings.Repeat("0000", 33)), Limits{}, false},
		{"33 deep by leave", unhex(strings.Repeat("3080", 33) + strings.Repeat("0000", 33)), Limits{Depth: 40}, true},
		{"8192 elements", unhex("3080" + strings.Repeat("0500", 8191) + "0000"), Limits{}, true},
		{"8193 elements", unhex("3080" + strings.Repeat("0500", 8192) + "0000"), Limits{}, false},
		{"8193 elements by leave", unhex("3080" + strings.Repeat("0500", 8192) + "0000"), Limits{Elements: 9000}, true},
	} {
		_, err := normalise(c.ber, c.l)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok {
			wantFault(t, err, fault.TooLarge, "cms_limit")
		}
	}
}

// plainly is the definition of normalise, written for reading: recursive, and
// quadratic in depth. The fuzz target compares the two.
func plainly(ber []byte, inString bool, depth int) (der, rest []byte, err error) {
	bad := errors.New("bad")
	if len(ber) < 2 || depth > 32 {
		return nil, nil, bad
	}
	tag, n, body := ber[0], int(ber[1]), ber[2:]
	indefinite := n == 0x80
	if n > 0x80 {
		octets := n & 0x7f
		if octets > 8 || len(body) < octets {
			return nil, nil, bad
		}
		n = 0
		for _, c := range body[:octets] {
			if n = n<<8 | int(c); n > 1<<24 {
				return nil, nil, bad
			}
		}
		body = body[octets:]
	}
	if !indefinite {
		if n > len(body) {
			return nil, nil, bad
		}
		body, rest = body[:n], body[n:]
	}
	str, err := kind(tag, inString)
	if err != nil || indefinite && tag&constructed == 0 {
		return nil, nil, bad
	}
	contents := body
	if tag&constructed != 0 {
		contents = nil
		for {
			if indefinite && bytes.HasPrefix(body, []byte{0, 0}) {
				rest = body[2:]
				break
			}
			if !indefinite && len(body) == 0 {
				break
			}
			var e []byte
			if e, body, err = plainly(body, str, depth+1); err != nil {
				return nil, nil, err
			}
			contents = append(contents, e...)
		}
	}
	if str {
		tag &^= constructed
	}
	if inString {
		return contents, rest, nil
	}
	return form{}.element(tag, contents), rest, nil
}
