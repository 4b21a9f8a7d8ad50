package cms

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// forgery is a SignedData with one signer in which everything can be wrong. The
// zero value of a field is what is right.
type forgery struct {
	id         identity
	content    []byte // a whole element, OCTET STRING of "content" if nil
	attributes [][]byte
	signed     []byte // what the signature is over; the set of attributes in DER
	digest     []byte // AlgorithmIdentifier
	algorithm  []byte // AlgorithmIdentifier
	name       []byte // SignerIdentifier
	certs      [][]byte
	crls       [][]byte
	signers    int // how many copies; 0 is one
}

func element(tag cbasn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func oidElement(oid asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.BytesOrPanic()
}

func algorithmElement(oid asn1.ObjectIdentifier, params ...[]byte) []byte {
	return element(cbasn1.SEQUENCE, append([][]byte{oidElement(oid)}, params...)...)
}

func attributeElement(oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	return element(cbasn1.SEQUENCE, oidElement(oid), element(cbasn1.SET, values...))
}

func octets(data []byte) []byte { return element(cbasn1.OCTET_STRING, data) }

var null = []byte{5, 0}

// usual returns the two attributes that there must be.
func usual(content string) [][]byte {
	return [][]byte{
		attributeElement(OIDContentType, oidElement(OIDData)),
		attributeElement(OIDMessageDigest, octets(sum(crypto.SHA256, []byte(content)))),
	}
}

func (f forgery) name0() []byte {
	var b cryptobyte.Builder
	addName(&b, f.id.cert)
	return b.BytesOrPanic()
}

func or[T ~[]E, E any](v, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return v
}

func (f forgery) der() []byte {
	if f.id.key == nil {
		f.id = deviceRSA()
	}
	attributes := or(f.attributes, usual("content"))
	signed := or(f.signed, set(attributes))
	signature := must(f.id.key.Sign(rand.Reader, sum(crypto.SHA256, signed), crypto.SHA256))
	digest := or(f.digest, algorithmElement(hashOID(crypto.SHA256)))
	signer := element(cbasn1.SEQUENCE,
		[]byte{2, 1, 1}, or(f.name, f.name0()), digest,
		element(tag0.Constructed(), attributes...),
		or(f.algorithm, algorithmElement(oidRSA, null)),
		octets(signature))
	signers := [][]byte{signer}
	for range f.signers - 1 {
		signers = append(signers, signer)
	}
	parts := [][]byte{
		{2, 1, 1}, element(cbasn1.SET, digest),
		element(cbasn1.SEQUENCE, oidElement(OIDData), element(tag0.Constructed(), or(f.content, octets([]byte("content"))))),
		element(tag0.Constructed(), or(f.certs, [][]byte{f.id.cert.Raw})...),
		element(tag1.Constructed(), f.crls...),
		element(cbasn1.SET, signers...),
	}
	return element(cbasn1.SEQUENCE, oidElement(OIDSignedData), element(tag0.Constructed(), element(cbasn1.SEQUENCE, parts...)))
}

// envelope is an EnvelopedData in which everything can be wrong.
type envelope struct {
	to         *x509.Certificate // raRSA's
	outer      asn1.ObjectIdentifier
	recipients [][]byte // whole; one for to if nil
	name       []byte
	transport  []byte // AlgorithmIdentifier
	wrapped    []byte
	cipher     []byte // AlgorithmIdentifier
	content    []byte // a whole element: [0] with the ciphertext
	trailer    [][]byte
}

func (e envelope) der() []byte {
	if e.to == nil {
		e.to = raRSA().cert
	}
	if e.outer == nil {
		e.outer = OIDEnvelopedData
	}
	recipient := element(cbasn1.SEQUENCE, []byte{2, 1, 0}, or(e.name, forgery{id: identity{cert: e.to}}.name0()),
		or(e.transport, algorithmElement(oidRSA, null)), octets(e.wrapped))
	parts := [][]byte{
		{2, 1, 0}, element(cbasn1.SET, or(e.recipients, [][]byte{recipient})...),
		element(cbasn1.SEQUENCE, oidElement(OIDData),
			or(e.cipher, algorithmElement(ciphers[AES128CBC].oid, octets(make([]byte, 16)))),
			or(e.content, element(tag0, make([]byte, 16)))),
	}
	return element(cbasn1.SEQUENCE, oidElement(e.outer), element(tag0.Constructed(), element(cbasn1.SEQUENCE, append(parts, e.trailer...)...)))
}

// wrapV15 encrypts a content key to the RA.
func wrapV15(key []byte) []byte {
	return must(rsa.EncryptPKCS1v15(rand.Reader, raRSA().cert.PublicKey.(*rsa.PublicKey), key)) //nolint:staticcheck // what clients do
}

func cipherElement(c Cipher, iv []byte) []byte {
	var b cryptobyte.Builder
	c.add(&b, iv)
	return b.BytesOrPanic()
}
