package cms

import (
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// EnvelopedData is a message encrypted to one or more recipients: RFC 5652,
// section 6, or the authenticated form of RFC 5083. Recipients by other means
// than RSA key transport are passed over.
type EnvelopedData struct {
	Type       asn1.ObjectIdentifier // of the content
	Cipher     Cipher                // 0 if it is not known
	Recipients []Name                // of key transport

	algorithm  algorithm
	authentic  bool // it is an AuthEnvelopedData
	recipients []recipient
	iv         []byte
	encrypted  []byte
	attributes []byte // authenticated ones as a DER set, nil if there are none
	mac        []byte
	tag        int // length of the mac that the parameters promise
}

// recipient is a KeyTransRecipientInfo.
type recipient struct {
	algorithm algorithm
	key       []byte // encrypted
}

// ParseEnvelopedData reads an EnvelopedData or AuthEnvelopedData.
func ParseEnvelopedData(ber []byte, l Limits) (*EnvelopedData, error) {
	l = l.or()
	typ, content, err := openContentInfo(ber, l)
	if err != nil {
		return nil, err
	}
	e := &EnvelopedData{authentic: typ.Equal(OIDAuthEnvelopedData)}
	if !e.authentic && !typ.Equal(OIDEnvelopedData) {
		return nil, malformed("message: of type %s, which is not enveloped data", typ)
	}
	var body, recipients, encrypted cryptobyte.String
	var version int
	if !content.ReadASN1(&body, cbasn1.SEQUENCE) || !content.Empty() || !body.ReadASN1Integer(&version) ||
		!body.SkipOptionalASN1(tag0.Constructed()) || !body.ReadASN1(&recipients, cbasn1.SET) ||
		!body.ReadASN1(&encrypted, cbasn1.SEQUENCE) {
		return nil, malformed("encrypted message: not an EnvelopedData")
	}
	if err := e.readRecipients(recipients, l); err != nil {
		return nil, err
	}
	if err := e.readEncrypted(encrypted); err != nil {
		return nil, err
	}
	if e.authentic {
		err = e.readAuthentication(&body, l)
	} else if !body.SkipOptionalASN1(tag1.Constructed()) {
		err = malformed("encrypted message: its attributes cannot be read")
	}
	if err == nil && !body.Empty() {
		err = malformed("encrypted message: it goes on where it should end")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (e *EnvelopedData) readRecipients(s cryptobyte.String, l Limits) error {
	elements, err := readElements(s, l.Entries, "recipients")
	if err != nil {
		return err
	}
	for _, r := range elements {
		if !r.PeekASN1Tag(cbasn1.SEQUENCE) {
			continue
		}
		var body cryptobyte.String
		var version int
		if !r.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1Integer(&version) {
			return malformed("encrypted message: a recipient that cannot be read")
		}
		var to recipient
		name, ok := readName(&body)
		if ok {
			to.algorithm, ok = readAlgorithm(&body)
		}
		if !ok || !body.ReadASN1Bytes(&to.key, cbasn1.OCTET_STRING) || !body.Empty() {
			return malformed("encrypted message: a recipient that cannot be read")
		}
		e.Recipients = append(e.Recipients, name)
		e.recipients = append(e.recipients, to)
	}
	return nil
}

// readEncrypted reads EncryptedContentInfo.
func (e *EnvelopedData) readEncrypted(s cryptobyte.String) error {
	var ok bool
	if !s.ReadASN1ObjectIdentifier(&e.Type) {
		return malformed("encrypted message: its content cannot be read")
	}
	if e.algorithm, ok = readAlgorithm(&s); !ok {
		return malformed("encrypted message: its content cipher cannot be read")
	}
	if e.Cipher, e.iv, e.tag, ok = e.algorithm.cipherOf(); !ok {
		return malformed("encrypted message: the parameters of its content cipher cannot be read")
	}
	if !readOctets(&s, tag0, &e.encrypted) || !s.Empty() {
		return malformed("encrypted message: it has no content")
	}
	return nil
}

// readAuthentication reads what an AuthEnvelopedData has after its content. The
// attributes are authenticated in DER, as a set (RFC 5083, section 2.2).
func (e *EnvelopedData) readAuthentication(body *cryptobyte.String, l Limits) error {
	var attributes cryptobyte.String
	var present bool
	if !body.ReadOptionalASN1(&attributes, &present, tag1.Constructed()) ||
		!body.ReadASN1Bytes(&e.mac, cbasn1.OCTET_STRING) || !body.SkipOptionalASN1(tag2.Constructed()) {
		return malformed("encrypted message: its authentication cannot be read")
	}
	if !present {
		return nil
	}
	elements, err := readElements(attributes, l.Entries, "attributes")
	if err != nil {
		return err
	}
	all := make([][]byte, len(elements))
	for i, a := range elements {
		all[i] = a
	}
	e.attributes = set(all)
	return nil
}

// To reports whether the message is encrypted to the key of a certificate.
func (e *EnvelopedData) To(c *x509.Certificate) bool { return e.recipient(c) != nil }

// EncryptedKey returns the content key as it is encrypted to a certificate: what
// stays the same when somebody sends an envelope again with another content. It is
// nil if there is none.
func (e *EnvelopedData) EncryptedKey(c *x509.Certificate) []byte {
	if to := e.recipient(c); to != nil {
		return to.key
	}
	return nil
}

// recipient returns the first entry for a certificate. Only that one is ever
// tried: a message may not buy more than one operation of the key.
func (e *EnvelopedData) recipient(c *x509.Certificate) *recipient {
	for i, name := range e.Recipients {
		if name.Matches(c) {
			return &e.recipients[i]
		}
	}
	return nil
}
