package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256.New
	_ "crypto/sha512" // crypto.SHA384.New, crypto.SHA512.New
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// scheme is how a CA of one key type signs: one hash per key, never weaker than
// SHA-256 (G1-51), and the exact DER of the AlgorithmIdentifier (rule X2).
type scheme struct {
	hash      crypto.Hash // 0: the message itself is signed
	algorithm []byte
}

// algorithmIdentifier encodes RSA's with NULL parameters (RFC 4055, section 5)
// and all others without parameters (RFC 5758, section 3.2; RFC 8410, section 3).
func algorithmIdentifier(null bool, oid ...int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier(oid))
		if null {
			b.AddASN1NULL()
		}
	})
	return b.BytesOrPanic() // fixed arcs
}

// schemeFor returns the scheme of a CA key.
func schemeFor(pub crypto.PublicKey) (scheme, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return scheme{crypto.SHA256, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 2)}, nil
		case elliptic.P384():
			return scheme{crypto.SHA384, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 3)}, nil
		case elliptic.P521():
			return scheme{crypto.SHA512, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 4)}, nil
		}
	case *rsa.PublicKey:
		switch bits := pub.N.BitLen(); {
		case bits >= 4096:
			return scheme{crypto.SHA384, algorithmIdentifier(true, 1, 2, 840, 113549, 1, 1, 12)}, nil
		default: // a CA with a short key still signs its lists: calaw says what else
			return scheme{crypto.SHA256, algorithmIdentifier(true, 1, 2, 840, 113549, 1, 1, 11)}, nil
		}
	case ed25519.PublicKey:
		return scheme{0, algorithmIdentifier(false, 1, 3, 101, 112)}, nil
	}
	return scheme{}, fmt.Errorf("a key of type %T cannot be a CA's", pub)
}

// digest returns what goes to the key for a message.
func (s scheme) digest(message []byte) []byte {
	if s.hash == 0 {
		return message
	}
	h := s.hash.New()
	h.Write(message)
	return h.Sum(nil)
}

// verify checks a signature over what digest returned.
func (s scheme) verify(pub crypto.PublicKey, input, sig []byte) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, input, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, s.hash, input, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, input, sig)
	}
	return false
}

// throwAway returns a fresh key of the CA's type whose signatures stand in for
// the CA's while a draft is linted. For RSA its size is 2048 whatever the CA's:
// the linter sees the algorithm, and a 4096-bit signature would cost seven times
// as much.
func throwAway(pub crypto.PublicKey) (crypto.Signer, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.GenerateKey(pub.Curve, rand.Reader)
	case *rsa.PublicKey:
		return rsa.GenerateKey(rand.Reader, 2048)
	case ed25519.PublicKey:
		_, priv, err := ed25519.GenerateKey(rand.Reader)
		return priv, err
	}
	return nil, errors.New("no throw-away key of this type")
}

// assemble returns SEQUENCE { tbs, algorithm, signature }: a Certificate or a
// CertificateList (RFC 5280, sections 4.1 and 5.1).
func assemble(tbs, algorithm, sig []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+len(sig)+16))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
}
