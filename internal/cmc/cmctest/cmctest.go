// Package cmctest is the client's side of CMC for tests: it writes PKIData and
// CRMF requests and reads PKIResponses. There is no public client of CMC to test
// with, so it is written to the RFCs (5272, 4211) and shares no code with package
// cmc.
package cmctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func context(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

// Part is one control or request in DER.
type Part func(b *cryptobyte.Builder)

// Der returns what parts write, one after the other.
func Der(parts ...Part) []byte {
	var b cryptobyte.Builder
	for _, p := range parts {
		p(&b)
	}
	return b.BytesOrPanic()
}

// Raw writes octets as they are.
func Raw(der []byte) Part { return func(b *cryptobyte.Builder) { b.AddBytes(der) } }

// Tagged writes parts under a tag.
func Tagged(tag cbasn1.Tag, parts ...Part) Part {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) {
			for _, p := range parts {
				p(b)
			}
		})
	}
}

// Int writes an INTEGER.
func Int(n int64) Part { return func(b *cryptobyte.Builder) { b.AddASN1Int64(n) } }

// PKIData puts controls and requests together.
func PKIData(controls, requests []Part) []byte {
	return Der(Tagged(cbasn1.SEQUENCE, Tagged(cbasn1.SEQUENCE, controls...), Tagged(cbasn1.SEQUENCE, requests...),
		Tagged(cbasn1.SEQUENCE), Tagged(cbasn1.SEQUENCE)))
}

// Control is a control of id-cmc with one value.
func Control(part int64, number int, value Part) Part {
	return Tagged(cbasn1.SEQUENCE, Int(part), func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, number})
	}, Tagged(cbasn1.SET, value))
}

// TransactionID is the control of that name.
func TransactionID(part, id int64) Part { return Control(part, 5, Int(id)) }

// SenderNonce is the control of that name.
func SenderNonce(part int64, nonce []byte) Part {
	return Control(part, 6, Tagged(cbasn1.OCTET_STRING, Raw(nonce)))
}

// DataReturn is the control of that name.
func DataReturn(part int64, data []byte) Part {
	return Control(part, 4, Tagged(cbasn1.OCTET_STRING, Raw(data)))
}

// QueryPending is the control of that name.
func QueryPending(part int64, token []byte) Part {
	return Control(part, 21, Tagged(cbasn1.OCTET_STRING, Raw(token)))
}

// RevokeRequest is the control of that name; extra follows the reason.
func RevokeRequest(part int64, cert *x509.Certificate, reason int64, extra ...Part) Part {
	return Control(part, 17, Tagged(cbasn1.SEQUENCE, append([]Part{
		Raw(cert.RawIssuer), func(b *cryptobyte.Builder) { b.AddASN1BigInt(cert.SerialNumber) },
		func(b *cryptobyte.Builder) { b.AddASN1Enum(reason) },
	}, extra...)...))
}

// PKCS10 is a request of that form.
func PKCS10(part int64, csr []byte) Part { return Tagged(context(0), Int(part), Raw(csr)) }

// CRMF is a CertReqMsg as a request.
func CRMF(message []byte) Part {
	s := cryptobyte.String(message)
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) {
		panic("cmctest: not a CertReqMsg")
	}
	return Tagged(context(1), Raw(body))
}

// Template is a CertTemplate in parts.
type Template struct {
	Subject    []byte // DER of the name; nil leaves it out
	Key        crypto.PublicKey
	Extensions []byte // DER of Extensions; nil leaves them out
	Before     []Part // fields with smaller tags than the subject's
	After      []Part // fields behind the extensions
}

// CertRequest writes a CertRequest.
func CertRequest(t testing.TB, id int64, c Template, controls ...Part) []byte {
	t.Helper()
	fields := c.Before
	if c.Subject != nil {
		fields = append(fields, Tagged(context(5), Raw(c.Subject)))
	}
	if c.Key != nil {
		spki, err := x509.MarshalPKIXPublicKey(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, Tagged(context(6), Raw(content(t, spki))))
	}
	if c.Extensions != nil {
		fields = append(fields, Tagged(context(9), Raw(content(t, c.Extensions))))
	}
	fields = append(fields, c.After...)
	return Der(Tagged(cbasn1.SEQUENCE, append([]Part{Int(id), Tagged(cbasn1.SEQUENCE, fields...)}, controls...)...))
}

// Proved is a CertReqMsg whose proof of possession is a signature.
func Proved(t testing.TB, request []byte, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	digest := sha256.Sum256(request)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return Der(Tagged(cbasn1.SEQUENCE, Raw(request), Tagged(context(1),
		Tagged(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		}), func(b *cryptobyte.Builder) { b.AddASN1BitString(signature) })))
}

// RAVerified is a CertReqMsg whose proof is the word of a registration authority.
func RAVerified(request []byte) []byte {
	return Der(Tagged(cbasn1.SEQUENCE, Raw(request), Tagged(cbasn1.Tag(0).ContextSpecific())))
}

func content(t testing.TB, der []byte) []byte {
	t.Helper()
	s := cryptobyte.String(der)
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) {
		t.Fatal("not a sequence")
	}
	return body
}

// Response is a PKIResponse as a client reads it.
type Response struct {
	Statuses                                []Status
	Transaction                             *big.Int
	SenderNonce, RecipientNonce, DataReturn []byte
}

// Status is a CMCStatusInfoV2. Fail is -1 where there is none.
type Status struct {
	Code, Fail int
	Parts      []int
	Text       string
	Token      []byte
}

type tagged struct {
	Part   int
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// Read reads a PKIResponse with encoding/asn1.
func Read(der []byte) (*Response, error) {
	var body struct {
		Controls         []tagged
		Messages, Others []asn1.RawValue
	}
	if rest, err := asn1.Unmarshal(der, &body); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("PKIResponse: %w, %d octets more", err, len(rest))
	}
	r, seen := &Response{}, map[int]bool{}
	for _, c := range body.Controls {
		if seen[c.Part] || len(c.Values) != 1 {
			return nil, fmt.Errorf("the control %d comes twice or has %d values", c.Part, len(c.Values))
		}
		seen[c.Part] = true
		var err error
		value := c.Values[0].FullBytes
		switch last := c.Type[len(c.Type)-1]; last {
		case 25:
			err = r.readStatus(c.Values[0])
		case 5:
			_, err = asn1.Unmarshal(value, &r.Transaction)
		case 6:
			_, err = asn1.Unmarshal(value, &r.SenderNonce)
		case 7:
			_, err = asn1.Unmarshal(value, &r.RecipientNonce)
		case 4:
			_, err = asn1.Unmarshal(value, &r.DataReturn)
		default:
			err = fmt.Errorf("the control %s", c.Type)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Response) readStatus(v asn1.RawValue) error {
	s, rest := Status{Fail: -1}, v.Bytes
	var err error
	if rest, err = asn1.Unmarshal(rest, &s.Code); err != nil {
		return err
	}
	if rest, err = asn1.Unmarshal(rest, &s.Parts); err != nil {
		return err
	}
	for len(rest) > 0 {
		var e asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &e); err != nil {
			return err
		}
		switch e.Tag {
		case asn1.TagUTF8String:
			s.Text = string(e.Bytes)
		case asn1.TagInteger:
			_, err = asn1.Unmarshal(e.FullBytes, &s.Fail)
		case asn1.TagSequence:
			_, err = asn1.Unmarshal(e.Bytes, &s.Token)
		default:
			err = fmt.Errorf("a status with tag %d", e.Tag)
		}
		if err != nil {
			return err
		}
	}
	r.Statuses = append(r.Statuses, s)
	return nil
}
