package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
)

// maxCSR is the largest certificate request that is looked at, in octets.
const maxCSR = 64 << 10

// CSR is a request, PKCS#10 (RFC 2986) or CRMF (RFC 4211), whose signature has
// been verified. It is what somebody asks for; nothing in it is granted yet.
type CSR struct {
	Raw                []byte
	PublicKey          crypto.PublicKey
	KeyHash            KeyHash
	RawSubject         []byte
	Subject            Name
	Names              []Identifier     // SAN entries in order, canonical, each once
	Extensions         []pkix.Extension // requested, other than SAN
	ChallengePassword  string           // PKCS#9 attribute, or ""; any octets
	SignatureAlgorithm x509.SignatureAlgorithm
	unnamed            bool // the SAN is not read
}

var (
	oidExtensionRequest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidChallengePassword  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidMicrosoftExtension = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}

	// readAttributes are those that say something here.
	readAttributes = []asn1.ObjectIdentifier{oidExtensionRequest, oidChallengePassword, oidMicrosoftExtension}
)

// badCSR is the fault of a request that cannot be taken.
func badCSR(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.BadCSR, "certificate request: "+format, args...).Because(reason)
}

// ParseCSR reads and verifies a DER certificate request. Its faults are BadCSR,
// BadPublicKey for keys that cannot be read or are not Usable, and Unavailable when
// too many signatures wait to be verified. It is strict where leniency
// would let something past a later check: no trailing data, no SAN or challenge
// password twice, no SAN entry that it does not understand, no SHA-1 (rules A41, X5).
// What a certificate cannot hold it leaves to who writes one: a subject that fails
// Name.Check, an extension twice.
func ParseCSR(ctx context.Context, der []byte) (*CSR, error) {
	return parseCSR(ctx, der, strictSignature)
}

// ParseLegacyCSR is ParseCSR that takes signatures with SHA-1 too, which prove
// possession of the key and nothing that lasts. It is for endpoints of devices
// that know nothing better (rule S24).
func ParseLegacyCSR(ctx context.Context, der []byte) (*CSR, error) {
	return parseCSR(ctx, der, legacySignature)
}

// ParseUnnamedCSR is ParseCSR of a request whose alternative names somebody else has
// replaced: they are not read.
func ParseUnnamedCSR(ctx context.Context, der []byte) (*CSR, error) {
	return parseCSR(ctx, der, unnamed)
}

// ParseCSRTemplate reads a request as ParseCSR does, but for its signature, which
// it does not look at: for protocols in which the CA makes the key and the one in
// the request only says of which kind (RFC 7030, section 4.4.1).
func ParseCSRTemplate(der []byte) (*CSR, error) {
	return parseCSR(context.Background(), der, noSignature)
}

// Which signature a request must have.
const (
	strictSignature = iota
	legacySignature // SHA-1 is good enough
	noSignature
	unnamed // strict, and the SAN is not read
)

func parseCSR(ctx context.Context, der []byte, wanted int) (*CSR, error) {
	if len(der) > maxCSR {
		return nil, badCSR("csr_size", "%d octets, at most %d are read", len(der), maxCSR)
	}
	c := &CSR{Raw: der, unnamed: wanted == unnamed}
	p, ok := splitCSR(der)
	if !ok {
		return nil, badCSR("csr_syntax", "not the DER of a PKCS#10 request")
	}
	if err := c.parseInfo(p.info); err != nil {
		return nil, err
	}
	if wanted == noSignature {
		return c, nil
	}
	if err := c.verify(ctx, p.info, p.algorithm, p.signature, wanted == legacySignature); err != nil {
		return nil, err
	}
	return c, nil
}

// parseInfo reads CertificationRequestInfo.
func (c *CSR) parseInfo(tbs cryptobyte.String) error {
	var info, subject, spki, attributes cryptobyte.String
	// RFC 2986, section 4.1, has version 0. Some clients write 1 or 2, as
	// certificates have them; nothing depends on it, and the signature covers it.
	if !tbs.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(new(big.Int)) ||
		!info.ReadASN1Element(&subject, cbasn1.SEQUENCE) || !info.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return badCSR("csr_syntax", "its information part is not DER")
	}
	// Some tools leave the attributes out altogether instead of writing an
	// empty set; there is nothing to misread in that.
	if !info.Empty() && (!info.ReadASN1(&attributes, cbasn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty()) {
		return badCSR("csr_syntax", "its attributes are not DER")
	}
	if err := c.readSubject(subject); err != nil {
		return err
	}
	if err := c.readKey(spki); err != nil {
		return err
	}
	return c.parseAttributes(attributes)
}

func (c *CSR) readSubject(der []byte) error {
	var err error
	c.RawSubject = der
	if c.Subject, err = ParseAskedName(der); err != nil {
		return badCSR("subject", "its subject: %v", err)
	}
	return nil
}

func (c *CSR) readKey(spki []byte) error {
	var err error
	if c.PublicKey, err = x509.ParsePKIXPublicKey(spki); err != nil {
		return fault.Wrap(fault.BadPublicKey, err, "certificate request: its public key cannot be read").
			Because("key_type")
	}
	if err := Usable(c.PublicKey); err != nil {
		return err
	}
	// The hash is of the key as we write it, so that two spellings of one key
	// (parameters absent or NULL) cannot be told apart by it.
	canonical, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		return fault.Wrap(fault.BadPublicKey, err, "certificate request: its kind of public key is not known").
			Because("key_type")
	}
	c.KeyHash = sha256.Sum256(canonical)
	return nil
}

func (c *CSR) parseAttributes(attributes cryptobyte.String) error {
	seen := map[string]bool{}       // of those that are read
	var requested cryptobyte.String // the extensions, by either attribute
	for !attributes.Empty() {
		var attribute, values cryptobyte.String
		if !attributes.ReadASN1(&attribute, cbasn1.SEQUENCE) {
			return badCSR("csr_syntax", "an attribute that is not a sequence")
		}
		oid, ok := readOID(&attribute)
		if !ok || !attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return badCSR("csr_syntax", "an attribute without type or values")
		}
		if !slices.ContainsFunc(readAttributes, oid.Equal) {
			continue
		}
		if seen[oid.String()] {
			return badCSR("csr_duplicate", "the attribute %s twice", oid)
		}
		seen[oid.String()] = true
		var err error
		switch {
		case oid.Equal(oidExtensionRequest), oid.Equal(oidMicrosoftExtension):
			switch {
			case requested == nil:
				requested = values
				err = c.parseExtensions(values)
			case !bytes.Equal(requested, values):
				err = errors.New("the extensions in the attribute of PKCS#9 and in Microsoft's " +
					"(1.3.6.1.4.1.311.2.1.14) differ")
			}
		case oid.Equal(oidChallengePassword):
			c.ChallengePassword, err = readSecret(&values)
			// Its length has no bound of its own: those of device management are
			// signed documents of several KB (rule S22).
			if err == nil && !values.Empty() {
				err = errors.New("a challenge password that is not one string")
			}
		}
		if err != nil {
			return badCSR("csr_attribute", "%v", err)
		}
	}
	return nil
}

// parseExtensions reads the one Extensions value of an extensionRequest.
func (c *CSR) parseExtensions(values cryptobyte.String) error {
	var list cryptobyte.String
	if !values.ReadASN1(&list, cbasn1.SEQUENCE) || !values.Empty() {
		return errors.New("an extension request that is not one sequence")
	}
	return c.parseExtensionList(list)
}

func (c *CSR) parseExtensionList(list cryptobyte.String) error {
	var san cryptobyte.String
	for !list.Empty() {
		var ext, critical, value cryptobyte.String
		if !list.ReadASN1(&ext, cbasn1.SEQUENCE) {
			return errors.New("an extension that is not a sequence")
		}
		oid, ok := readOID(&ext)
		// Clients write TRUE in octets of their own; what is granted is not critical
		// because of it.
		if !ok || ext.PeekASN1Tag(cbasn1.BOOLEAN) && !ext.ReadASN1(&critical, cbasn1.BOOLEAN) ||
			!ext.ReadASN1(&value, cbasn1.OCTET_STRING) || !ext.Empty() {
			return errors.New("an extension that is not DER")
		}
		if !oid.Equal(OIDSubjectAltName) {
			isCritical := len(critical) == 1 && critical[0] != 0
			c.Extensions = append(c.Extensions, pkix.Extension{Id: oid, Critical: isCritical, Value: value})
			continue
		}
		if san != nil && !bytes.Equal(san, value) && !c.unnamed {
			return errors.New("two subjectAltName extensions that differ")
		}
		san = value
	}
	return c.readNames(san)
}

// readNames reads the SAN; one without names asks for none.
func (c *CSR) readNames(san []byte) (err error) {
	if san != nil && !c.unnamed && !bytes.Equal(san, []byte{0x30, 0}) {
		c.Names, err = ParseSAN(san)
	}
	return err
}

// verify checks the request's own signature: proof that its sender holds the key.
func (c *CSR) verify(ctx context.Context, tbs, algorithm, signature []byte, sha1 bool) error {
	c.SignatureAlgorithm = signatureAlgorithm(algorithm, signatureAlgorithms)
	if sha1 && c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		c.SignatureAlgorithm = signatureAlgorithm(algorithm, legacyAlgorithms)
	}
	if c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return badCSR("signature_algorithm", "signed by an algorithm that is not accepted; use SHA-256 or better")
	}
	switch err := CheckSignature(ctx, c.PublicKey, c.SignatureAlgorithm, tbs, signature); {
	case fault.Is(err, fault.Unavailable):
		return err
	case err != nil:
		f := badCSR("signature", "its signature does not verify")
		f.Err = err
		return f
	}
	return nil
}

// signatureAlgorithm reads an AlgorithmIdentifier that is one of those known; MD5
// is in no list on purpose.
func signatureAlgorithm(der []byte, known []csrAlgorithm) x509.SignatureAlgorithm {
	input := cryptobyte.String(der)
	var body cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) {
		return x509.UnknownSignatureAlgorithm
	}
	oid, ok := readOID(&body)
	if !ok {
		return x509.UnknownSignatureAlgorithm
	}
	for _, a := range known {
		switch {
		case !a.oid.Equal(oid):
		case a.parameters != nil && bytes.Equal(body, a.parameters):
			return a.algorithm
		case a.parameters == nil && (len(body) == 0 || bytes.Equal(body, asn1.NullBytes)):
			return a.algorithm
		}
	}
	return x509.UnknownSignatureAlgorithm
}

// csrAlgorithm is an algorithm by which a request may be signed. Parameters nil
// stand for NULL or absent: signers of both kinds exist.
type csrAlgorithm struct {
	oid        asn1.ObjectIdentifier
	parameters []byte
	algorithm  x509.SignatureAlgorithm
}

var (
	oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

	signatureAlgorithms = []csrAlgorithm{
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, nil, x509.ECDSAWithSHA256},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, nil, x509.ECDSAWithSHA384},
		{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, nil, x509.ECDSAWithSHA512},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, nil, x509.SHA256WithRSA},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, nil, x509.SHA384WithRSA},
		{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, nil, x509.SHA512WithRSA},
		{asn1.ObjectIdentifier{1, 3, 101, 112}, nil, x509.PureEd25519},
		{oidPSS, pssParameters(1, 32), x509.SHA256WithRSAPSS},
		{oidPSS, pssParameters(2, 48), x509.SHA384WithRSAPSS},
		{oidPSS, pssParameters(3, 64), x509.SHA512WithRSAPSS},
	}
)

// legacyAlgorithms are those of ParseLegacyCSR beside the others.
var legacyAlgorithms = []csrAlgorithm{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, nil, x509.SHA1WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, nil, x509.ECDSAWithSHA1},
}

// pssParameters returns the one encoding of RSASSA-PSS-params that is accepted
// for a SHA-2 hash (the last arc of its OID) and a salt of its length (RFC 4055,
// section 3.1; rule X2).
func pssParameters(hash, salt int) []byte {
	b := cryptobyte.NewBuilder(nil)
	addHash := func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, hash})
			b.AddASN1NULL()
		})
	}
	explicit := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(0), addHash)
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8})
				addHash(b)
			})
		})
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1Int64(int64(salt)) })
	})
	return b.BytesOrPanic()
}
