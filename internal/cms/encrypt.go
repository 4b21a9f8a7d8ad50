package cms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// KeyTransport is how the content key is encrypted. The zero value is
// RSAES-PKCS1-v1_5, the only one that every SCEP client knows.
type KeyTransport struct {
	OAEP crypto.Hash // 0 is PKCS #1 v1.5
	MGF  crypto.Hash // of OAEP's mask; 0 is the same as OAEP
}

// Encrypt returns a content encrypted to the RSA key of a certificate, in DER:
// an EnvelopedData, or an AuthEnvelopedData if the cipher is of GCM. A nil type
// is OIDData. The fault is BadPublicKey when the certificate's key cannot take
// it, and Unavailable when too many operations wait.
func Encrypt(
	ctx context.Context, typ asn1.ObjectIdentifier, content []byte, to *x509.Certificate, c Cipher, kt KeyTransport,
) ([]byte, error) {
	if typ == nil {
		typ = OIDData
	}
	if !c.known() {
		return nil, fmt.Errorf("encrypt message: no cipher %d", c)
	}
	outer, attributes, err := c.wrapping(typ)
	if err != nil {
		return nil, fmt.Errorf("encrypt message: content type %v: %w", typ, err)
	}
	key := c.newKey()
	iv, encrypted, mac, err := c.seal(key, content, attributes)
	if err != nil {
		return nil, fmt.Errorf("encrypt message: %w", err)
	}
	wrapped, err := kt.wrap(ctx, to, key)
	if err != nil {
		return nil, err
	}
	return contentInfo(outer, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				addName(b, to)
				kt.add(b)
				b.AddASN1OctetString(wrapped)
			})
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(typ)
			c.add(b, iv)
			b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddBytes(encrypted) })
		})
		if mac == nil {
			return
		}
		if attributes != nil {
			b.AddASN1(tag1.Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(body(attributes)) })
		}
		b.AddASN1OctetString(mac)
	})
}

// wrapping returns the type of the whole message and the set of attributes that
// GCM authenticates with a content that is not plain data: its type (RFC 5083,
// section 2.1). It is nil where there are none.
func (c Cipher) wrapping(typ asn1.ObjectIdentifier) (outer asn1.ObjectIdentifier, attributes []byte, err error) {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(typ)
	der, err := b.Bytes()
	switch {
	case err != nil:
		return nil, nil, err
	case !ciphers[c].gcm:
		return OIDEnvelopedData, nil, nil
	case typ.Equal(OIDData):
		return OIDAuthEnvelopedData, nil, nil
	}
	a := Attribute{OIDContentType, [][]byte{der}}
	return OIDAuthEnvelopedData, set([][]byte{a.der()}), nil
}

// wrap encrypts the content key to the key of the certificate.
func (kt KeyTransport) wrap(ctx context.Context, to *x509.Certificate, key []byte) ([]byte, error) {
	public, ok := to.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.BadPublicKey, "encrypt message: only RSA keys can be encrypted to").
			Because("key_type")
	}
	if kt.OAEP != 0 && (hashOID(kt.OAEP) == nil || hashOID(kt.mask()) == nil) {
		return nil, fmt.Errorf("encrypt message: no OAEP with %v and %v", kt.OAEP, kt.mask())
	}
	var wrapped []byte
	err := pki.UseKey(ctx, public, func() (err error) {
		if kt.OAEP == 0 {
			// Deprecated in crypto/rsa for good reasons, but what SCEP clients read (rule S25).
			wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, public, key) //nolint:staticcheck // see above
			return err
		}
		wrapped, err = rsa.EncryptOAEPWithOptions(rand.Reader, public, key,
			&rsa.OAEPOptions{Hash: kt.OAEP, MGFHash: kt.mask()})
		return err
	})
	if err != nil && fault.Of(err).Kind == fault.Internal { // crypto/rsa refuses: the key is too short
		err = fault.Wrap(fault.BadPublicKey, err, "encrypt message: the key of the certificate cannot be encrypted to").
			Because("key_size")
	}
	return wrapped, err
}

func (kt KeyTransport) mask() crypto.Hash {
	if kt.MGF == 0 {
		return kt.OAEP
	}
	return kt.MGF
}

func (kt KeyTransport) add(b *cryptobyte.Builder) {
	if kt.OAEP == 0 {
		addAlgorithmNULL(b, oidRSA)
		return
	}
	addOAEP(b, kt.OAEP, kt.mask())
}
