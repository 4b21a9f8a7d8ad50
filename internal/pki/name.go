package pki

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Name is a distinguished name: relative names from the root of the directory
// down, as DER has them (C before O before CN). Unlike pkix.Name it keeps order
// and multi-valued relative names (rule X4). The zero Name is the empty one.
type Name []RDN

// RDN is a relative name: nearly always one attribute, a set where more.
type RDN []Attribute

// Attribute is one attribute of a name.
type Attribute struct {
	OID   asn1.ObjectIdentifier
	Value string
	// Raw is nil, except where somebody asks for a value that is no text: its DER.
	// Value is then what can be shown of it, and Check refuses it.
	Raw []byte
}

// Attribute types that code refers to by name.
var (
	OIDCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	OIDSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
	OIDCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	OIDOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	OIDEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// attributeType is what is known of an attribute: its names (the first one is
// printed), its string type (0 is UTF8String) and the upper bound in characters
// (RFC 5280, appendix A.1).
type attributeType struct {
	oid   asn1.ObjectIdentifier
	names []string
	tag   cbasn1.Tag
	max   int
}

var attributeTypes = []attributeType{
	{OIDCommonName, []string{"CN", "commonName"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 4}, []string{"SN", "surname"}, 0, 64},
	{OIDSerialNumber, []string{"serialNumber"}, cbasn1.PrintableString, 64},
	{OIDCountry, []string{"C", "countryName", "country"}, cbasn1.PrintableString, 2},
	{asn1.ObjectIdentifier{2, 5, 4, 7}, []string{"L", "localityName", "locality"}, 0, 128},
	{asn1.ObjectIdentifier{2, 5, 4, 8}, []string{"ST", "stateOrProvinceName", "state"}, 0, 128},
	{asn1.ObjectIdentifier{2, 5, 4, 9}, []string{"STREET", "streetAddress"}, 0, 128},
	{OIDOrganization, []string{"O", "organizationName", "organization"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 11}, []string{"OU", "organizationalUnitName", "organizationalUnit"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 12}, []string{"title"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 17}, []string{"postalCode"}, 0, 40},
	{asn1.ObjectIdentifier{2, 5, 4, 41}, []string{"name"}, 0, 32768},
	{asn1.ObjectIdentifier{2, 5, 4, 42}, []string{"GN", "givenName"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 43}, []string{"initials"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 44}, []string{"generationQualifier"}, 0, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 46}, []string{"dnQualifier"}, cbasn1.PrintableString, 64},
	{asn1.ObjectIdentifier{2, 5, 4, 65}, []string{"pseudonym"}, 0, 128},
	{asn1.ObjectIdentifier{2, 5, 4, 97}, []string{"organizationIdentifier"}, 0, 256},
	{asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, []string{"UID", "userId"}, 0, 256},
	{asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, []string{"DC", "domainComponent"}, cbasn1.IA5String, 63},
	{OIDEmailAddress, []string{"emailAddress", "E"}, cbasn1.IA5String, 255},
	// RFC 2985, sections 5.4.1 and 5.4.2.
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 2}, []string{"unstructuredName"}, 0, 255},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 8}, []string{"unstructuredAddress"}, 0, 255},
}

// boundless is the upper bound of attributes that the table does not know.
const boundless = 256

func attributeByOID(oid asn1.ObjectIdentifier) *attributeType {
	for i := range attributeTypes {
		if attributeTypes[i].oid.Equal(oid) {
			return &attributeTypes[i]
		}
	}
	return nil
}

// ParseAttributeType returns the attribute of the given name ("CN",
// "serialNumber") or dotted OID.
func ParseAttributeType(s string) (asn1.ObjectIdentifier, error) {
	for i := range attributeTypes {
		for _, n := range attributeTypes[i].names {
			if strings.EqualFold(n, s) {
				return attributeTypes[i].oid, nil
			}
		}
	}
	oid, err := ParseOID(s)
	if err != nil {
		return nil, fmt.Errorf("attribute type %q: want a name such as CN or serialNumber, or an OID", clip(s))
	}
	return oid, nil
}

// AttributeName returns the short name of an attribute type, or its dotted OID.
func AttributeName(oid asn1.ObjectIdentifier) string {
	if t := attributeByOID(oid); t != nil {
		return t.names[0]
	}
	return oid.String()
}

// ParseNameDER reads a DER Name. It takes the names that exist in the world,
// over-long ones included; Check tells whether this CA would write such a name.
func ParseNameDER(der []byte) (Name, error) {
	return parseName(der, false)
}

// ParseAskedName reads the DER Name of somebody who asks for a certificate: not all
// of it may end up there, and rules for what is written are for what is written. So
// a value that is no text is kept as Raw, and a relative name without attributes is
// passed over.
func ParseAskedName(der []byte) (Name, error) {
	return parseName(der, true)
}

func parseName(der []byte, asked bool) (Name, error) {
	input := cryptobyte.String(der)
	n, err := readName(&input, asked)
	if err == nil && !input.Empty() {
		err = errors.New("trailing data")
	}
	if err != nil {
		return nil, fmt.Errorf("parse name: %w", err)
	}
	return n, nil
}

func readName(input *cryptobyte.String, asked bool) (Name, error) {
	var seq cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return nil, errors.New("not a sequence")
	}
	var n Name
	for !seq.Empty() {
		var set cryptobyte.String
		if !seq.ReadASN1(&set, cbasn1.SET) || set.Empty() && !asked {
			return nil, errors.New("a relative name that is not a set, or empty")
		}
		var rdn RDN
		for !set.Empty() {
			a, err := readPair(&set, asked)
			if err != nil {
				return nil, err
			}
			rdn = append(rdn, a)
		}
		if rdn != nil {
			n = append(n, rdn)
		}
	}
	return n, nil
}

// readPair reads one AttributeTypeAndValue.
func readPair(set *cryptobyte.String, asked bool) (a Attribute, err error) {
	var pair, shown cryptobyte.String
	if !set.ReadASN1(&pair, cbasn1.SEQUENCE) {
		return a, errors.New("an attribute that is not a sequence")
	}
	var ok bool
	if a.OID, ok = readOID(&pair); !ok {
		return a, errors.New("an attribute without a type")
	}
	raw := slices.Clone([]byte(pair))
	a.Value, err = readText(&pair)
	if err == nil && pair.Empty() {
		return a, nil
	}
	err = fmt.Errorf("attribute %s: %w", AttributeName(a.OID), cmpErr(err, "trailing data"))
	rest := cryptobyte.String(raw)
	if !asked || !rest.ReadAnyASN1(&shown, new(cbasn1.Tag)) || !rest.Empty() {
		return a, err
	}
	a.Value, a.Raw = strings.ToValidUTF8(string(shown), "\uFFFD"), raw
	return a, nil
}

func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

// Check reports why the name cannot be written into a certificate: empty or
// over-long values, control characters, space at the ends, characters outside
// an attribute's alphabet (rule X4).
func (n Name) Check() error {
	for _, rdn := range n {
		if len(rdn) == 0 {
			return errors.New("name: an empty relative name")
		}
		for i, a := range rdn {
			if why := a.check(); why != "" {
				return fmt.Errorf("name: %s %q: %s", AttributeName(a.OID), clip(a.Value), why)
			}
			if slices.ContainsFunc(rdn[:i], func(b Attribute) bool { return b.OID.Equal(a.OID) }) {
				return fmt.Errorf("name: %s twice in one relative name", AttributeName(a.OID))
			}
		}
	}
	return nil
}

func (a Attribute) check() string {
	t := attributeByOID(a.OID)
	limit, tag := boundless, cbasn1.Tag(0)
	if t != nil {
		limit, tag = t.max, t.tag
	}
	if a.Raw != nil {
		return "it cannot be read as text"
	}
	if a.Value == "" {
		return "it is empty"
	}
	if why := badText(a.Value); why != "" {
		return why
	}
	if c := utf8.RuneCountInString(a.Value); c > limit {
		return fmt.Sprintf("%d characters, at most %d fit", c, limit)
	}
	if a.OID.Equal(OIDCountry) && !countryCode(a.Value) {
		return "want a country code of two capital letters"
	}
	return a.outside(tag)
}

// outside reports whether the value holds what a string type cannot.
func (a Attribute) outside(tag cbasn1.Tag) string {
	switch {
	case tag == cbasn1.PrintableString && !allPrintable(a.Value):
		return "a character outside PrintableString"
	case tag == cbasn1.IA5String && !allASCII(a.Value):
		return "a character outside ASCII"
	}
	return ""
}

func countryCode(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// DER returns the encoding: UTF8String except where the attribute's definition
// demands PrintableString or IA5String. It fails where Check does.
func (n Name) DER() ([]byte, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 128))
	n.add(b)
	return b.Bytes()
}

// AskedDER returns an encoding of any name at all, also of one that Check refuses, to
// be read by ParseAskedName.
func (n Name) AskedDER() ([]byte, error) {
	var b cryptobyte.Builder
	n.add(&b)
	return b.Bytes()
}

func (n Name) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, rdn := range n {
			members := make([][]byte, len(rdn))
			for i, a := range rdn {
				m := cryptobyte.NewBuilder(nil)
				m.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(a.OID)
					a.addValue(b)
				})
				der, err := m.Bytes()
				if err != nil {
					b.SetError(err)
				}
				members[i] = der
			}
			slices.SortFunc(members, slices.Compare) // DER orders a SET OF
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				for _, m := range members {
					b.AddBytes(m)
				}
			})
		}
	})
}

func (a Attribute) addValue(b *cryptobyte.Builder) {
	if a.Raw != nil {
		b.AddBytes(a.Raw)
		return
	}
	tag := cbasn1.UTF8String
	if t := attributeByOID(a.OID); t != nil && t.tag != 0 && a.outside(t.tag) == "" {
		tag = t.tag
	}
	addText(b, tag, a.Value)
}

// Values returns the values of all attributes of the given type, in order.
func (n Name) Values(oid asn1.ObjectIdentifier) []string {
	var values []string
	for _, rdn := range n {
		for _, a := range rdn {
			if a.OID.Equal(oid) {
				values = append(values, a.Value)
			}
		}
	}
	return values
}

// CommonName returns the most specific (last) CN, or "".
func (n Name) CommonName() string {
	values := n.Values(OIDCommonName)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
