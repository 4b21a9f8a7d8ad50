package issuer

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what RFC 6960 names a responder by; nothing rests on it
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/internal/pki"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Responder signs OCSP responses about the certificates of one CA: with the CA's
// own key, or as a delegate whose certificate that key has signed (RFC 6960,
// section 4.2.2.2). Its methods may be called concurrently.
type Responder struct {
	certificate *x509.Certificate // the delegate's; nil when the CA signs itself
	signer      Signer
	scheme      scheme
	keyHash     [20]byte
}

// Responder returns the responder that signs with the CA's own key.
func (i *Issuer) Responder() (*Responder, error) {
	ca := i.Certificate()
	if ca == nil {
		return nil, fmt.Errorf("issuer %s: the CA has no certificate", i.id)
	}
	if ca.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("issuer %s: its key usage lacks digitalSignature, so it cannot sign OCSP responses "+
			"itself", i.id)
	}
	return newResponder(ca, nil, i.signer)
}

// NewResponder returns the responder that signs as a delegate of ca. It refuses
// what a relying party would (rule O6): the certificate must be signed directly
// by the CA's key, be for OCSP signing and say that it needs no check itself.
func NewResponder(ca, delegate *x509.Certificate, signer Signer) (*Responder, error) {
	switch {
	case !bytes.Equal(delegate.RawIssuer, ca.RawSubject):
		return nil, fmt.Errorf("OCSP responder %s: its issuer is not %s", delegate.Subject, ca.Subject)
	case pki.CertifiedBy(delegate, ca) != nil:
		return nil, fmt.Errorf("OCSP responder %s: not signed by the key of %s", delegate.Subject, ca.Subject)
	case !slices.Contains(delegate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return nil, fmt.Errorf("OCSP responder %s: its extended key usage lacks OCSPSigning", delegate.Subject)
	case delegate.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, fmt.Errorf("OCSP responder %s: its key usage lacks digitalSignature", delegate.Subject)
	case delegate.IsCA:
		return nil, fmt.Errorf("OCSP responder %s: it is a CA", delegate.Subject)
	case !hasNoCheck(delegate):
		return nil, fmt.Errorf("OCSP responder %s: it lacks id-pkix-ocsp-nocheck", delegate.Subject)
	case !pki.SameKey(delegate.PublicKey, signer.Public()):
		return nil, fmt.Errorf("OCSP responder %s: the key is not the one of its certificate", delegate.Subject)
	}
	return newResponder(delegate, delegate, signer)
}

func hasNoCheck(c *x509.Certificate) bool {
	_, ok := pki.Extension(c.Extensions, oidOCSPNoCheck)
	return ok
}

func newResponder(named, included *x509.Certificate, signer Signer) (*Responder, error) {
	s, err := schemeFor(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("OCSP responder %s: %w", named.Subject, err)
	}
	key, err := PublicKeyBits(named)
	if err != nil {
		return nil, err
	}
	//nolint:gosec // see the import
	return &Responder{certificate: included, signer: signer, scheme: s, keyHash: sha1.Sum(key)}, nil
}

// PublicKeyBits returns the octets of a certificate's subjectPublicKey, which is
// what OCSP hashes: without tag, length and the count of unused bits.
func PublicKeyBits(c *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, fmt.Errorf("read public key of %s: %w", c.Subject, err)
	}
	return spki.Key.RightAlign(), nil
}

// KeyHash returns what names the responder in its answers (ResponderID byKey).
func (r *Responder) KeyHash() [20]byte { return r.keyHash }

// Certificate returns the delegate's certificate, nil when the CA itself signs.
func (r *Responder) Certificate() *x509.Certificate { return r.certificate }

// SignOCSP returns the BasicOCSPResponse around the given ResponseData. It signs
// nothing else: the data must begin with this responder's own name. With verify
// the signature is checked before it is returned, which an answer that is kept
// deserves.
func (r *Responder) SignOCSP(ctx context.Context, tbs []byte, verify bool) ([]byte, error) {
	if !r.names(tbs) {
		return nil, unsigned(errors.New("sign OCSP response: these octets are not a response of this responder"))
	}
	input := r.scheme.digest(tbs)
	sig, err := r.signer.SignContext(ctx, input, r.scheme.hash)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP response: %w", err)
	}
	if verify && !r.scheme.verify(r.signer.Public(), input, sig) {
		return nil, errors.New("sign OCSP response: the key returned a signature that does not verify")
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(sig)+1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(r.scheme.algorithm)
		b.AddASN1BitString(sig)
		if r.certificate != nil {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.certificate.Raw) })
			})
		}
	})
	return b.Bytes()
}

// names reports whether tbs is one SEQUENCE that begins with [2] and this
// responder's key hash. A TBSCertificate begins with [0] or a number and a
// TBSCertList with a number, so no certificate or list can pass as a response.
func (r *Responder) names(tbs []byte) bool {
	input := cryptobyte.String(tbs)
	var data, id, hash cryptobyte.String
	return input.ReadASN1(&data, cbasn1.SEQUENCE) && input.Empty() &&
		data.ReadASN1(&id, cbasn1.Tag(2).ContextSpecific().Constructed()) &&
		id.ReadASN1(&hash, cbasn1.OCTET_STRING) && id.Empty() && bytes.Equal(hash, r.keyHash[:])
}
