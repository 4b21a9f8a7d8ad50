// Package cmc reads and writes the bodies of Certificate Management over CMS
// (RFC 5272, as updated by RFC 6402): the PKIData that a client sends and the
// PKIResponse that it gets. The signed message around them is the business of
// package cms, the requests in them that of package pki, and what becomes of them
// that of the front-end.
//
// Parse takes apart what it knows and names what it does not; nothing is passed
// over, because RFC 5272, section 3.2.1.1, has a whole message fail for one
// control that the server does not know. Bodies are DER. Response is the way out.
package cmc

import (
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Content types (RFC 5272, section 3.2).
var (
	OIDPKIData     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 12, 2}
	OIDPKIResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 12, 3}
)

// Controls (RFC 5272, section 6).
var (
	oidIdentification = control(2)
	oidDataReturn     = control(4)
	oidTransactionID  = control(5)
	oidSenderNonce    = control(6)
	oidRecipientNonce = control(7)
	oidRevokeRequest  = control(17)
	oidQueryPending   = control(21)
	oidStatusInfoV2   = control(25)
)

func control(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, n} }

// Bounds of one message.
const (
	maxParts  = 32  // controls and requests
	maxValue  = 512 // octets of what is sent back as it came
	maxSerial = 160 // bits
)

// Message is a PKIData.
type Message struct {
	TransactionID []byte // DER of the INTEGER; nil if there is none
	SenderNonce   []byte
	DataReturn    []byte
	Requests      []Request
	Revocations   []Revocation
	Queries       []Query
	Unknown       []uint32 // body parts that are not understood
}

// Request asks for a certificate, in one of the two forms.
type Request struct {
	BodyPart uint32
	PKCS10   []byte // DER, or nil
	CRMF     []byte // DER of a CertReqMsg, or nil
}

// Raw is the DER of the request, whatever its form.
func (r *Request) Raw() []byte {
	if r.PKCS10 != nil {
		return r.PKCS10
	}
	return r.CRMF
}

// Revocation asks that a certificate be revoked (RFC 5272, section 6.11).
type Revocation struct {
	BodyPart     uint32
	Issuer       []byte // DER of the name
	Serial       pki.Serial
	Reason       pki.Reason
	InvalidityAt *time.Time
	Passphrase   bool // it comes with a shared secret
}

// Query asks what became of a request (RFC 5272, section 6.12).
type Query struct {
	BodyPart uint32
	Token    []byte
}

func malformed(format string, args ...any) *fault.Error {
	return fault.New(fault.Malformed, "CMC message: "+format, args...).Because("cmc_syntax")
}

// Parse reads a PKIData (RFC 5272, section 3.2.1). Its faults are Malformed and
// TooLarge.
func Parse(der []byte) (*Message, error) {
	input := cryptobyte.String(der)
	var data, controls, requests, messages, others cryptobyte.String
	if !input.ReadASN1(&data, cbasn1.SEQUENCE) || !input.Empty() || !data.ReadASN1(&controls, cbasn1.SEQUENCE) ||
		!data.ReadASN1(&requests, cbasn1.SEQUENCE) || !data.ReadASN1(&messages, cbasn1.SEQUENCE) ||
		!data.ReadASN1(&others, cbasn1.SEQUENCE) || !data.Empty() {
		return nil, malformed("not the DER of a PKIData")
	}
	if !messages.Empty() || !others.Empty() {
		return nil, fault.New(fault.Malformed, "CMC message: messages within the message are not read").
			Because("cmc_nested")
	}
	p := parser{seen: map[uint32]bool{}, m: &Message{}}
	for !controls.Empty() {
		if err := p.control(&controls); err != nil {
			return nil, err
		}
	}
	for !requests.Empty() {
		if err := p.request(&requests); err != nil {
			return nil, err
		}
	}
	return p.m, nil
}

type parser struct {
	seen map[uint32]bool
	m    *Message
}

// part reads a bodyPartID, which names one part of a message and no other; 0
// stands for the message (RFC 5272, section 3.2.2).
func (p *parser) part(s *cryptobyte.String) (uint32, error) {
	var id uint64
	if !s.ReadASN1Integer(&id) || id == 0 || id > 1<<32-1 {
		return 0, malformed("a body part without a number from 1 to 4294967295")
	}
	part := uint32(id)
	if p.seen[part] {
		return 0, malformed("the body part %d twice", part)
	}
	if p.seen[part] = true; len(p.seen) > maxParts {
		return 0, fault.New(fault.TooLarge, "CMC message: more than %d body parts", maxParts).Because("cmc_limit")
	}
	return part, nil
}

// control reads a TaggedAttribute.
func (p *parser) control(list *cryptobyte.String) error {
	var body, values cryptobyte.String
	if !list.ReadASN1(&body, cbasn1.SEQUENCE) {
		return malformed("a control that is not DER")
	}
	part, err := p.part(&body)
	if err != nil {
		return err
	}
	var typ asn1.ObjectIdentifier
	if !body.ReadASN1ObjectIdentifier(&typ) || !body.ReadASN1(&values, cbasn1.SET) || !body.Empty() {
		return malformed("a control that is not DER")
	}
	ok := true
	switch {
	case typ.Equal(oidTransactionID):
		ok = p.m.TransactionID == nil && short(&values, cbasn1.INTEGER, &p.m.TransactionID, true)
	case typ.Equal(oidSenderNonce):
		ok = p.m.SenderNonce == nil && short(&values, cbasn1.OCTET_STRING, &p.m.SenderNonce, false)
	case typ.Equal(oidDataReturn):
		ok = p.m.DataReturn == nil && short(&values, cbasn1.OCTET_STRING, &p.m.DataReturn, false)
	case typ.Equal(oidRecipientNonce):
		var ignored []byte // of an answer of ours that nobody keeps
		ok = short(&values, cbasn1.OCTET_STRING, &ignored, false)
	case typ.Equal(oidIdentification):
		var name []byte // who it is, the connection says
		ok = short(&values, cbasn1.UTF8String, &name, false)
	case typ.Equal(oidRevokeRequest):
		ok = p.revocation(part, &values)
	case typ.Equal(oidQueryPending):
		q := Query{BodyPart: part}
		ok = short(&values, cbasn1.OCTET_STRING, &q.Token, false)
		p.m.Queries = append(p.m.Queries, q)
	default:
		p.m.Unknown = append(p.m.Unknown, part)
		return nil
	}
	if !ok || !values.Empty() {
		return malformed("the control %d (%s) cannot be read, or comes twice", part, typ)
	}
	return nil
}

// short reads one value of at most maxValue octets: its content, or the whole
// element.
func short(values *cryptobyte.String, tag cbasn1.Tag, into *[]byte, whole bool) bool {
	var element, content cryptobyte.String
	if !values.ReadASN1Element(&element, tag) || len(element) > maxValue {
		return false
	}
	*into = element
	if !whole {
		ok := element.ReadASN1(&content, tag)
		*into = append([]byte{}, content...) // not nil: it is there
		return ok
	}
	return true
}

// revocation reads a RevokeRequest.
func (p *parser) revocation(part uint32, values *cryptobyte.String) bool {
	r := Revocation{BodyPart: part}
	var body, issuer, passphrase, comment cryptobyte.String
	var reason int
	serial := new(big.Int)
	if !values.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1Element(&issuer, cbasn1.SEQUENCE) ||
		!body.ReadASN1Integer(serial) ||
		serial.Sign() <= 0 || serial.BitLen() > maxSerial || !body.ReadASN1Enum(&reason) {
		return false
	}
	r.Issuer, r.Serial, r.Reason = issuer, pki.SerialFromBig(serial), pki.Reason(reason)
	if body.PeekASN1Tag(cbasn1.GeneralizedTime) {
		var at time.Time
		if !body.ReadASN1GeneralizedTime(&at) {
			return false
		}
		r.InvalidityAt = &at
	}
	if !body.ReadOptionalASN1(&passphrase, &r.Passphrase, cbasn1.OCTET_STRING) ||
		!body.ReadOptionalASN1(&comment, nil, cbasn1.UTF8String) || !body.Empty() {
		return false
	}
	p.m.Revocations = append(p.m.Revocations, r)
	return true
}

// request reads a TaggedRequest.
func (p *parser) request(list *cryptobyte.String) error {
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !list.ReadAnyASN1(&body, &tag) {
		return malformed("a request that is not DER")
	}
	switch tag {
	case cbasn1.Tag(0).ContextSpecific().Constructed(): // TaggedCertificationRequest
		part, err := p.part(&body)
		if err != nil {
			return err
		}
		var csr cryptobyte.String
		if !body.ReadASN1Element(&csr, cbasn1.SEQUENCE) || !body.Empty() {
			return malformed("the request %d is no PKCS#10", part)
		}
		p.m.Requests = append(p.m.Requests, Request{BodyPart: part, PKCS10: csr})
	case cbasn1.Tag(1).ContextSpecific().Constructed(): // CertReqMsg, whose number is in it
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(body) })
		der, err := b.Bytes()
		var request cryptobyte.String
		if err != nil || !body.ReadASN1(&request, cbasn1.SEQUENCE) {
			return malformed("a request that is no CertReqMsg")
		}
		part, err := p.part(&request)
		if err != nil {
			return err
		}
		p.m.Requests = append(p.m.Requests, Request{BodyPart: part, CRMF: der})
	case cbasn1.Tag(2).ContextSpecific().Constructed(): // another form
		part, err := p.part(&body)
		if err != nil {
			return err
		}
		p.m.Unknown = append(p.m.Unknown, part)
	default:
		return malformed("a request of an unknown form")
	}
	return nil
}
