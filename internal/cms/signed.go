package cms

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SignedData is a signed message, or certificates and CRLs alone when there
// are no signers (RFC 5652, section 5). Its slices may share memory with the
// message that it was read from.
type SignedData struct {
	Type            asn1.ObjectIdentifier // of the content
	Content         []byte                // nil if absent, not nil if it is there and empty
	Certificates    []*x509.Certificate   // those that crypto/x509 can read, in the order of the message
	RawCertificates [][]byte              // all of them
	CRLs            [][]byte              // DER of each, not looked into
	Signers         []*SignerInfo
}

// SignerInfo is one signature. What it holds is only claimed until Verify.
type SignerInfo struct {
	Name       Name        // of the certificate that is said to have signed
	Hash       crypto.Hash // of the digest algorithm, 0 if it is not known or MD5
	Attributes []Attribute // signed ones, in the order of the message; each type once

	digest    algorithm
	algorithm algorithm
	signed    [][]byte // each attribute as received
	signature []byte
}

// ParseSignedData reads a message. It checks form, not signatures: see Verify.
// Unsigned attributes, attribute certificates and the like are skipped.
func ParseSignedData(ber []byte, l Limits) (*SignedData, error) {
	l = l.or()
	typ, content, err := openContentInfo(ber, l)
	if err != nil {
		return nil, err
	}
	if !typ.Equal(OIDSignedData) {
		return nil, malformed("message: of type %s, which is not signed data", typ)
	}
	s := &SignedData{}
	var body, digests, encap, signers cryptobyte.String
	var version int
	if !content.ReadASN1(&body, cbasn1.SEQUENCE) || !content.Empty() || !body.ReadASN1Integer(&version) ||
		!body.ReadASN1(&digests, cbasn1.SET) || !body.ReadASN1(&encap, cbasn1.SEQUENCE) {
		return nil, malformed("signed message: not a SignedData")
	}
	if err := s.readContent(encap); err != nil {
		return nil, err
	}
	if err := s.readBags(&body, l); err != nil {
		return nil, err
	}
	if !body.ReadASN1(&signers, cbasn1.SET) || !body.Empty() {
		return nil, malformed("signed message: its signers cannot be read")
	}
	elements, err := readElements(signers, l.Signers, "signers")
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		signer, err := readSigner(e, l)
		if err != nil {
			return nil, err
		}
		s.Signers = append(s.Signers, signer)
	}
	return s, nil
}

// readContent reads EncapsulatedContentInfo.
func (s *SignedData) readContent(encap cryptobyte.String) error {
	var explicit cryptobyte.String
	var present bool
	if !encap.ReadASN1ObjectIdentifier(&s.Type) || !encap.ReadOptionalASN1(&explicit, &present, tag0.Constructed()) ||
		!encap.Empty() {
		return malformed("signed message: its content cannot be read")
	}
	if !present {
		return nil
	}
	if !explicit.ReadASN1Bytes(&s.Content, cbasn1.OCTET_STRING) || !explicit.Empty() {
		return malformed("signed message: its content is not an octet string")
	}
	if s.Content == nil {
		s.Content = []byte{}
	}
	return nil
}

// readBags reads certificates and CRLs. A certificate that crypto/x509 cannot
// read is kept in RawCertificates only: it may be nobody's business here.
func (s *SignedData) readBags(body *cryptobyte.String, l Limits) error {
	var certificates, lists cryptobyte.String
	if !body.ReadOptionalASN1(&certificates, nil, tag0.Constructed()) ||
		!body.ReadOptionalASN1(&lists, nil, tag1.Constructed()) {
		return malformed("signed message: its certificates cannot be read")
	}
	elements, err := readElements(certificates, l.Entries, "certificates")
	if err != nil {
		return err
	}
	for _, e := range elements {
		if !e.PeekASN1Tag(cbasn1.SEQUENCE) {
			continue
		}
		s.RawCertificates = append(s.RawCertificates, e)
		if c, err := x509.ParseCertificate(e); err == nil {
			s.Certificates = append(s.Certificates, c)
		}
	}
	if elements, err = readElements(lists, l.Entries, "CRLs"); err != nil {
		return err
	}
	for _, e := range elements {
		if e.PeekASN1Tag(cbasn1.SEQUENCE) {
			s.CRLs = append(s.CRLs, e)
		}
	}
	return nil
}

// readSigner reads one SignerInfo.
func readSigner(s cryptobyte.String, l Limits) (*SignerInfo, error) {
	var body, signed cryptobyte.String
	var version int
	var ok bool
	info := &SignerInfo{}
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1Integer(&version) {
		return nil, malformed("signed message: a signer that cannot be read")
	}
	if info.Name, ok = readName(&body); !ok {
		return nil, malformed("signed message: the name of its signer cannot be read")
	}
	if info.digest, ok = readAlgorithm(&body); !ok {
		return nil, malformed("signed message: its digest algorithm cannot be read")
	}
	info.Hash = info.digest.hash()
	if !body.ReadOptionalASN1(&signed, nil, tag0.Constructed()) {
		return nil, malformed("signed message: its signed attributes cannot be read")
	}
	if err := info.readAttributes(signed, l); err != nil {
		return nil, err
	}
	if info.algorithm, ok = readAlgorithm(&body); !ok || !body.ReadASN1Bytes(&info.signature, cbasn1.OCTET_STRING) ||
		!body.SkipOptionalASN1(tag1.Constructed()) || !body.Empty() {
		return nil, malformed("signed message: its signature cannot be read")
	}
	return info, nil
}

// readAttributes reads the signed attributes. No type may come twice: two
// readers must not see two messages in one.
func (info *SignerInfo) readAttributes(signed cryptobyte.String, l Limits) error {
	elements, err := readElements(signed, l.Entries, "attributes")
	if err != nil {
		return err
	}
	for _, e := range elements {
		info.signed = append(info.signed, e)
		var body, values cryptobyte.String
		var a Attribute
		if !e.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&a.Type) ||
			!body.ReadASN1(&values, cbasn1.SET) || !body.Empty() {
			return malformed("signed message: a signed attribute that cannot be read")
		}
		if find(info.Attributes, a.Type) != nil {
			return malformed("signed message: the attribute %s twice", a.Type)
		}
		all, err := readElements(values, l.Entries, "values of an attribute")
		if err != nil {
			return err
		}
		for _, v := range all {
			a.Values = append(a.Values, v)
		}
		info.Attributes = append(info.Attributes, a)
	}
	return nil
}

// Value returns the only value of a signed attribute, a DER element. It is nil
// if there is no such attribute or not exactly one value.
func (info *SignerInfo) Value(oid asn1.ObjectIdentifier) []byte {
	if a := find(info.Attributes, oid); a != nil && len(a.Values) == 1 {
		return a.Values[0]
	}
	return nil
}

// SigningTime returns what the signer says its clock showed, zero if it does
// not say. Nothing is decided by it: clocks of devices are often wrong (S14).
func (info *SignerInfo) SigningTime() time.Time {
	value := cryptobyte.String(info.Value(OIDSigningTime))
	var t time.Time
	if value.PeekASN1Tag(cbasn1.UTCTime) && value.ReadASN1UTCTime(&t) ||
		value.PeekASN1Tag(cbasn1.GeneralizedTime) && value.ReadASN1GeneralizedTime(&t) {
		return t
	}
	return time.Time{}
}
