package issuer

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// emptyName is the DER of a Name without RDNs.
var emptyName = []byte{0x30, 0x00}

// encodeTBS returns the TBSCertificate (RFC 5280, section 4.1). It is written out
// here rather than through x509.CreateCertificate so that the octets are ours:
// names are copied as they are (rule X4), extensions stand in one fixed order,
// and no signature is spent on the encoding.
func (i *Issuer) encodeTBS(t *profile.Template, serial pki.Serial) ([]byte, error) {
	n := serial.Big()
	if n.Sign() <= 0 || n.BitLen() < 64 || n.BitLen() > 159 { // rule X1
		return nil, fmt.Errorf("serial %q: want 64 to 159 bits", string(serial))
	}
	spki, err := x509.MarshalPKIXPublicKey(t.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	keyID, err := keyIdentifierOf(spki)
	if err != nil {
		return nil, err
	}
	extensions, err := i.extensions(t, serial, keyID)
	if err != nil {
		return nil, err
	}
	subject := t.RawSubject
	if len(subject) == 0 {
		subject = emptyName
	}

	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1Int64(2) // version 3
		})
		b.AddASN1BigInt(n)
		b.AddBytes(i.scheme.algorithm)
		b.AddBytes(i.subject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, t.NotBefore)
			addTime(b, t.NotAfter)
		})
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			addExtensions(b, extensions)
		})
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return tbs, nil
}

// addTime encodes a Time in UTC: UTCTime through 2049, then GeneralizedTime (RFC
// 5280, section 4.1.2.5; rule X3). Fractions of a second are dropped.
func addTime(b *cryptobyte.Builder, t time.Time) {
	t = t.UTC()
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

// checkTemplate refuses what the issuer must never sign, whoever asks: what
// leaves the CA's own validity (rule X3) and, for a root that does not exist yet,
// anything but itself.
func (i *Issuer) checkTemplate(t *profile.Template) error {
	if !t.NotAfter.After(t.NotBefore) {
		return errors.New("notAfter is not after notBefore")
	}
	ca := i.Certificate()
	if ca == nil {
		if !t.CA || !bytes.Equal(t.RawSubject, i.subject) || !pki.SameKey(t.PublicKey, i.signer.Public()) {
			return errors.New("a root that does not exist yet signs only itself")
		}
		return nil
	}
	if t.NotBefore.Before(ca.NotBefore) {
		return fmt.Errorf("notBefore %s is before the issuer's, %s", stamp(t.NotBefore), stamp(ca.NotBefore))
	}
	if t.NotAfter.After(ca.NotAfter) || t.CA && !t.NotAfter.Before(ca.NotAfter) {
		return fmt.Errorf("notAfter %s is not within the issuer's, %s", stamp(t.NotAfter), stamp(ca.NotAfter))
	}
	if t.CA && len(t.RawSubject) == 0 {
		return errors.New("a CA needs a subject")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// keyIdentifier returns the subject key identifier of a key: the leftmost 160
// bits of the SHA-256 of the subjectPublicKey (RFC 7093, section 2, method 1).
func keyIdentifier(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("key identifier: %w", err)
	}
	return keyIdentifierOf(spki)
}

func keyIdentifierOf(spki []byte) ([]byte, error) {
	in := cryptobyte.String(spki)
	var info cryptobyte.String
	var key []byte
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&key) {
		return nil, errors.New("key identifier: the public key is malformed")
	}
	sum := sha256.Sum256(key)
	return sum[:20], nil
}
