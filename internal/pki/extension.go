package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
)

// OIDSubjectAltName is the extension of alternative names (RFC 5280, section 4.2.1.6).
var OIDSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Extension returns the value of the extension of an OID, in DER; ok is false if
// there is none. What is parsed by crypto/x509 has each one once (RFC 5280,
// section 4.2).
func Extension(all []pkix.Extension, oid asn1.ObjectIdentifier) (value []byte, ok bool) {
	for _, e := range all {
		if e.Id.Equal(oid) {
			return e.Value, true
		}
	}
	return nil, false
}
