package pki

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Subtree is one space of names in a name constraint. Values:
//
//	dns      "example.com" (it and all below), ".example.com" (below only), "" (all)
//	ip       a network, "10.0.0.0/8"
//	email    a mailbox, a host, or ".example.com" (hosts below)
//	uri      a host, or ".example.com" (hosts below)
//	dirname  a name in RFC 4514 form; "" is every name
//
// Other forms are kept only so that nobody can overlook them: type OtherForm,
// the value says which.
type Subtree struct {
	Type  IdentifierType
	Value string
}

// OtherForm is the type of a subtree whose form has no semantics here.
const OtherForm IdentifierType = "other"

// NameConstraints is the content of the extension of RFC 5280, section 4.2.1.10.
type NameConstraints struct {
	Permitted, Excluded []Subtree
}

// ParseNameConstraints reads the extension's value. Minimum and maximum
// distances, which RFC 5280 forbids, and subtrees that are not well formed are
// errors: whoever cannot read a constraint must not issue under it.
func ParseNameConstraints(ext []byte) (*NameConstraints, error) {
	input := cryptobyte.String(ext)
	var seq, permitted, excluded cryptobyte.String
	var hasPermitted, hasExcluded bool
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() ||
		!seq.ReadOptionalASN1(&permitted, &hasPermitted, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!seq.ReadOptionalASN1(&excluded, &hasExcluded, cbasn1.Tag(1).ContextSpecific().Constructed()) || !seq.Empty() {
		return nil, errors.New("parse name constraints: not DER")
	}
	if !hasPermitted && !hasExcluded {
		return nil, errors.New("parse name constraints: empty")
	}
	var nc NameConstraints
	var err error
	if nc.Permitted, err = parseSubtrees(permitted, hasPermitted); err == nil {
		nc.Excluded, err = parseSubtrees(excluded, hasExcluded)
	}
	if err != nil {
		return nil, fmt.Errorf("parse name constraints: %w", err)
	}
	return &nc, nil
}

func parseSubtrees(list cryptobyte.String, present bool) ([]Subtree, error) {
	if present && list.Empty() {
		return nil, errors.New("an empty list of subtrees")
	}
	var trees []Subtree
	for !list.Empty() {
		var entry, base cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadASN1(&entry, cbasn1.SEQUENCE) || !entry.ReadAnyASN1(&base, &tag) {
			return nil, errors.New("a subtree that is not DER")
		}
		if !entry.Empty() {
			return nil, errors.New("a subtree with minimum or maximum")
		}
		t, err := parseSubtree(tag, base)
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	return trees, nil
}

func parseSubtree(tag cbasn1.Tag, base cryptobyte.String) (t Subtree, err error) {
	switch tag {
	case tagDNS, tagEmail, tagURI:
		if !allASCII(string(base)) {
			return t, errors.New("a subtree with octets beyond ASCII")
		}
		t = Subtree{map[cbasn1.Tag]IdentifierType{tagEmail: Email, tagDNS: DNS, tagURI: URI}[tag], string(base)}
	case tagIP:
		half := len(base) / 2
		if len(base) != 8 && len(base) != 32 {
			return t, fmt.Errorf("a network of %d octets", len(base))
		}
		a, _ := netip.AddrFromSlice(base[:half])
		ones := prefixLength(base[half:])
		if ones < 0 {
			return t, errors.New("a network whose mask has holes")
		}
		t = Subtree{IP, netip.PrefixFrom(a, ones).Masked().String()}
	case tagDirName:
		n, err := readName(&base, false)
		if err != nil || !base.Empty() {
			return t, fmt.Errorf("a directory subtree: %w", cmpErr(err, "trailing data"))
		}
		t = Subtree{DirName, n.String()}
	case tagOther:
		oid, ok := readOID(&base)
		if !ok {
			return t, errors.New("an otherName subtree that is not DER")
		}
		return Subtree{OtherForm, "otherName " + oid.String()}, nil
	default:
		return Subtree{OtherForm, fmt.Sprintf("tag %d", tag&0x1f)}, nil
	}
	return t.canonical()
}

// prefixLength returns the number of leading ones of a mask, -1 for holes.
func prefixLength(mask []byte) int {
	ones, ended := 0, false
	for _, b := range mask {
		for bit := 7; bit >= 0; bit-- {
			switch set := b>>bit&1 == 1; {
			case set && ended:
				return -1
			case set:
				ones++
			default:
				ended = true
			}
		}
	}
	return ones
}

// canonical checks the value and brings it into one spelling.
func (t Subtree) canonical() (Subtree, error) {
	bad := func() (Subtree, error) { return t, fmt.Errorf("subtree %s %q: not well formed", t.Type, clip(t.Value)) }
	switch t.Type {
	case DNS:
		if t.Value == "" {
			return t, nil
		}
		return t.domain()
	case Email:
		if strings.Contains(t.Value, "@") {
			v, err := canonicalEmail(t.Value)
			if err != nil {
				return bad()
			}
			return Subtree{Email, v}, nil
		}
		return t.domain()
	case URI:
		return t.domain()
	case IP:
		p, err := netip.ParsePrefix(t.Value)
		if err != nil || p.Addr().Is4In6() || p != p.Masked() {
			return bad()
		}
		return t, nil
	case DirName:
		n, err := ParseName(t.Value)
		if err != nil {
			return bad()
		}
		return Subtree{DirName, n.String()}, nil
	}
	return bad()
}

// domain checks a host, or a domain with a leading dot.
func (t Subtree) domain() (Subtree, error) {
	host, dotted := strings.CutPrefix(t.Value, ".")
	c, err := CheckDNSName(host, DNSRules{SingleLabel: true, Underscore: true})
	if err != nil {
		return t, fmt.Errorf("subtree %s %q: not well formed", t.Type, clip(t.Value))
	}
	if dotted {
		c = "." + c
	}
	return Subtree{t.Type, c}, nil
}

// Marshal returns the extension's value.
func (nc NameConstraints) Marshal() ([]byte, error) {
	if len(nc.Permitted)+len(nc.Excluded) == 0 {
		return nil, errors.New("marshal name constraints: empty")
	}
	b := cryptobyte.NewBuilder(nil)
	var failed error
	add := func(b *cryptobyte.Builder, number uint8, trees []Subtree) {
		if len(trees) == 0 {
			return
		}
		b.AddASN1(cbasn1.Tag(number).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, t := range trees {
				c, err := t.canonical()
				if err != nil {
					failed = err
					return
				}
				b.AddASN1(cbasn1.SEQUENCE, c.add)
			}
		})
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add(b, 0, nc.Permitted)
		add(b, 1, nc.Excluded)
	})
	if failed != nil {
		return nil, fmt.Errorf("marshal name constraints: %w", failed)
	}
	return b.Bytes()
}

// add writes the base of a canonical subtree.
func (t Subtree) add(b *cryptobyte.Builder) {
	if t.Type != IP {
		addGeneralName(b, Identifier(t))
		return
	}
	p := netip.MustParsePrefix(t.Value)
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	b.AddASN1(tagIP, func(b *cryptobyte.Builder) {
		b.AddBytes(p.Addr().AsSlice())
		b.AddBytes(mask)
	})
}
