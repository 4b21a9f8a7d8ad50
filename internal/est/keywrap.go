package est

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha1" //nolint:gosec // names a key, protects nothing
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

var (
	oidDecryptKeyID     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 37}
	oidAsymDecryptKeyID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}
	oidCapabilities     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}
	oidKeyPackage       = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 2, 1, 2, 78, 5}
	oidOAEP             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
)

// wrapper makes of a PKCS#8 key the part of an answer that carries it.
type wrapper func(ctx context.Context, pkcs8 []byte) (contentType string, body []byte, err error)

// keyWrapper says how the key of an answer is protected. What the client asked for
// and cannot have ends here, before a key is made or a certificate issued: a key
// never goes in clear to somebody who wanted it encrypted (rule E18).
func (s *Server) keyWrapper(ctx context.Context, c *client, csr *pki.CSR, conn *tls.ConnectionState) (wrapper, error) {
	if attribute(csr.Raw, oidDecryptKeyID) != nil {
		return nil, refuseWrap("there are no shared keys with clients here: name a key of a certificate " +
			"(AsymmetricDecryptKeyIdentifier)")
	}
	asked := attribute(csr.Raw, oidAsymDecryptKeyID)
	if asked == nil {
		if conn == nil || !strongEnough(csr.PublicKey, conn) {
			return nil, fault.New(fault.Denied, "the cipher of this connection is weaker than the key: offer only "+
				"256-bit ciphers, or ask for encryption").Because("cipher_strength")
		}
		return func(_ context.Context, pkcs8 []byte) (string, []byte, error) { return typePKCS8, pkcs8, nil }, nil
	}
	if c.presented == nil {
		return nil, refuseWrap("the key can only be encrypted to the client certificate, and there is none")
	}
	values := cryptobyte.String(asked)
	var id []byte
	if !values.ReadASN1Bytes(&id, cbasn1.OCTET_STRING) || !values.Empty() || !namesKey(c.presented.cert, id) {
		return nil, refuseWrap("the key identifier is not that of the client certificate")
	}
	choice, transport, err := capabilities(attribute(csr.Raw, oidCapabilities))
	if err != nil {
		return nil, err
	}
	to := c.presented.cert
	switch _, err := cms.Encrypt(ctx, oidKeyPackage, []byte{0}, to, choice, transport); {
	case fault.Is(err, fault.Unavailable):
		return nil, err
	case err != nil:
		return nil, refuseWrap("the key of the client certificate cannot be encrypted to, only RSA can")
	}
	return func(ctx context.Context, pkcs8 []byte) (string, []byte, error) {
		body, err := s.seal(ctx, pkcs8, to, choice, transport)
		return typeEncrypted, body, err
	}, nil
}

func refuseWrap(why string) error {
	return fault.New(fault.BadCSR, "certificate request: %s", why).Because("key_encryption")
}

// seal signs the key package as its maker and encrypts the signed message (RFC
// 7030, section 4.4.2; RFC 5958, section 4).
func (s *Server) seal(
	ctx context.Context, pkcs8 []byte, to *x509.Certificate, choice cms.Cipher, transport cms.KeyTransport,
) ([]byte, error) {
	own, key, err := s.signingPair()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(pkcs8) })
	content, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode key package: %w", err)
	}
	defer clear(content)
	signed, err := cms.Sign(cms.Message{Type: oidKeyPackage, Content: content},
		cms.Signer{Certificate: own[0], Key: key, SigningTime: s.Now()})
	if err != nil {
		return nil, fmt.Errorf("sign key package: %w", err)
	}
	defer clear(signed)
	return cms.Encrypt(ctx, cms.OIDSignedData, inner(signed), to, choice, transport)
}

// signingPair is the listener's certificate, with those that certify it, and key.
func (s *Server) signingPair() ([]*x509.Certificate, crypto.Signer, error) {
	var own *tls.Certificate
	if s.Signer != nil {
		own = s.Signer()
	}
	if own == nil {
		return nil, nil, fault.New(fault.Unavailable, "the server has no key to sign with yet")
	}
	key, ok := own.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("the listener's key cannot sign")
	}
	chain := []*x509.Certificate{own.Leaf}
	for _, der := range own.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("read certificate of the listener: %w", err)
		}
		chain = append(chain, c)
	}
	return chain, key, nil
}

// inner is the SignedData of a ContentInfo: an EnvelopedData says the type of its
// content itself.
func inner(message []byte) []byte {
	in := cryptobyte.String(message)
	var info, content cryptobyte.String
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.OBJECT_IDENTIFIER) ||
		!info.ReadASN1(&content, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return message
	}
	return content
}

// namesKey reports whether an identifier names the key of a certificate, by the
// certificate's own word or by one of the usual digests of the key.
func namesKey(c *x509.Certificate, id []byte) bool {
	if len(c.SubjectKeyId) > 0 && bytes.Equal(c.SubjectKeyId, id) {
		return true
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return false
	}
	short, long := sha1.Sum(info.Key.Bytes), sha256.Sum256(info.Key.Bytes) //nolint:gosec // see above
	return bytes.Equal(short[:], id) || bytes.Equal(long[:20], id) || bytes.Equal(long[:], id)
}

// wrapCiphers are those that a client can ask for, by their OIDs.
var wrapCiphers = map[string]cms.Cipher{
	"2.16.840.1.101.3.4.1.46": cms.AES256GCM, "2.16.840.1.101.3.4.1.42": cms.AES256CBC,
	"2.16.840.1.101.3.4.1.6": cms.AES128GCM, "2.16.840.1.101.3.4.1.2": cms.AES128CBC,
}

// capabilities reads SMIMECapabilities (RFC 8551, section 2.5.2): the first cipher
// that we have too, in the client's order, and OAEP if it is listed. A client that
// lists only what we do not have is refused; one that lists nothing gets AES-256.
func capabilities(values []byte) (cms.Cipher, cms.KeyTransport, error) {
	if values == nil {
		return cms.AES256CBC, cms.KeyTransport{}, nil
	}
	var choice cms.Cipher
	var transport cms.KeyTransport
	in := cryptobyte.String(values)
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return 0, transport, refuseWrap("its SMIMECapabilities cannot be read")
	}
	for !list.Empty() {
		var one cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&oid) {
			return 0, transport, refuseWrap("its SMIMECapabilities cannot be read")
		}
		if known, ok := wrapCiphers[oid.String()]; ok && choice == 0 {
			choice = known
		}
		if oid.Equal(oidOAEP) {
			transport.OAEP = crypto.SHA256
		}
	}
	if choice == 0 {
		return 0, transport, refuseWrap(
			"none of the ciphers in its SMIMECapabilities is offered: AES-128 and AES-256 " +
				"in CBC and GCM are",
		)
	}
	return choice, transport, nil
}
