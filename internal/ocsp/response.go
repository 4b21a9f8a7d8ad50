package ocsp

import (
	"encoding/asn1"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// ResponseStatus is OCSPResponseStatus (RFC 6960, section 4.2.1).
type ResponseStatus uint8

// The response statuses. 4 is not used; sigRequired (5) is never answered.
const (
	Successful       ResponseStatus = 0
	MalformedRequest ResponseStatus = 1
	InternalError    ResponseStatus = 2
	TryLater         ResponseStatus = 3
	Unauthorized     ResponseStatus = 6
)

// String returns the RFC's name of the status.
func (s ResponseStatus) String() string {
	switch s {
	case Successful:
		return "successful"
	case MalformedRequest:
		return "malformedRequest"
	case InternalError:
		return "internalError"
	case TryLater:
		return "tryLater"
	case Unauthorized:
		return "unauthorized"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// body is the whole OCSPResponse of an error: a status and no responseBytes
// (rule O9).
func (s ResponseStatus) body() []byte { return []byte{0x30, 3, 0x0a, 1, byte(s)} }

// CertStatus is what is said about one certificate.
type CertStatus uint8

// The answers. NotIssued is the extended meaning of revoked: a serial that this
// CA never issued (RFC 6960, section 2.2).
const (
	Good CertStatus = iota
	Revoked
	Unknown
	NotIssued
)

// Single is one SingleResponse.
type Single struct {
	CertID                 []byte // the element of the request
	Status                 CertStatus
	RevokedAt              time.Time  // of Revoked
	Reason                 pki.Reason // of Revoked; Unspecified is left out (rule O16)
	ThisUpdate, NextUpdate time.Time
	ArchiveCutoff          time.Time // zero leaves the extension out
}

// Data is ResponseData (RFC 6960, section 4.2.1). Its version is the default and
// its responder is named by key (RFC 9919, section 3.2.2).
type Data struct {
	Responder  [20]byte // SHA-1 of the responder's public key
	ProducedAt time.Time
	Responses  []Single
	Nonce      []byte // nil for none
}

// Encode returns the DER that is signed.
func (d Data) Encode() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 128+160*len(d.Responses)+len(d.Nonce)))
	extended := false
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(d.Responder[:]) })
		addTime(b, d.ProducedAt)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range d.Responses {
				s.add(b)
				extended = extended || s.Status == NotIssued
			}
		})
		if d.Nonce == nil && !extended {
			return
		}
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if d.Nonce != nil {
					addExtension(b, oidNonce, func(b *cryptobyte.Builder) { b.AddASN1OctetString(d.Nonce) })
				}
				if extended { // RFC 6960, section 4.4.8
					addExtension(b, oidExtendedRevoke, (*cryptobyte.Builder).AddASN1NULL)
				}
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode OCSP response: %w", err)
	}
	return der, nil
}

// never is when a certificate that was not issued counts as revoked (RFC 6960,
// section 2.2).
var never = time.Unix(0, 0)

func (s Single) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(s.CertID)
		switch s.Status {
		case Good:
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
		case Revoked:
			addRevoked(b, s.RevokedAt, s.Reason)
		case NotIssued:
			addRevoked(b, never, pki.CertificateHold)
		default:
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
		}
		addTime(b, s.ThisUpdate)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addTime(b, s.NextUpdate) })
		if !s.ArchiveCutoff.IsZero() {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addExtension(b, oidArchiveCutoff, func(b *cryptobyte.Builder) { addTime(b, s.ArchiveCutoff) })
				})
			})
		}
	})
}

// addRevoked writes RevokedInfo, whose tag [1] is implicit.
func addRevoked(b *cryptobyte.Builder, at time.Time, reason pki.Reason) {
	b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
		addTime(b, at)
		if reason != pki.Unspecified {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(reason)) })
		}
	})
}

// addTime writes GeneralizedTime: seconds, Z, no fractions (rule O5).
func addTime(b *cryptobyte.Builder, t time.Time) {
	b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second))
}

// addExtension writes an extension that is not critical.
func addExtension(b *cryptobyte.Builder, oid []byte, value func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// wrap returns the successful OCSPResponse around a BasicOCSPResponse.
func wrap(basic []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(basic)+32))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(int64(Successful))
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1})
				b.AddASN1OctetString(basic)
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode OCSP response: %w", err)
	}
	return der, nil
}
