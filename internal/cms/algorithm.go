package cms

import (
	"crypto"
	_ "crypto/sha1" //nolint:gosec // registered for signatures by leave and as OAEP's default
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithms of RFC 3370, 4055, 5754, 8419 and 8017.
var (
	oidMD5  = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}
	oidSHA1 = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}

	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAWithMD5 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}
	oidOAEP       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidPSpecified = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 9}
	oidPSS        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC         = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidEd25519    = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// hashes are the digests that are understood, with the signature algorithms
// that name them.
var hashes = []struct {
	hash            crypto.Hash
	oid, rsa, ecdsa asn1.ObjectIdentifier
}{
	{crypto.SHA1, oidSHA1, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5},
		asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}},
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1},
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2},
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3},
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}},
}

// algorithm is an AlgorithmIdentifier. Parameters are the elements after the
// OID; absent ones and NULL mean the same to everybody.
type algorithm struct {
	oid        asn1.ObjectIdentifier
	parameters cryptobyte.String
}

func readAlgorithm(s *cryptobyte.String) (algorithm, bool) {
	var a algorithm
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1ObjectIdentifier(&a.oid) {
		return a, false
	}
	a.parameters = body
	return a, true
}

// plain reports whether there are no parameters.
func (a algorithm) plain() bool {
	p := a.parameters
	var null cryptobyte.String
	return p.Empty() || p.ReadASN1(&null, cbasn1.NULL) && null.Empty() && p.Empty()
}

// hash returns the digest that a names, 0 if it is not known.
func (a algorithm) hash() crypto.Hash {
	for _, h := range hashes {
		if h.oid.Equal(a.oid) && a.plain() {
			return h.hash
		}
	}
	return 0
}

func hashOID(hash crypto.Hash) asn1.ObjectIdentifier {
	for _, h := range hashes {
		if h.hash == hash {
			return h.oid
		}
	}
	return nil
}

// addAlgorithm writes an AlgorithmIdentifier without parameters.
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
}

// addAlgorithmNULL writes an AlgorithmIdentifier whose parameters are NULL, as
// RFC 4055 wants it for RSA and the hashes in its parameters.
func addAlgorithmNULL(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1NULL()
	})
}
