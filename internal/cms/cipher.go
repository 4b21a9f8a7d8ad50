package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // devices that know nothing else; DES itself only on request
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Cipher is how a content is encrypted. The zero value is none that is known.
type Cipher uint8

// The ciphers (RFC 3565, RFC 3370, RFC 5084). Those of GCM make an
// AuthEnvelopedData, the others an EnvelopedData.
const (
	_ Cipher = iota
	AES128CBC
	AES192CBC
	AES256CBC
	TripleDES
	DES // single DES: not in any default
	AES128GCM
	AES192GCM
	AES256GCM
)

// ciphers describes each Cipher.
var ciphers = [...]struct {
	name  string
	oid   asn1.ObjectIdentifier
	key   int // octets
	block func(key []byte) (cipher.Block, error)
	gcm   bool
}{
	AES128CBC: {"aes-128-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher, false},
	AES192CBC: {"aes-192-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher, false},
	AES256CBC: {"aes-256-cbc", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher, false},
	TripleDES: {"des-ede3-cbc", asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher, false},
	DES:       {"des-cbc", asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}, 8, des.NewCipher, false},
	AES128GCM: {"aes-128-gcm", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}, 16, aes.NewCipher, true},
	AES192GCM: {"aes-192-gcm", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 26}, 24, aes.NewCipher, true},
	AES256GCM: {"aes-256-gcm", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}, 32, aes.NewCipher, true},
}

const (
	gcmNonce = 12 // octets, as RFC 5084 recommends; no other length is read
	gcmTag   = 16
)

// String returns the name of the cipher in the words of OpenSSL.
func (c Cipher) String() string {
	if c.known() {
		return ciphers[c].name
	}
	return "unknown"
}

func (c Cipher) known() bool { return c > 0 && int(c) < len(ciphers) }

// allowed reports whether p lets a content be encrypted so.
func (p Policy) allowed(c Cipher) bool {
	if p.Ciphers == nil {
		return c.known() && c != DES
	}
	return c.known() && slices.Contains(p.Ciphers, c)
}

// cipherOf returns the cipher that an algorithm names with its initialisation
// vector or nonce, and the length of the tag for GCM. Unknown ones are 0.
func (a algorithm) cipherOf() (c Cipher, iv []byte, tag int, ok bool) {
	for i := range ciphers {
		if i > 0 && ciphers[i].oid.Equal(a.oid) {
			c = Cipher(i)
		}
	}
	params := a.parameters
	switch {
	case c == 0:
		return 0, nil, 0, true
	case !ciphers[c].gcm:
		ok = params.ReadASN1Bytes(&iv, cbasn1.OCTET_STRING) && params.Empty()
		return c, iv, 0, ok
	}
	var fields cryptobyte.String
	tag = 12 // RFC 5084, section 3.2
	ok = params.ReadASN1(&fields, cbasn1.SEQUENCE) && params.Empty() &&
		fields.ReadASN1Bytes(&iv, cbasn1.OCTET_STRING) &&
		(fields.Empty() || fields.ReadASN1Integer(&tag)) && fields.Empty()
	return c, iv, tag, ok
}

// add writes the AlgorithmIdentifier of the cipher.
func (c Cipher) add(b *cryptobyte.Builder, iv []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(ciphers[c].oid)
		if !ciphers[c].gcm {
			b.AddASN1OctetString(iv)
			return
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1OctetString(iv)
			b.AddASN1Int64(gcmTag)
		})
	})
}

// newKey returns a random key of the cipher.
func (c Cipher) newKey() []byte {
	key := make([]byte, ciphers[c].key)
	rand.Read(key) // never fails
	if c == DES || c == TripleDES {
		for i, o := range key { // odd parity, which some tokens insist on
			key[i] = o ^ byte(bits.OnesCount8(o)&1^1)
		}
	}
	return key
}

// seal encrypts a content; mac is nil but for GCM, which authenticates aad too.
func (c Cipher) seal(key, plain, aad []byte) (iv, encrypted, mac []byte, err error) {
	block, err := ciphers[c].block(key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%v: %w", c, err)
	}
	if ciphers[c].gcm {
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%v: %w", c, err)
		}
		iv = make([]byte, gcmNonce)
		rand.Read(iv)
		sealed := aead.Seal(nil, iv, plain, aad)
		return iv, sealed[:len(plain)], sealed[len(plain):], nil
	}
	size := block.BlockSize()
	iv = make([]byte, size)
	rand.Read(iv)
	pad := size - len(plain)%size
	padded := make([]byte, len(plain)+pad)
	copy(padded, plain)
	for i := len(plain); i < len(padded); i++ {
		padded[i] = byte(pad)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	return iv, padded, nil, nil
}

// openCBC decrypts a content and takes the padding off. What it does after the
// lengths are seen to be right takes the same time whether the padding is or not.
func openCBC(block cipher.Block, iv, encrypted []byte) ([]byte, bool) {
	size := block.BlockSize()
	if len(iv) != size || len(encrypted) == 0 || len(encrypted)%size != 0 {
		return nil, false
	}
	plain := make([]byte, len(encrypted))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, encrypted)
	pad, ok := padding(plain[len(plain)-size:])
	if ok != 1 {
		return nil, false
	}
	return plain[:len(plain)-pad], true
}

// padding returns the length of the padding at the end of the last block
// (RFC 5652, section 6.3) and 1, or a meaningless length and 0, in constant time.
func padding(block []byte) (n, ok int) {
	n = int(block[len(block)-1])
	ok = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, len(block))
	for i, o := range block {
		fromEnd := len(block) - i
		inPadding := subtle.ConstantTimeLessOrEq(fromEnd, n)
		right := subtle.ConstantTimeByteEq(o, byte(n))
		ok &= right | (inPadding ^ 1)
	}
	return n, ok
}

// openGCM decrypts and checks a content (RFC 5084).
func openGCM(block cipher.Block, nonce, encrypted, mac, aad []byte, tag int) ([]byte, bool) {
	if len(nonce) != gcmNonce || len(mac) != tag {
		return nil, false
	}
	aead, err := cipher.NewGCMWithTagSize(block, tag)
	if err != nil {
		return nil, false
	}
	sealed := make([]byte, 0, len(encrypted)+len(mac))
	sealed = append(append(sealed, encrypted...), mac...)
	plain, err := aead.Open(sealed[:0], nonce, sealed, aad)
	return plain, err == nil
}
