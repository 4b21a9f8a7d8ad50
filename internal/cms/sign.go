package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Message is what Sign puts together.
type Message struct {
	Type         asn1.ObjectIdentifier // of the content; nil is OIDData
	Content      []byte                // nil leaves it out: the signature is over nothing (rule S17)
	Certificates []*x509.Certificate   // beside the signer's, in this order
	CRLs         [][]byte              // DER of each
}

// Signer signs a message.
type Signer struct {
	Certificate *x509.Certificate // goes into the message first, unless it is in Message.Certificates
	Key         crypto.Signer     // RSA, ECDSA or Ed25519, of the certificate
	Hash        crypto.Hash       // SHA-256, SHA-384, SHA-512; 0 is SHA-256; Ed25519 takes SHA-512 always
	SHA1        bool              // lets Hash be SHA-1, for clients that know nothing better
	PSS         bool              // RSA-PSS instead of PKCS #1 v1.5
	Attributes  []Attribute       // signed, beside contentType and messageDigest
	SigningTime time.Time         // zero leaves the attribute out
}

// Sign returns a signed message in DER, with one signer named by issuer and
// serial number. Errors are the caller's mistakes and what the key answers.
func Sign(m Message, s Signer) ([]byte, error) {
	if m.Type == nil {
		m.Type = OIDData
	}
	sch, err := s.scheme()
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	attributes, err := s.attributes(m, sch.hash)
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	signature, err := sch.sign(s.Key, set(attributes))
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	certs := m.Certificates
	if !sameCertificate(s.Certificate, certs) {
		certs = append([]*x509.Certificate{s.Certificate}, certs...)
	}
	version := int64(1)
	if !m.Type.Equal(OIDData) {
		version = 3 // RFC 5652, section 5.1
	}
	return contentInfo(OIDSignedData, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { addAlgorithm(b, hashOID(sch.hash)) })
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(m.Type)
			if m.Content != nil {
				b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(m.Content) })
			}
		})
		addBags(b, certs, m.CRLs)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				addName(b, s.Certificate)
				addAlgorithm(b, hashOID(sch.hash))
				b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(body(set(attributes))) })
				sch.add(b)
				b.AddASN1OctetString(signature)
			})
		})
	})
}

// Degenerate returns a SignedData without content and signers, which holds
// certificates and CRLs in the order given (rules E4, E5, S7, S16).
func Degenerate(certs []*x509.Certificate, crls [][]byte) ([]byte, error) {
	return contentInfo(OIDSignedData, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(OIDData) })
		addBags(b, certs, crls)
		b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
	})
}

// addBags writes certificates and CRLs. These are sets, but order is kept:
// clients take the first certificate for theirs.
func addBags(b *cryptobyte.Builder, certs []*x509.Certificate, crls [][]byte) {
	if len(certs) > 0 {
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) {
			for _, c := range certs {
				b.AddBytes(c.Raw)
			}
		})
	}
	if len(crls) > 0 {
		b.AddASN1(tag1.Constructed(), func(b *cryptobyte.Builder) {
			for _, l := range crls {
				b.AddBytes(l)
			}
		})
	}
}

// scheme decides how to sign.
func (s Signer) scheme() (scheme, error) {
	sch := scheme{hash: s.Hash}
	if sch.hash == 0 {
		sch.hash = crypto.SHA256
	}
	if s.Certificate == nil || s.Key == nil {
		return sch, errors.New("no certificate or no key")
	}
	public, ok := s.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(s.Certificate.PublicKey) {
		return sch, errors.New("the key is not the certificate's")
	}
	switch s.Key.Public().(type) {
	case *rsa.PublicKey:
		sch.kind = schemeRSA
		if s.PSS {
			sch.kind, sch.salt = schemePSS, sch.hash.Size()
		}
	case *ecdsa.PublicKey:
		sch.kind = schemeECDSA
	case ed25519.PublicKey:
		sch.kind, sch.hash = schemeEd25519, crypto.SHA512 // RFC 8419, section 3
	default:
		return sch, fmt.Errorf("keys of type %T do not sign messages", public)
	}
	if hashOID(sch.hash) == nil || sch.hash == crypto.SHA1 && !s.SHA1 {
		return sch, fmt.Errorf("the hash %v is not used", sch.hash)
	}
	return sch, nil
}

// attributes returns the signed attributes, each in DER.
func (s Signer) attributes(m Message, hash crypto.Hash) ([][]byte, error) {
	var typ, digest, signingTime cryptobyte.Builder
	typ.AddASN1ObjectIdentifier(m.Type)
	digest.AddASN1OctetString(sum(hash, m.Content))
	der, err := typ.Bytes()
	if err != nil {
		return nil, fmt.Errorf("content type %v: %w", m.Type, err)
	}
	all := []Attribute{{OIDContentType, [][]byte{der}}, {OIDMessageDigest, [][]byte{digest.BytesOrPanic()}}}
	if t := s.SigningTime.UTC(); !s.SigningTime.IsZero() {
		if t.Year() >= 1950 && t.Year() < 2050 { // RFC 5652, section 11.3
			signingTime.AddASN1UTCTime(t)
		} else {
			signingTime.AddASN1GeneralizedTime(t)
		}
		if der, err = signingTime.Bytes(); err != nil {
			return nil, fmt.Errorf("signing time: %w", err)
		}
		all = append(all, Attribute{OIDSigningTime, [][]byte{der}})
	}
	encoded := make([][]byte, 0, len(all)+len(s.Attributes))
	for _, a := range s.Attributes {
		if find(all, a.Type) != nil {
			return nil, fmt.Errorf("the attribute %s twice", a.Type)
		}
		all = append(all, a)
	}
	for _, a := range all {
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("attribute %s: %w", a.Type, err)
		}
		encoded = append(encoded, a.der())
	}
	return encoded, nil
}

// check refuses an attribute that would not be DER.
func (a Attribute) check() error {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(a.Type)
	if _, err := b.Bytes(); err != nil {
		return err
	}
	if len(a.Values) == 0 {
		return errors.New("it has no value")
	}
	for _, v := range a.Values {
		s := cryptobyte.String(v)
		var e cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1(&e, &tag) || !s.Empty() {
			return errors.New("a value that is not one DER element")
		}
	}
	return nil
}

// sign signs a message with the key.
func (s scheme) sign(key crypto.Signer, message []byte) ([]byte, error) {
	switch s.kind {
	case schemeEd25519:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case schemePSS:
		return key.Sign(rand.Reader, sum(s.hash, message), &rsa.PSSOptions{SaltLength: s.salt, Hash: s.hash})
	}
	return key.Sign(rand.Reader, sum(s.hash, message), s.hash)
}

// add writes the signature algorithm. For PKCS #1 v1.5 that is rsaEncryption,
// which every reader knows (RFC 3370, section 3.2).
func (s scheme) add(b *cryptobyte.Builder) {
	switch s.kind {
	case schemeRSA:
		addAlgorithmNULL(b, oidRSA)
	case schemePSS:
		addPSS(b, s.hash)
	case schemeEd25519:
		addAlgorithm(b, oidEd25519)
	case schemeECDSA:
		for _, h := range hashes {
			if h.hash == s.hash {
				addAlgorithm(b, h.ecdsa)
			}
		}
	}
}

// body returns a set without its tag and length.
func body(set []byte) []byte {
	whole := cryptobyte.String(set)
	var inner cryptobyte.String
	whole.ReadASN1(&inner, cbasn1.SET)
	return inner
}
