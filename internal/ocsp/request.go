package ocsp

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// Bounds of what a stranger may send.
const (
	// MaxRequest is the size of the largest request, in octets of DER.
	MaxRequest = 16 << 10
	// MaxCertIDs is how many certificates one request may ask about (rule O3).
	MaxCertIDs = 100
	// maxNonce is the longest nonce (RFC 9654, section 2.1).
	maxNonce = 128
)

// Request is an OCSPRequest (RFC 6960, section 4.1.1). It refers to the octets
// that it was parsed from.
type Request struct {
	CertIDs []CertID // at least one
	Nonce   []byte   // 1 to 128 octets; nil if there is none
}

// CertID names a certificate by hashes of its issuer and its serial.
type CertID struct {
	Raw      []byte      // the whole element as it came: the answer repeats it
	Hash     crypto.Hash // 0 for one that we do not know
	NameHash []byte      // of the issuer's DER name
	KeyHash  []byte      // of the issuer's public key, the BIT STRING's octets
	number   []byte      // big-endian, without a leading zero octet
}

// Serial returns the certificate's serial number.
func (c *CertID) Serial() pki.Serial { return pki.Serial(hex.EncodeToString(c.number)) }

var errMalformed = errors.New("the OCSP request is malformed")

func malformed(what string) error { return fmt.Errorf("%w: %s", errMalformed, what) }

// Object identifiers as the octets of their DER values. All extensions are those
// of RFC 6960, section 4.4, below 1.3.6.1.5.5.7.48.1.
var (
	oidNonce          = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2}
	oidAcceptable     = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 4}
	oidArchiveCutoff  = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 6}
	oidServiceLocator = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 7}
	oidPreferred      = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 8}
	oidExtendedRevoke = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 9}
)

// hashOIDs are the hashes that a CertID may use (rule O4).
var hashOIDs = []struct {
	oid  []byte
	hash crypto.Hash
}{
	{[]byte{0x2b, 0x0e, 0x03, 0x02, 0x1a}, crypto.SHA1},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}, crypto.SHA256},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02}, crypto.SHA384},
	{[]byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03}, crypto.SHA512},
}

// ParseRequest reads a request. A signature on it is not looked at, and neither
// is the name of the requestor: what is answered is public (rule O12).
func ParseRequest(der []byte) (*Request, error) {
	input := cryptobyte.String(der)
	var request, tbs cryptobyte.String
	if len(der) > MaxRequest || !input.ReadASN1(&request, cbasn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("not one SEQUENCE")
	}
	if !request.ReadASN1(&tbs, cbasn1.SEQUENCE) || !request.SkipOptionalASN1(explicit(0)) || !request.Empty() {
		return nil, malformed("tbsRequest or optionalSignature")
	}
	if err := checkVersion(&tbs); err != nil {
		return nil, err
	}
	var list, extensions cryptobyte.String
	var extended bool
	if !tbs.SkipOptionalASN1(explicit(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &extended, explicit(2)) || !tbs.Empty() {
		return nil, malformed("requestList or requestExtensions")
	}
	r := &Request{CertIDs: make([]CertID, 0, 1)}
	if err := r.readList(list); err != nil {
		return nil, err
	}
	if extended {
		return r, r.readExtensions(extensions)
	}
	return r, nil
}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// checkVersion takes version 1, which DER leaves out and some clients write.
func checkVersion(tbs *cryptobyte.String) error {
	var field cryptobyte.String
	var given bool
	var version int64
	if !tbs.ReadOptionalASN1(&field, &given, explicit(0)) {
		return malformed("version")
	}
	if given && (!field.ReadASN1Integer(&version) || !field.Empty() || version != 0) {
		return malformed("version")
	}
	return nil
}

func (r *Request) readList(list cryptobyte.String) error {
	for !list.Empty() {
		if len(r.CertIDs) == MaxCertIDs {
			return malformed("too many certificates in one request")
		}
		var single, id, extensions cryptobyte.String
		var extended bool
		if !list.ReadASN1(&single, cbasn1.SEQUENCE) || !single.ReadASN1Element(&id, cbasn1.SEQUENCE) ||
			!single.ReadOptionalASN1(&extensions, &extended, explicit(0)) || !single.Empty() {
			return malformed("Request")
		}
		c, err := parseCertID(id)
		if err != nil {
			return err
		}
		r.CertIDs = append(r.CertIDs, c)
		if extended {
			if err := eachExtension(extensions, singleExtension); err != nil {
				return err
			}
		}
	}
	if len(r.CertIDs) == 0 {
		return malformed("no certificate is asked about")
	}
	return nil
}

// parseCertID reads CertID (RFC 6960, section 4.1.1). The parameters of the hash
// are NULL or absent: both occur (rule O4).
func parseCertID(raw []byte) (CertID, error) {
	c := CertID{Raw: raw}
	element := cryptobyte.String(raw)
	var body, algorithm, oid, name, key cryptobyte.String
	if !element.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) || !nullOrNothing(algorithm) {
		return c, malformed("CertID.hashAlgorithm")
	}
	if !body.ReadASN1(&name, cbasn1.OCTET_STRING) || !body.ReadASN1(&key, cbasn1.OCTET_STRING) {
		return c, malformed("CertID: the hashes")
	}
	if !body.ReadASN1Integer(&c.number) || !body.Empty() || len(c.number) > 64 {
		return c, malformed("CertID.serialNumber")
	}
	c.NameHash, c.KeyHash = name, key
	for _, h := range hashOIDs {
		if bytes.Equal(oid, h.oid) {
			c.Hash = h.hash
		}
	}
	return c, nil
}

func nullOrNothing(rest cryptobyte.String) bool {
	var null cryptobyte.String
	return rest.Empty() || (rest.ReadASN1(&null, cbasn1.NULL) && null.Empty() && rest.Empty())
}

func (r *Request) readExtensions(extensions cryptobyte.String) error {
	return eachExtension(extensions, func(oid, value []byte) (known bool, err error) {
		switch {
		case bytes.Equal(oid, oidNonce):
			if r.Nonce != nil {
				return true, malformed("two nonces")
			}
			r.Nonce, err = parseNonce(value)
			return true, err
		case bytes.Equal(oid, oidAcceptable), bytes.Equal(oid, oidPreferred):
			return true, nil // there is one response type, and one key for each issuer
		}
		return false, nil
	})
}

// parseNonce unwraps the OCTET STRING inside the extension's own (RFC 9654,
// section 2.1; rule O7).
func parseNonce(value []byte) ([]byte, error) {
	wrapped := cryptobyte.String(value)
	var nonce cryptobyte.String
	if !wrapped.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !wrapped.Empty() {
		return nil, malformed("the nonce is not an OCTET STRING")
	}
	if len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, malformed("the nonce has not 1 to 128 octets")
	}
	return nonce, nil
}

// singleExtension knows the one extension of a single request that is defined.
func singleExtension(oid, _ []byte) (known bool, err error) {
	return bytes.Equal(oid, oidServiceLocator), nil
}

// eachExtension calls take for every extension. One that take does not know may
// not be critical (RFC 6960, section 4.4).
func eachExtension(field cryptobyte.String, take func(oid, value []byte) (known bool, err error)) error {
	var list cryptobyte.String
	if !field.ReadASN1(&list, cbasn1.SEQUENCE) || !field.Empty() {
		return malformed("Extensions")
	}
	for !list.Empty() {
		var extension, oid, value cryptobyte.String
		critical := false
		if !list.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
			return malformed("Extension")
		}
		if extension.PeekASN1Tag(cbasn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) {
			return malformed("Extension.critical")
		}
		if !extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !extension.Empty() {
			return malformed("Extension.extnValue")
		}
		known, err := take(oid, value)
		if err != nil {
			return err
		}
		if critical && !known {
			return malformed("an unknown extension is critical")
		}
	}
	return nil
}
