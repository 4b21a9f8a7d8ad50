package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// EncodeChain returns the DER certificates as PEM, in the order given.
func EncodeChain(certs ...[]byte) []byte {
	var out bytes.Buffer
	for _, der := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a Buffer never fails
	}
	return out.Bytes()
}

// ParseChain returns the certificates of a PEM text in order. Anything but
// certificates, and text after the last one, is an error; text between blocks,
// as openssl writes it, is skipped.
func ParseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("parse chain: a block of type %q among the certificates", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse chain: certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("parse chain: what follows the last certificate is not PEM")
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
