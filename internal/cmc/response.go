package cmc

import (
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Code is a CMCStatus (RFC 5272, section 6.1.3).
type Code int

// The codes that are sent.
const (
	Success Code = 0
	Failed  Code = 2
	Pending Code = 3
)

// FailInfo says why something failed (RFC 5272, section 6.1.4).
type FailInfo int

// The reasons that are sent.
const (
	BadAlg          FailInfo = 0
	BadMessageCheck FailInfo = 1
	BadRequest      FailInfo = 2
	BadCertID       FailInfo = 4
	BadIdentity     FailInfo = 7
	POPRequired     FailInfo = 8
	POPFailed       FailInfo = 9
	NoKeyReuse      FailInfo = 10
	InternalCAError FailInfo = 11
	TryLater        FailInfo = 12
)

// Status is what became of some parts of a message: a CMCStatusInfoV2.
type Status struct {
	BodyParts []uint32 // none stands for the whole message
	Code      Code
	Text      string    // for a person; may be empty
	Fail      FailInfo  // of Failed
	Token     []byte    // of Pending: what to ask for
	Time      time.Time // of Pending: when to ask
}

// Response is a PKIResponse. Certificates are not in it: they travel in the signed
// message around it.
type Response struct {
	Statuses       []Status
	TransactionID  []byte // DER of the request's; nil if it had none
	RecipientNonce []byte // the request's senderNonce; nil likewise
	SenderNonce    []byte // our own
	DataReturn     []byte // the request's; nil if it had none
}

// DER returns the response in DER.
func (r *Response) DER() ([]byte, error) {
	var b cryptobyte.Builder
	part := int64(0)
	control := func(b *cryptobyte.Builder, typ asn1.ObjectIdentifier, value cryptobyte.BuilderContinuation) {
		part++
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(part)
			b.AddASN1ObjectIdentifier(typ)
			b.AddASN1(cbasn1.SET, value)
		})
	}
	octets := func(b *cryptobyte.Builder, typ asn1.ObjectIdentifier, value []byte) {
		if value != nil {
			control(b, typ, func(b *cryptobyte.Builder) { b.AddASN1OctetString(value) })
		}
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range r.Statuses {
				control(b, oidStatusInfoV2, r.Statuses[i].add)
			}
			if r.TransactionID != nil {
				control(b, oidTransactionID, func(b *cryptobyte.Builder) { b.AddBytes(r.TransactionID) })
			}
			octets(b, oidSenderNonce, r.SenderNonce)
			octets(b, oidRecipientNonce, r.RecipientNonce)
			octets(b, oidDataReturn, r.DataReturn)
		})
		b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // messages
		b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // others
	})
	return b.Bytes()
}

// add writes a CMCStatusInfoV2 (RFC 5272, section 6.1.1).
func (s *Status) add(b *cryptobyte.Builder) {
	parts := s.BodyParts
	if len(parts) == 0 {
		parts = []uint32{0}
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(int64(s.Code))
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, p := range parts {
				b.AddASN1Uint64(uint64(p))
			}
		})
		if s.Text != "" {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s.Text)) })
		}
		switch s.Code {
		case Failed:
			b.AddASN1Int64(int64(s.Fail))
		case Pending:
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1OctetString(s.Token)
				b.AddASN1GeneralizedTime(s.Time.UTC())
			})
		}
	})
}
