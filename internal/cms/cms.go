// Package cms reads and writes the Cryptographic Message Syntax (RFC 5652, and
// RFC 5083 for authenticated envelopes): signed messages, envelopes encrypted
// to an RSA key, and certs-only messages. It is what EST and SCEP speak.
//
// What comes in is a stranger's and may be BER; it is brought to DER in one
// linear pass under the caps of Limits, and nothing may follow it. What goes
// out is DER, but for one liberty: certificates and CRLs keep the order in
// which the caller gave them, for clients read a meaning into it.
//
// The package judges messages, not people: Verify tells whose key signed, and
// whether that certificate is to be trusted, current or ours is the caller's
// business. Keys are crypto.Signer and crypto.Decrypter, so they may live in a
// token. There is no path from a ciphertext to anything but one error value
// (ErrDecrypt); see EnvelopedData.Decrypt for what that asks of the caller.
package cms

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
)

// Content types (RFC 5652, RFC 5083).
var (
	OIDData              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDEnvelopedData     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	OIDAuthEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 23}
)

// Attributes that this package writes and reads itself (RFC 5652, section 11).
var (
	OIDContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
)

// Errors that callers tell apart. All are faults.
var (
	// ErrDecrypt is the one error of an envelope that is addressed to us and
	// does not open, whatever the reason (rule S25).
	ErrDecrypt error = fault.New(fault.Unverified, "encrypted message: it cannot be decrypted").Because("cms_decrypt")
	// ErrNotRecipient is the error of an envelope that is encrypted to somebody
	// else; it depends on nothing secret.
	ErrNotRecipient error = fault.New(fault.Unverified,
		"encrypted message: it is not encrypted to the certificate of this endpoint").Because("cms_recipient")
	// ErrMD5 is the error of a signature with MD5 (rule S24).
	ErrMD5 error = fault.New(fault.BadAlgorithm, "signed message: MD5 is not accepted, use SHA-256").
		Because("digest_md5")
	// ErrSHA1 is the error of a signature with SHA-1 where Policy does not allow it.
	ErrSHA1 error = fault.New(fault.BadAlgorithm, "signed message: SHA-1 is not accepted here, use SHA-256").
		Because("digest_sha1")
)

// Limits bound what reading a message may cost. A zero field stands for its
// default.
type Limits struct {
	Size     int // octets of the message; 64 KiB (rule S28)
	Depth    int // of nesting; 32
	Elements int // in the whole message, without what octet strings hold; Size/8
	Entries  int // in each set: certificates, CRLs, recipients, attributes; 32
	Signers  int // 4
}

// or returns l with the defaults filled in.
func (l Limits) or() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{{&l.Size, 64 << 10}, {&l.Depth, 32}, {&l.Entries, 32}, {&l.Signers, 4}} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if l.Elements <= 0 {
		l.Elements = l.Size / 8
	}
	return l
}

// Policy says which weak algorithms a caller puts up with. The zero value
// allows none.
type Policy struct {
	SHA1    bool     // signatures with SHA-1
	Ciphers []Cipher // that may have encrypted a content; nil is all but DES
	// Bare lets a signer's certificate be one that crypto/x509 cannot read, if issuer,
	// serial number and key can be read; Verify returns it with nothing else set. It is
	// for certificates that only carry a key, and are not judged.
	Bare bool
}

// Attribute is a signed attribute. Each value is one whole DER element.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

func malformed(format string, args ...any) *fault.Error {
	return fault.New(fault.Malformed, format, args...).Because("cms_syntax")
}

func overLimit(format string, args ...any) *fault.Error {
	return fault.New(fault.TooLarge, format, args...).Because("cms_limit")
}

// Tags of the syntax.
var (
	tag0 = cbasn1.Tag(0).ContextSpecific()
	tag1 = cbasn1.Tag(1).ContextSpecific()
	tag2 = cbasn1.Tag(2).ContextSpecific()
	tag3 = cbasn1.Tag(3).ContextSpecific()
)

// openContentInfo normalises a message and returns its type and its content
// (RFC 5652, section 3).
func openContentInfo(ber []byte, l Limits) (asn1.ObjectIdentifier, cryptobyte.String, error) {
	der, err := normalise(ber, l)
	if err != nil {
		return nil, nil, err
	}
	input := cryptobyte.String(der)
	var info, content cryptobyte.String
	var typ asn1.ObjectIdentifier
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() || !info.ReadASN1ObjectIdentifier(&typ) ||
		!info.ReadASN1(&content, tag0.Constructed()) || !info.Empty() {
		return nil, nil, malformed("message: not a CMS ContentInfo")
	}
	return typ, content, nil
}

// contentInfo wraps a content that b's callback writes.
func contentInfo(typ asn1.ObjectIdentifier, content cryptobyte.BuilderContinuation) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(typ)
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, content)
		})
	})
	return b.Bytes()
}

// readOctets reads a string of octets that stands under an implicit tag. What
// BER calls its constructed form is a series of octet strings: normalise cannot
// know it under such a tag, so it is put together here.
func readOctets(s *cryptobyte.String, tag cbasn1.Tag, out *[]byte) bool {
	if s.PeekASN1Tag(tag) {
		return s.ReadASN1Bytes(out, tag)
	}
	var parts cryptobyte.String
	if !s.ReadASN1(&parts, tag.Constructed()) {
		return false
	}
	whole := make([]byte, 0, len(parts))
	for !parts.Empty() {
		var part []byte
		if !parts.ReadASN1Bytes(&part, cbasn1.OCTET_STRING) {
			return false
		}
		whole = append(whole, part...)
	}
	*out = whole
	return true
}

// readElements splits a series of elements, at most max of them.
func readElements(s cryptobyte.String, limit int, what string) ([]cryptobyte.String, error) {
	var all []cryptobyte.String
	for !s.Empty() {
		var e cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1Element(&e, &tag) {
			return nil, malformed("message: %s that cannot be read", what)
		}
		if all = append(all, e); len(all) > limit {
			return nil, overLimit("message: more than %d %s", limit, what)
		}
	}
	return all, nil
}
