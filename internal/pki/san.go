package pki

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxNames is how many names a SAN may hold at all; profiles set lower limits
// (rule X15).
const maxNames = 1000

// The otherName forms that are understood.
var (
	oidUPN         = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	oidPermanentID = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}
	oidHardwareID  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4}
)

// Context tags of GeneralName (RFC 5280, section 4.2.1.6).
const (
	tagOther   = cbasn1.Tag(0x80 | 0x20)
	tagEmail   = cbasn1.Tag(0x80 | 1)
	tagDNS     = cbasn1.Tag(0x80 | 2)
	tagDirName = cbasn1.Tag(0x80 | 0x20 | 4)
	tagURI     = cbasn1.Tag(0x80 | 6)
	tagIP      = cbasn1.Tag(0x80 | 7)
)

// ParseSAN reads the value of a subjectAltName extension: every entry, in order,
// canonical and without repetition. A form that is not understood is an error,
// never skipped: what we cannot read we could not check either (rule X5).
//
// The otherName forms have these texts: a UPN as it is; a PermanentIdentifier
// as VALUE, or ASSIGNER-OID/VALUE; a HardwareModuleName as TYPE-OID/HEX.
func ParseSAN(ext []byte) ([]Identifier, error) {
	input := cryptobyte.String(ext)
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, errors.New("parse SAN: not one sequence")
	}
	if seq.Empty() {
		return nil, errors.New("parse SAN: no name in it")
	}
	var names []Identifier
	seen := map[Identifier]bool{}
	for count := 0; !seq.Empty(); count++ {
		if count == maxNames {
			return nil, fmt.Errorf("parse SAN: more than %d names", maxNames)
		}
		var body cryptobyte.String
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1(&body, &tag) {
			return nil, errors.New("parse SAN: an entry that is not DER")
		}
		id, err := parseGeneralName(tag, body)
		if err != nil {
			return nil, fmt.Errorf("parse SAN: %w", err)
		}
		if id, err = id.Canonical(); err != nil {
			return nil, fmt.Errorf("parse SAN: %w", err)
		}
		if !seen[id] {
			seen[id] = true
			names = append(names, id)
		}
	}
	return names, nil
}

func parseGeneralName(tag cbasn1.Tag, body cryptobyte.String) (Identifier, error) {
	switch tag {
	case tagEmail, tagDNS, tagURI:
		if !allASCII(string(body)) {
			return Identifier{}, errors.New("an IA5String with octets beyond ASCII")
		}
		typ := map[cbasn1.Tag]IdentifierType{tagEmail: Email, tagDNS: DNS, tagURI: URI}[tag]
		return Identifier{typ, string(body)}, nil
	case tagIP:
		a, ok := netip.AddrFromSlice(body)
		if !ok {
			return Identifier{}, fmt.Errorf("an iPAddress of %d octets", len(body))
		}
		return Identifier{IP, a.String()}, nil
	case tagDirName:
		n, err := readName(&body, false) // explicit: Name is a CHOICE
		if err != nil || !body.Empty() {
			return Identifier{}, fmt.Errorf("a directoryName: %w", cmpErr(err, "trailing data"))
		}
		return Identifier{DirName, n.String()}, nil
	case tagOther:
		return parseOtherName(body)
	}
	return Identifier{}, fmt.Errorf("a name of a form that is not supported (tag %d)", tag&0x1f)
}

func parseOtherName(body cryptobyte.String) (Identifier, error) {
	oid, ok := readOID(&body)
	var value cryptobyte.String
	if !ok || !body.ReadASN1(&value, cbasn1.Tag(0).ContextSpecific().Constructed()) || !body.Empty() {
		return Identifier{}, errors.New("an otherName that is not DER")
	}
	switch {
	case oid.Equal(oidUPN):
		text, err := readText(&value)
		if err != nil || !value.Empty() {
			return Identifier{}, errors.New("a UPN that is not one string")
		}
		return Identifier{UPN, text}, nil
	case oid.Equal(oidPermanentID):
		return parsePermanentID(value)
	case oid.Equal(oidHardwareID):
		var seq, serial cryptobyte.String
		if !value.ReadASN1(&seq, cbasn1.SEQUENCE) || !value.Empty() {
			return Identifier{}, errors.New("a hardware module name that is not one sequence")
		}
		typ, ok := readOID(&seq)
		if !ok || !seq.ReadASN1(&serial, cbasn1.OCTET_STRING) || !seq.Empty() {
			return Identifier{}, errors.New("a hardware module name without type and serial number")
		}
		return Identifier{HardwareID, typ.String() + "/" + hex.EncodeToString(serial)}, nil
	}
	return Identifier{}, fmt.Errorf("an otherName of type %s, which is not supported", oid)
}

func parsePermanentID(value cryptobyte.String) (Identifier, error) {
	var seq cryptobyte.String
	if !value.ReadASN1(&seq, cbasn1.SEQUENCE) || !value.Empty() {
		return Identifier{}, errors.New("a permanent identifier that is not one sequence")
	}
	text, err := readText(&seq)
	if err != nil {
		return Identifier{}, errors.New("a permanent identifier without a value")
	}
	if _, rest, err := splitPermanentID(text); err != nil || rest != text {
		return Identifier{}, errors.New("a permanent identifier whose value is ambiguous")
	}
	if !seq.Empty() {
		assigner, ok := readOID(&seq)
		if !ok || !seq.Empty() {
			return Identifier{}, errors.New("a permanent identifier whose assigner is not an OID")
		}
		text = assigner.String() + "/" + text
	}
	return Identifier{PermanentID, text}, nil
}

// splitPermanentID parts ASSIGNER-OID/VALUE. A value without an assigner may
// hold slashes, as long as what stands before the first is not an OID.
func splitPermanentID(s string) (assigner asn1.ObjectIdentifier, value string, err error) {
	value = s
	if head, tail, ok := strings.Cut(s, "/"); ok {
		if oid, err := ParseOID(head); err == nil {
			assigner, value = oid, tail
		}
	}
	if why := badText(value); why != "" || value == "" || len(s) > 1024 {
		return nil, "", badName(PermanentID, s, "not a permanent identifier")
	}
	return assigner, value, nil
}

func canonicalHardware(s string) (string, error) {
	typ, digits, _ := strings.Cut(s, "/")
	oid, err := ParseOID(typ)
	serial, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || len(serial) == 0 || len(serial) > 256 {
		return "", badName(HardwareID, s, "want TYPE-OID/HEX")
	}
	return oid.String() + "/" + hex.EncodeToString(serial), nil
}

// MarshalSAN returns the value of a subjectAltName extension with the names in
// the order given. Names are made canonical; a name twice is written once.
func MarshalSAN(names []Identifier) ([]byte, error) {
	if len(names) == 0 || len(names) > maxNames {
		return nil, fmt.Errorf("marshal SAN: %d names, want 1 to %d", len(names), maxNames)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 32*len(names)))
	var failed error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		seen := make(map[Identifier]bool, len(names))
		for _, id := range names {
			c, err := id.Canonical()
			if err != nil {
				failed = err
				return
			}
			if !seen[c] {
				seen[c] = true
				addGeneralName(b, c)
			}
		}
	})
	if failed != nil {
		return nil, fmt.Errorf("marshal SAN: %w", failed)
	}
	return b.Bytes()
}

// addGeneralName adds a canonical identifier.
func addGeneralName(b *cryptobyte.Builder, id Identifier) {
	switch id.Type {
	case Email:
		addText(b, tagEmail, id.Value)
	case DNS:
		addText(b, tagDNS, id.Value)
	case URI:
		addText(b, tagURI, id.Value)
	case IP:
		b.AddASN1(tagIP, func(b *cryptobyte.Builder) { b.AddBytes(netip.MustParseAddr(id.Value).AsSlice()) })
	case DirName:
		b.AddASN1(tagDirName, func(b *cryptobyte.Builder) {
			n, err := ParseName(id.Value)
			if err != nil {
				b.SetError(err)
				return
			}
			n.add(b)
		})
	case UPN:
		addOtherName(b, oidUPN, func(b *cryptobyte.Builder) { addText(b, cbasn1.UTF8String, id.Value) })
	case PermanentID:
		assigner, value, _ := splitPermanentID(id.Value)
		addOtherName(b, oidPermanentID, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addText(b, cbasn1.UTF8String, value)
				if assigner != nil {
					b.AddASN1ObjectIdentifier(assigner)
				}
			})
		})
	case HardwareID:
		typ, digits, _ := strings.Cut(id.Value, "/")
		oid, _ := ParseOID(typ)
		serial, _ := hex.DecodeString(digits)
		addOtherName(b, oidHardwareID, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oid)
				b.AddASN1OctetString(serial)
			})
		})
	}
}

func addOtherName(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
	b.AddASN1(tagOther, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), value)
	})
}
