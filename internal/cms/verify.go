package cms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// maxCandidates is how many certificates under one name are tried, which bounds
// what a stranger can make us compute.
const maxCandidates = 4

// Verify checks every signature and returns the certificate of each signer, in
// the order of Signers. They come from the message and from known, for clients
// that leave theirs out. That a certificate verifies a signature says nothing
// about the certificate: it may be self-signed, expired or anybody's. A message
// without signers is an error.
//
// Faults: BadAlgorithm for what is not accepted (ErrMD5, ErrSHA1), BadPublicKey for
// keys that are not pki.Usable, Malformed where attributes are missing, Unavailable
// when too many signatures wait to be verified, Unverified for the rest.
func (s *SignedData) Verify(ctx context.Context, p Policy, known ...*x509.Certificate) ([]*x509.Certificate, error) {
	if len(s.Signers) == 0 {
		return nil, fault.New(fault.Unverified, "signed message: nobody signed it").Because("cms_unsigned")
	}
	var all []*x509.Certificate
	for _, info := range s.Signers {
		c, err := s.verify(ctx, info, p, known)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// VerifyKey checks one signature with a bare key: a CMC client may sign with a
// key that has no certificate yet (RFC 5272, section 3.2). Faults are those of
// Verify.
func (s *SignedData) VerifyKey(ctx context.Context, info *SignerInfo, key crypto.PublicKey, p Policy) error {
	scheme, err := s.check(info, p)
	if err != nil {
		return err
	}
	return scheme.verifyAny(ctx, key, info.messages(), info.signature)
}

// errSignature is the error of a signature that is not right.
var errSignature error = fault.New(fault.Unverified, "signed message: its signature does not verify").
	Because("cms_signature")

func (s *SignedData) verify(
	ctx context.Context, info *SignerInfo, p Policy, known []*x509.Certificate,
) (*x509.Certificate, error) {
	scheme, err := s.check(info, p)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(s.Certificates, known)
	if p.Bare {
		all = append(all, s.bare()...)
	}
	candidates := info.candidates(all)
	if len(candidates) == 0 {
		return nil, fault.New(fault.Unverified, "signed message: no certificate that can be read is its signer's").
			Because("cms_signer")
	}
	messages := info.messages()
	for _, c := range candidates {
		if err = scheme.verifyAny(ctx, c.PublicKey, messages, info.signature); err == nil {
			return c, nil
		}
		if fault.Is(err, fault.Unavailable) {
			break
		}
	}
	return nil, err
}

// bare returns the certificates of the message of which no more is read than names
// them, and their keys.
func (s *SignedData) bare() []*x509.Certificate {
	var all []*x509.Certificate
	for _, der := range s.RawCertificates {
		if c, ok := readBare(der); ok {
			all = append(all, c)
		}
	}
	return all
}

// check checks everything about a signer but the signature.
func (s *SignedData) check(info *SignerInfo, p Policy) (scheme, error) {
	sch, err := info.scheme(p)
	if err != nil {
		return sch, err
	}
	return sch, s.checkAttributes(info)
}

// candidates returns the certificates that the signer's name fits, each once.
func (info *SignerInfo) candidates(certs []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	for _, c := range certs {
		if len(found) < maxCandidates && info.Name.Matches(c) && !sameCertificate(c, found) {
			found = append(found, c)
		}
	}
	return found
}

// checkAttributes checks the two attributes that bind a signature to the
// content (RFC 5652, section 11). A signature over the bare content is not
// taken: no protocol here has one, and where both forms are taken the
// attributes of one message can be passed off as the content of another.
// Absent content counts as empty, as in SCEP replies (rule S17).
func (s *SignedData) checkAttributes(info *SignerInfo) error {
	typ := cryptobyte.String(info.Value(OIDContentType))
	var body cryptobyte.String
	if !typ.ReadASN1(&body, cbasn1.OBJECT_IDENTIFIER) {
		return malformed("signed message: no contentType among its signed attributes")
	}
	var own cryptobyte.Builder
	own.AddASN1ObjectIdentifier(s.Type)
	if der, err := own.Bytes(); err != nil || !bytes.Equal(der, info.Value(OIDContentType)) {
		return fault.New(fault.Unverified, "signed message: what was signed is of another type than its content").
			Because("cms_signature")
	}
	value := cryptobyte.String(info.Value(OIDMessageDigest))
	var digest []byte
	if !value.ReadASN1Bytes(&digest, cbasn1.OCTET_STRING) {
		return malformed("signed message: no messageDigest among its signed attributes")
	}
	if !bytes.Equal(digest, sum(info.Hash, s.Content)) {
		return fault.New(fault.Unverified, "signed message: its content is not what was signed").
			Because("cms_signature")
	}
	return nil
}

// messages returns what the signature may be over: the attributes in DER
// (RFC 5652, section 5.4) and, where it differs, in the order in which they
// came, which is what some clients sign (rule S14).
func (info *SignerInfo) messages() [][]byte {
	sorted := make([][]byte, len(info.signed))
	for i, a := range info.Attributes {
		sorted[i] = info.signed[i]
		if len(a.Values) > 1 {
			sorted[i] = a.der()
		}
	}
	der := set(sorted)
	if received := concat(info.signed); !bytes.Equal(der, received) {
		return [][]byte{der, received}
	}
	return [][]byte{der}
}

// der returns the attribute with its values in order.
func (a Attribute) der() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.Type)
		b.AddBytes(set(a.Values))
	})
	return b.BytesOrPanic() // a.Type was read or checked before
}

// set returns a SET OF in DER: sorted by the octets of its elements, whose
// slice stays as it is (X.690, section 11.6).
func set(elements [][]byte) []byte {
	sorted := slices.Clone(elements)
	slices.SortFunc(sorted, bytes.Compare)
	return concat(sorted)
}

// concat returns a set of elements in the order given.
func concat(elements [][]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		for _, e := range elements {
			b.AddBytes(e)
		}
	})
	return b.BytesOrPanic() // nothing in it can fail
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// scheme is a signature algorithm with the hash that it is used with.
type scheme struct {
	kind schemeKind
	hash crypto.Hash
	salt int // of PSS, in octets
}

type schemeKind uint8

const (
	schemeRSA schemeKind = iota + 1
	schemePSS
	schemeECDSA
	schemeEd25519
)

// scheme returns the signature algorithm, if it is one that is accepted. The
// hash that it names must be the digest algorithm.
func (info *SignerInfo) scheme(p Policy) (scheme, error) {
	oid := info.algorithm.oid
	s := scheme{hash: info.Hash}
	if info.digest.oid.Equal(oidMD5) || oid.Equal(oidRSAWithMD5) {
		return s, ErrMD5
	}
	if s.hash == 0 {
		return s, badAlgorithm("the digest algorithm %s", info.digest.oid)
	}
	if s.hash == crypto.SHA1 && !p.SHA1 {
		return s, ErrSHA1
	}
	named := s.hash
	switch {
	case oid.Equal(oidRSA):
		s.kind = schemeRSA
	case oid.Equal(oidEC):
		s.kind = schemeECDSA
	case oid.Equal(oidEd25519):
		s.kind = schemeEd25519
	case oid.Equal(oidPSS):
		hash, mask, salt, ok := readPSS(info.algorithm.parameters)
		if !ok || hash != mask {
			return s, badAlgorithm("RSA-PSS with these parameters")
		}
		s.kind, s.salt, named = schemePSS, salt, hash
	}
	for _, h := range hashes {
		switch {
		case h.rsa.Equal(oid):
			s.kind, named = schemeRSA, h.hash
		case h.ecdsa.Equal(oid):
			s.kind, named = schemeECDSA, h.hash
		}
	}
	if s.kind == 0 {
		return s, badAlgorithm("the signature algorithm %s", oid)
	}
	if named != s.hash {
		return s, badAlgorithm("a signature algorithm whose hash is not the digest algorithm")
	}
	return s, nil
}

func badAlgorithm(format string, args ...any) error {
	return fault.New(fault.BadAlgorithm, "signed message: "+format+" is not accepted", args...).
		Because("signature_algorithm")
}

// verifyAny reports by errSignature that a signature is over none of the messages.
func (s scheme) verifyAny(ctx context.Context, key crypto.PublicKey, messages [][]byte, signature []byte) error {
	return pki.UseKey(ctx, key, func() error {
		for _, message := range messages {
			if s.verifies(key, message, signature) {
				return nil
			}
		}
		return errSignature
	})
}

// verifies reports whether a signature is right. It is for verifyAny.
func (s scheme) verifies(key crypto.PublicKey, message, signature []byte) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch s.kind {
		case schemeRSA:
			return rsa.VerifyPKCS1v15(key, s.hash, sum(s.hash, message), signature) == nil
		case schemePSS:
			// A salt of length 0 would mean any length to crypto/rsa; that is harmless.
			return rsa.VerifyPSS(key, s.hash, sum(s.hash, message), signature,
				&rsa.PSSOptions{SaltLength: s.salt}) == nil
		}
	case *ecdsa.PublicKey:
		return s.kind == schemeECDSA && ecdsa.VerifyASN1(key, sum(s.hash, message), signature)
	case ed25519.PublicKey:
		return s.kind == schemeEd25519 && ed25519.Verify(key, message, signature)
	}
	return false
}
