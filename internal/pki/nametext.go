package pki

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// String returns the name as RFC 4514 writes it: most specific part first,
// "CN=www.example.com,O=Example,C=CH". Types that have no short name are
// written as OID and #hex.
func (n Name) String() string {
	var b strings.Builder
	for i := len(n) - 1; i >= 0; i-- {
		for j, a := range n[i] {
			switch {
			case j > 0:
				b.WriteByte('+')
			case i < len(n)-1:
				b.WriteByte(',')
			}
			a.write(&b)
		}
	}
	return b.String()
}

func (a Attribute) write(b *strings.Builder) {
	t := attributeByOID(a.OID)
	if t == nil {
		value := cryptobyte.NewBuilder(nil)
		addText(value, cbasn1.UTF8String, a.Value)
		b.WriteString(a.OID.String() + "=#" + hex.EncodeToString(value.BytesOrPanic()))
		return
	}
	b.WriteString(t.names[0] + "=")
	for i, c := range a.Value {
		first, last := i == 0, i == len(a.Value)-1
		switch {
		case strings.ContainsRune(`"+,;<>\=`, c), first && (c == '#' || c == ' '), last && c == ' ':
			b.WriteByte('\\')
			b.WriteRune(c)
		case deceptive(c):
			for _, octet := range []byte(string(c)) {
				fmt.Fprintf(b, `\%02x`, octet)
			}
		default:
			b.WriteRune(c)
		}
	}
}

// maxNameText is the longest text that ParseName looks at.
const maxNameText = 8192

// ParseName reads a name in RFC 4514 form. The result passes Check. Spaces
// around separators are forgiven; an empty text is the empty name.
func ParseName(s string) (Name, error) {
	if len(s) > maxNameText {
		return nil, fmt.Errorf("name: longer than %d octets", maxNameText)
	}
	var reversed Name
	rest := strings.TrimSpace(s)
	more := rest != ""
	for rdn := (RDN)(nil); more; {
		a, sep, tail, err := readAttribute(rest)
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", clip(s), err)
		}
		rdn = append(rdn, a)
		rest, more = tail, sep != 0
		if sep != '+' {
			reversed = append(reversed, rdn)
			rdn = nil
		}
	}
	n := make(Name, 0, len(reversed))
	for i := len(reversed) - 1; i >= 0; i-- {
		n = append(n, reversed[i])
	}
	if err := n.Check(); err != nil {
		return nil, err
	}
	return n, nil
}

// readAttribute reads one "type=value" and the separator after it (0 at the end).
func readAttribute(s string) (a Attribute, sep byte, rest string, err error) {
	typ, rest, ok := strings.Cut(s, "=")
	if !ok {
		return a, 0, "", errors.New(`want attributes of the form "CN=value" with commas between`)
	}
	if a.OID, err = ParseAttributeType(strings.TrimSpace(typ)); err != nil {
		return a, 0, "", err
	}
	rest = strings.TrimLeft(rest, " ")
	var value []byte
	kept := 0 // spaces after this place are only padding
	isHex := strings.HasPrefix(rest, "#")
	i := 0
scan:
	for ; i < len(rest); i++ {
		switch c := rest[i]; c {
		case ',', '+', ';':
			break scan
		case '\\':
			raw, n := unescape(rest[i+1:])
			if n == 0 {
				return a, 0, "", errors.New("a backslash without a character to escape")
			}
			value = append(value, raw)
			i += n
			kept = len(value)
		case '"', '<', '>':
			return a, 0, "", fmt.Errorf("the character %q must be escaped by a backslash", c)
		default:
			value = append(value, c)
			if c != ' ' {
				kept = len(value)
			}
		}
	}
	a.Value = string(value[:kept])
	if isHex {
		if a.Value, err = hexValue(a.Value[1:]); err != nil {
			return a, 0, "", err
		}
	}
	if i == len(rest) {
		return a, 0, "", nil
	}
	return a, rest[i], rest[i+1:], nil
}

// unescape returns the octet that follows a backslash and how many characters
// spell it; 0 where nothing sensible does.
func unescape(s string) (byte, int) {
	if len(s) >= 2 {
		if b, err := hex.DecodeString(s[:2]); err == nil {
			return b[0], 2
		}
	}
	if s != "" && strings.IndexByte(` "#+,;<=>\`, s[0]) >= 0 {
		return s[0], 1
	}
	return 0, 0
}

func hexValue(digits string) (string, error) {
	der, err := hex.DecodeString(digits)
	if err != nil {
		return "", errors.New("a #value that is not hexadecimal")
	}
	input := cryptobyte.String(der)
	value, err := readText(&input)
	if err != nil || !input.Empty() {
		return "", errors.New("a #value that is not the DER of one string")
	}
	return value, nil
}

// SingleName returns the name of one attribute each, in the order given.
func SingleName(attributes ...Attribute) Name {
	n := make(Name, len(attributes))
	for i, a := range attributes {
		n[i] = RDN{a}
	}
	return n
}

// CommonNameOnly returns the name that consists of one CN.
func CommonNameOnly(cn string) Name {
	return SingleName(Attribute{OID: OIDCommonName, Value: cn})
}
