package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// EncodeChain returns the DER certificates as PEM, in the order given.
func EncodeChain(certs ...[]byte) []byte { return Certificates.PEM(certs...) }

// ParseChain returns the certificates of a text in order, in any container that Objects
// reads. Anything but certificates, and text after the last one, is an error; text
// between PEM blocks, as openssl writes it, is skipped.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	ders, err := Objects(text, Certificates)
	if err != nil {
		return nil, fmt.Errorf("parse chain: %w", err)
	}
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("parse chain: certificate %d: %w", i+1, err)
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("parse chain: no certificate in it")
	}
	return chain, nil
}

// Fingerprint returns the SHA-256 of a DER value in lower-case hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// SelfIssued reports whether a certificate names itself as its issuer, as a root
// does.
func SelfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }
