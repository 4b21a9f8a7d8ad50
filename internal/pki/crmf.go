package pki

import (
	"context"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Fields of a CertTemplate, by their tags (RFC 4211, section 5).
const (
	templateVersion    = 0
	templateIssuer     = 3
	templateValidity   = 4
	templateSubject    = 5
	templateKey        = 6
	templateExtensions = 9
)

// Ways of proving possession of a key, by their tags (RFC 4211, section 4).
const (
	popRAVerified = 0
	popSignature  = 1
)

// ParseCRMF reads a CertReqMsg (RFC 4211) in DER, with the strictness and the
// faults of ParseCSR. Possession of the key is proved by a signature over the
// request; raVerified takes the word of a registration authority for it too. What
// cannot be honoured is refused, not passed over: controls, a validity, a serial
// number. The issuer that a template names is not looked at, because the endpoint
// says who signs.
func ParseCRMF(ctx context.Context, der []byte, raVerified bool) (*CSR, error) {
	if len(der) > maxCSR {
		return nil, badCSR("csr_size", "%d octets, at most %d are read", len(der), maxCSR)
	}
	c := &CSR{Raw: der}
	input := cryptobyte.String(der)
	var outer, request, body, template cryptobyte.String
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1Element(&request, cbasn1.SEQUENCE) {
		return nil, badCSR("csr_syntax", "not the DER of a CertReqMsg")
	}
	whole := request
	if !request.ReadASN1(&body, cbasn1.SEQUENCE) || !body.SkipASN1(cbasn1.INTEGER) ||
		!body.ReadASN1(&template, cbasn1.SEQUENCE) {
		return nil, badCSR("csr_syntax", "not the DER of a CertReqMsg")
	}
	if !body.Empty() {
		return nil, badCSR("crmf_controls", "controls of a CertRequest are not honoured here")
	}
	if err := c.parseTemplate(template); err != nil {
		return nil, err
	}
	return c, c.parseProof(ctx, outer, whole, raVerified)
}

// ParseRecorded reads a request that was judged when it came, in either form.
func ParseRecorded(der []byte) (*CSR, error) {
	ctx := context.Background() // nobody's connection waits for it
	input := cryptobyte.String(der)
	var outer cryptobyte.String
	if input.ReadASN1(&outer, cbasn1.SEQUENCE) && outer.SkipASN1(cbasn1.SEQUENCE) &&
		!outer.PeekASN1Tag(cbasn1.SEQUENCE) {
		return ParseCRMF(ctx, der, true)
	}
	return ParseLegacyCSR(ctx, der)
}

// parseTemplate reads a CertTemplate, whose fields come in the order of their
// tags.
func (c *CSR) parseTemplate(template cryptobyte.String) error {
	next := 0
	for !template.Empty() {
		var field cryptobyte.String
		var tag cbasn1.Tag
		if !template.ReadAnyASN1(&field, &tag) || tag&0xc0 != 0x80 || int(tag&0x1f) < next ||
			int(tag&0x1f) >= templateIssuer && tag&0x20 == 0 {
			return badCSR("csr_syntax", "its template is not DER")
		}
		n := int(tag & 0x1f)
		next = n + 1
		var err error
		switch n {
		case templateVersion, templateIssuer:
		case templateSubject:
			err = c.readSubject(field) // a Name is a CHOICE: its tag is explicit
		case templateKey:
			err = c.readKey(sequence(field))
		case templateExtensions:
			if err = c.parseExtensionList(field); err != nil {
				err = badCSR("csr_attribute", "%v", err)
			}
		case templateValidity:
			err = badCSR("crmf_validity", "its template asks for a time of validity, which the profile decides")
		default:
			err = badCSR("crmf_template", "its template has the field %d, which only the CA fills in", n)
		}
		if err != nil {
			return err
		}
	}
	if c.RawSubject == nil || c.PublicKey == nil {
		return badCSR("crmf_template", "its template needs a subject and a public key")
	}
	return nil
}

// parseProof reads what follows the CertRequest: the proof of possession, then
// information for the registration, which is not looked at.
func (c *CSR) parseProof(ctx context.Context, rest cryptobyte.String, request []byte, raVerified bool) error {
	var proof, algorithm cryptobyte.String
	var tag cbasn1.Tag
	var signature []byte
	if rest.Empty() || rest.PeekASN1Tag(cbasn1.SEQUENCE) {
		return badCSR("crmf_pop", "it has no proof of possession of its key")
	}
	if !rest.ReadAnyASN1(&proof, &tag) || tag&0xc0 != 0x80 || !rest.Empty() &&
		(!rest.SkipASN1(cbasn1.SEQUENCE) || !rest.Empty()) {
		return badCSR("csr_syntax", "its proof of possession is not DER")
	}
	switch tag & 0x1f {
	case popRAVerified:
		if raVerified {
			return nil
		}
		return badCSR("crmf_pop", "only a registration authority can say that possession of the key was proved to it")
	case popSignature:
	default:
		return badCSR("crmf_pop", "possession of the key is proved by a signature here, and in no other way")
	}
	if proof.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return badCSR("crmf_pop", "the proof of possession has to sign the request itself")
	}
	if !proof.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) || !proof.ReadASN1BitStringAsBytes(&signature) ||
		!proof.Empty() {
		return badCSR("csr_syntax", "its proof of possession is not DER")
	}
	return c.verify(ctx, request, algorithm, signature, false)
}

// sequence puts the header of a sequence before its content.
func sequence(content []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic() // nothing in it can fail
}
