package scep

import (
	"encoding/asn1"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
)

// The signed attributes of a pkiMessage (RFC 8894, section 3.2.1; rule S13).
var (
	oidMessageType    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidPKIStatus      = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 3}
	oidFailInfo       = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 4}
	oidSenderNonce    = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 5}
	oidRecipientNonce = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 6}
	oidTransactionID  = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
	oidFailInfoText   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
)

// messageType is the kind of a pkiMessage (RFC 8894, section 3.2.1.2).
type messageType int

const (
	certRep    messageType = 3
	renewalReq messageType = 17
	updateReq  messageType = 18 // of drafts before the RFC; a renewal
	pkcsReq    messageType = 19
	certPoll   messageType = 20
	getCert    messageType = 21
	getCRL     messageType = 22
)

var messageNames = map[messageType]string{
	renewalReq: "RenewalReq", updateReq: "UpdateReq", pkcsReq: "PKCSReq", certPoll: "CertPoll", getCert: "GetCert",
	getCRL: "GetCRL",
}

// String returns the name of the type, "unknown" for those that no client sends.
func (t messageType) String() string {
	if name := messageNames[t]; name != "" {
		return name
	}
	return "unknown"
}

const (
	maxTransactionID = 255
	maxNonce         = 64
	nonceSize        = 16
)

// attributes are what a client's pkiMessage says of itself.
type attributes struct {
	typ            messageType // 0 if it is missing or no number
	transactionID  string      // printable ASCII
	rawTransaction []byte      // its DER, which the answer repeats
	senderNonce    []byte      // nil if missing
}

// readAttributes reads the attributes of a message; value returns the DER of one,
// nil if it is not there. A message without a transactionID cannot be answered;
// everything else that is wrong can.
func readAttributes(value func(asn1.ObjectIdentifier) []byte) (attributes, error) {
	var a attributes
	raw := value(oidTransactionID)
	id, ok := readString(raw)
	if !ok || id == "" || len(id) > maxTransactionID {
		return a, fault.New(fault.Malformed, "the message has no transactionID that can be repeated").
			Because("scep_transaction")
	}
	a.transactionID, a.rawTransaction = id, raw
	if text, ok := readString(value(oidMessageType)); ok && len(text) <= 3 {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			a.typ = messageType(n)
		}
	}
	nonce := cryptobyte.String(value(oidSenderNonce))
	var octets []byte
	if nonce.ReadASN1Bytes(&octets, cbasn1.OCTET_STRING) && nonce.Empty() && len(octets) > 0 &&
		len(octets) <= maxNonce {
		a.senderNonce = octets
	}
	return a, nil
}

// readString reads a string of printable ASCII under any of the tags by which
// clients write one.
func readString(der []byte) (string, bool) {
	input := cryptobyte.String(der)
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !input.ReadAnyASN1(&body, &tag) || !input.Empty() {
		return "", false
	}
	switch tag {
	case cbasn1.PrintableString, cbasn1.UTF8String, cbasn1.IA5String, cbasn1.T61String:
	default:
		return "", false
	}
	for _, c := range body {
		if c < 0x20 || c > 0x7e {
			return "", false
		}
	}
	return string(body), true
}

// attribute returns a signed attribute with one string or octet string.
func attribute(oid asn1.ObjectIdentifier, tag cbasn1.Tag, value []byte) cms.Attribute {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	return cms.Attribute{Type: oid, Values: [][]byte{b.BytesOrPanic()}} // nothing in it can fail
}
