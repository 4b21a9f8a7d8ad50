package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Kind is what a file of people's tools is to hold.
type Kind struct {
	what  string
	types []string // of PEM blocks, the usual one first
	read  func(der []byte) error
}

// The kinds of Objects.
var (
	Certificates = Kind{"certificate", []string{"CERTIFICATE", "X509 CERTIFICATE"}, func(der []byte) error {
		_, err := x509.ParseCertificate(der)
		return err
	}}
	Requests = Kind{"certificate request", []string{"CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"}, oneSequence}
	Lists    = Kind{"revocation list", []string{"X509 CRL"}, oneSequence}
)

// PEM writes objects as blocks of the kind.
func (k Kind) PEM(ders ...[]byte) []byte {
	var out bytes.Buffer
	for _, der := range ders {
		_ = pem.Encode(&out, &pem.Block{Type: k.types[0], Bytes: der}) // a Buffer never fails
	}
	return out.Bytes()
}

// oneSequence looks at no more than the outermost structure: whoever reads it says what
// is wrong inside.
func oneSequence(der []byte) error {
	s := cryptobyte.String(der)
	if !s.SkipASN1(cbasn1.SEQUENCE) || !s.Empty() {
		return errors.New("it is not DER")
	}
	return nil
}

// maxObjects bounds what one file holds.
const maxObjects = 10_000

// Objects returns the DER of what a file holds, in order: PEM, DER, base64 without lines
// around it; text in UTF-8 or UTF-16, with a byte order mark or without; certificates also
// in PKCS#7 (.p7b), which has no order: they are put in that of a chain. What another tool
// has to convert first is named with the command that does.
func Objects(text []byte, kind Kind) ([][]byte, error) {
	text = Plain(text)
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return kind.blocks(text)
	}
	trimmed := bytes.TrimSpace(text)
	if compact := strings.Join(strings.Fields(string(trimmed)), ""); len(compact) > 0 && compact[0] != 0x30 {
		if der, err := base64.StdEncoding.DecodeString(compact); err == nil {
			return kind.der(der)
		}
	}
	if len(trimmed) == 0 {
		return nil, fmt.Errorf("no %s in it: the file is empty", kind.what)
	}
	return kind.der(text)
}

// Single is Objects of a file that is to hold one.
func Single(text []byte, kind Kind) ([]byte, error) {
	all, err := Objects(text, kind)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("it holds %d times a %s: want a file for each", len(all), kind.what)
	}
	return all[0], nil
}

// Plain returns a text in UTF-8 without a byte order mark.
func Plain(text []byte) []byte {
	switch {
	case bytes.HasPrefix(text, []byte("\xef\xbb\xbf")):
		return text[3:]
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		units := make([]uint16, 0, len(text)/2)
		for pair := range slices.Chunk(text[2:len(text)-len(text)%2], 2) {
			low, high := pair[0], pair[1]
			if text[0] == 0xfe {
				low, high = high, low
			}
			units = append(units, uint16(high)<<8|uint16(low))
		}
		return []byte(string(utf16.Decode(units)))
	}
	return text
}

func (k Kind) blocks(text []byte) (all [][]byte, err error) {
	begun := bytes.Count(text, []byte("-----BEGIN"))
	for n := 1; n <= begun; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("block %d of %d cannot be read: is a part of it missing, or does something stand "+
				"before its -----BEGIN?", n, begun)
		}
		switch {
		case slices.Contains(k.types, block.Type):
			all = append(all, block.Bytes)
		case k.what == Certificates.what && (block.Type == "PKCS7" || block.Type == "CMS"):
			certs, err := fromPKCS7(block.Bytes)
			if err != nil {
				return nil, err
			}
			all = append(all, certs...)
		default:
			return nil, k.strange(block.Type)
		}
		if len(all) > maxObjects {
			return nil, fmt.Errorf("it holds more than %d objects", maxObjects)
		}
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("what follows the last %s is not PEM", k.what)
	}
	return all, nil
}

// strange says what a PEM block of another type is.
func (k Kind) strange(block string) error {
	switch {
	case strings.HasSuffix(block, "PRIVATE KEY"):
		return fmt.Errorf("a block of type %q: a private key does not belong into a file of a %s", block, k.what)
	case block == "TRUSTED CERTIFICATE":
		return fmt.Errorf("a block of type %q: convert it with openssl x509 -in FILE -out cert.pem", block)
	}
	return fmt.Errorf("a block of type %q: want %s", block, k.types[0])
}

var (
	oidPKCS7Data   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidPKCS7Signed = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

func (k Kind) der(der []byte) ([][]byte, error) {
	var all [][]byte
	rest := cryptobyte.String(der)
	for len(all) <= maxObjects && !rest.Empty() {
		var one cryptobyte.String
		if !rest.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, fmt.Errorf("it is not a %s: neither PEM nor DER", k.what)
		}
		all = append(all, one)
	}
	switch outer := contentType(all[0]); {
	case outer.Equal(oidPKCS7Signed) && k.what == Certificates.what:
		return fromPKCS7(all[0])
	case outer.Equal(oidPKCS7Signed):
		return nil, fmt.Errorf("it is PKCS#7, which holds certificates; want a %s", k.what)
	case isPKCS12(all[0]):
		return nil, errors.New("it is PKCS#12 (.p12, .pfx): take the certificates out with " +
			"openssl pkcs12 -in FILE -nokeys -out chain.pem, the key with openssl pkcs12 -in FILE -nocerts -out " +
			"key.pem")
	}
	for _, one := range all {
		if err := k.read(one); err != nil {
			return nil, fmt.Errorf("it is not a %s: %w", k.what, err)
		}
	}
	return all, nil
}

// contentType returns the type of a ContentInfo (RFC 5652, section 3), nil of anything else.
func contentType(der []byte) (oid asn1.ObjectIdentifier) {
	s := cryptobyte.String(der)
	if !s.ReadASN1(&s, cbasn1.SEQUENCE) || !s.ReadASN1ObjectIdentifier(&oid) {
		return nil
	}
	return oid
}

// isPKCS12 looks for a PFX (RFC 7292, section 4): version 3 and a ContentInfo.
func isPKCS12(der []byte) bool {
	var inner cryptobyte.String
	var version int
	s := cryptobyte.String(der)
	return s.ReadASN1(&s, cbasn1.SEQUENCE) && s.ReadASN1Integer(&version) && version == 3 &&
		s.ReadASN1Element(&inner, cbasn1.SEQUENCE) &&
		(contentType(inner).Equal(oidPKCS7Data) || contentType(inner).Equal(oidPKCS7Signed))
}

// fromPKCS7 returns the certificates of a SignedData (RFC 5652, section 5.1) as a chain.
func fromPKCS7(der []byte) ([][]byte, error) {
	var content, certs cryptobyte.String
	var there bool
	s := cryptobyte.String(der)
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	if !s.ReadASN1(&s, cbasn1.SEQUENCE) || !s.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !s.ReadASN1(&content, explicit) ||
		!content.ReadASN1(&content, cbasn1.SEQUENCE) || !content.SkipASN1(cbasn1.INTEGER) ||
		!content.SkipASN1(cbasn1.SET) || !content.SkipASN1(cbasn1.SEQUENCE) ||
		!content.ReadOptionalASN1(&certs, &there, explicit) {
		return nil, errors.New("the PKCS#7 in it cannot be read here: convert it with " +
			"openssl pkcs7 -print_certs -in FILE -out chain.pem (-inform DER if it is binary)")
	}
	var all []*x509.Certificate
	for !certs.Empty() && len(all) <= maxObjects {
		var one cryptobyte.String
		if !certs.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, errors.New("the PKCS#7 in it holds something that is no certificate")
		}
		c, err := x509.ParseCertificate(one)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in the PKCS#7: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	return inOrder(all), nil
}

// inOrder puts certificates in the order of a chain, each before the one that certified
// it; those that fit nowhere follow as they came.
func inOrder(certs []*x509.Certificate) (ders [][]byte) {
	left := slices.Clone(certs)
	take := func(i int) *x509.Certificate {
		c := left[i]
		left = slices.Delete(left, i, i+1)
		ders = append(ders, c.Raw)
		return c
	}
	last := slices.IndexFunc(left, func(c *x509.Certificate) bool { // nobody's issuer
		return !slices.ContainsFunc(left, func(o *x509.Certificate) bool {
			return o != c && bytes.Equal(o.RawIssuer, c.RawSubject)
		})
	})
	for last >= 0 {
		c := take(last)
		last = slices.IndexFunc(left, func(o *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, o.RawSubject) })
	}
	for len(left) > 0 {
		take(0)
	}
	return ders
}
