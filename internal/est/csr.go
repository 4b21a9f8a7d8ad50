package est

import (
	"crypto"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// publicKey is what every public key of the standard library can do.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// attribute returns the content of the values of an attribute in a PKCS#10 that
// pki has read, nil if it has no such attribute.
func attribute(csr []byte, oid asn1.ObjectIdentifier) []byte {
	input := cryptobyte.String(csr)
	var outer, info, attributes cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&info, cbasn1.SEQUENCE) ||
		!info.SkipASN1(cbasn1.INTEGER) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) ||
		!info.ReadOptionalASN1(&attributes, nil, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return nil
	}
	for !attributes.Empty() {
		var a, values cryptobyte.String
		var typ asn1.ObjectIdentifier
		if !attributes.ReadASN1(&a, cbasn1.SEQUENCE) || !a.ReadASN1ObjectIdentifier(&typ) ||
			!a.ReadASN1(&values, cbasn1.SET) {
			return nil
		}
		if typ.Equal(oid) {
			return append([]byte{}, values...)
		}
	}
	return nil
}
