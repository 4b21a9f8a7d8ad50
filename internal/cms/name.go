package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// Name is how a message names a certificate: by issuer and serial number, or
// by subject key identifier (RFC 5652, section 5.3).
type Name struct {
	Issuer       []byte   // DER of the issuer's distinguished name, nil with a key identifier
	Serial       *big.Int // nil with a key identifier
	SubjectKeyID []byte   // nil with issuer and serial number
}

// readName reads SignerIdentifier, RecipientIdentifier.
func readName(s *cryptobyte.String) (Name, bool) {
	var n Name
	if !s.PeekASN1Tag(cbasn1.SEQUENCE) {
		return n, readOctets(s, tag0, &n.SubjectKeyID)
	}
	var body, issuer cryptobyte.String
	n.Serial = new(big.Int)
	ok := s.ReadASN1(&body, cbasn1.SEQUENCE) && body.ReadASN1Element(&issuer, cbasn1.SEQUENCE) &&
		readSerial(&body, n.Serial) && body.Empty()
	n.Issuer = issuer
	return n, ok
}

// addName writes the issuer and serial number of a certificate.
func addName(b *cryptobyte.Builder, c *x509.Certificate) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(c.RawIssuer)
		b.AddASN1BigInt(c.SerialNumber)
	})
}

// Matches reports whether n names the certificate. Issuers are compared by
// their octets first, then as names: some clients write the name that they
// read with string types of their own.
func (n Name) Matches(c *x509.Certificate) bool {
	if n.Serial == nil {
		return len(n.SubjectKeyID) > 0 && bytes.Equal(n.SubjectKeyID, c.SubjectKeyId)
	}
	return c.SerialNumber != nil && n.Serial.Cmp(c.SerialNumber) == 0 && pki.SameName(n.Issuer, c.RawIssuer)
}

// sameCertificate reports whether a certificate is among others.
func sameCertificate(c *x509.Certificate, others []*x509.Certificate) bool {
	for _, o := range others {
		if bytes.Equal(c.Raw, o.Raw) {
			return true
		}
	}
	return false
}

// find returns the first attribute of a type.
func find(attributes []Attribute, oid asn1.ObjectIdentifier) *Attribute {
	for i := range attributes {
		if attributes[i].Type.Equal(oid) {
			return &attributes[i]
		}
	}
	return nil
}
