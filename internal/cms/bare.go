package cms

import (
	"crypto/x509"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxSerial is the longest serial number that is read, in octets. RFC 5280 has 20.
const maxSerial = 128

// readBare reads from a certificate what names it in a message, issuer and serial
// number, and its key; in what it returns nothing else is set. For one that only
// carries a key all the rest is nobody's business: dates, extensions, the sign of
// the number.
func readBare(der []byte) (*x509.Certificate, bool) {
	input := cryptobyte.String(der)
	var body, tbs, issuer, spki cryptobyte.String
	c := &x509.Certificate{Raw: der, SerialNumber: new(big.Int)}
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() || !body.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(tag0.Constructed()) || !readSerial(&tbs, c.SerialNumber) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || // the signature algorithm
		!tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) || // validity, subject
		!tbs.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return nil, false
	}
	var err error
	c.PublicKey, err = x509.ParsePKIXPublicKey(spki)
	c.RawIssuer, c.RawSubjectPublicKeyInfo = issuer, spki
	return c, err == nil
}

// readSerial reads a serial number, which may be negative or have more octets than
// it needs: some clients make theirs of random octets.
func readSerial(s *cryptobyte.String, out *big.Int) bool {
	var octets cryptobyte.String
	if !s.ReadASN1(&octets, cbasn1.INTEGER) || len(octets) == 0 || len(octets) > maxSerial {
		return false
	}
	out.SetBytes(octets)
	if octets[0]&0x80 != 0 {
		out.Sub(out, new(big.Int).Lsh(big.NewInt(1), uint(8*len(octets))))
	}
	return true
}
