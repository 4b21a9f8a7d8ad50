package pki

import (
	"context"
	"crypto"
	"crypto/md5" //nolint:gosec // proves possession of a request's key, and admits nothing
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
)

// csrParts are the members of a CertificationRequest (RFC 2986, section 4.2); info
// and algorithm are whole elements.
type csrParts struct {
	info, algorithm cryptobyte.String
	signature       []byte
}

// splitCSR takes exactly one request apart; nothing may follow it.
func splitCSR(der []byte) (p csrParts, ok bool) {
	input := cryptobyte.String(der)
	var outer cryptobyte.String
	ok = input.ReadASN1(&outer, cbasn1.SEQUENCE) && input.Empty() &&
		outer.ReadASN1Element(&p.info, cbasn1.SEQUENCE) &&
		outer.ReadASN1Element(&p.algorithm, cbasn1.SEQUENCE) &&
		outer.ReadASN1BitStringAsBytes(&p.signature) && outer.Empty()
	return p, ok
}

// outdatedAlgorithms are accepted by nobody: IntactCSR knows them to tell so.
var outdatedAlgorithms = []csrAlgorithm{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}, nil, x509.MD5WithRSA},
}

// IntactCSR reports whether der is exactly one PKCS#10 request whose own signature
// is right, by SHA-1 and MD5 too, whatever else is wrong with it. It is for
// protocols in which a stranger may have changed the octets without being able to
// read them: who made a request that verifies knows what stands in it, and may be
// told what is wrong with it. The one error, Unavailable, is that nothing was verified,
// because too many wait for it.
func IntactCSR(ctx context.Context, der []byte) (bool, error) {
	p, ok := splitCSR(der)
	if !ok || len(der) > maxCSR {
		return false, nil
	}
	whole := p.info
	var info, subject, spki cryptobyte.String
	if !p.info.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1Integer(new(big.Int)) ||
		!info.ReadASN1Element(&subject, cbasn1.SEQUENCE) || !info.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return false, nil
	}
	c := &CSR{}
	if c.readKey(spki) != nil {
		return false, nil //nolint:nilerr // a request without a key is not intact
	}
	key, isRSA := c.PublicKey.(*rsa.PublicKey)
	if isRSA && signatureAlgorithm(p.algorithm, outdatedAlgorithms) == x509.MD5WithRSA {
		digest := md5.Sum(whole) //nolint:gosec // see the import
		return verified(UseKey(ctx, key, func() error {
			return rsa.VerifyPKCS1v15(key, crypto.MD5, digest[:], p.signature)
		}))
	}
	return verified(c.verify(ctx, whole, p.algorithm, p.signature, true))
}

func verified(err error) (bool, error) {
	if fault.Is(err, fault.Unavailable) {
		return false, err
	}
	return err == nil, nil
}
