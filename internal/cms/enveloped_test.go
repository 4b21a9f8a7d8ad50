package cms

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
)

var allCiphers = []Cipher{AES128CBC, AES192CBC, AES256CBC, TripleDES, DES, AES128GCM, AES192GCM, AES256GCM}

func TestSCEP_S23_Ciphers(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	for _, c := range allCiphers {
		for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 4096} {
			plain := bytes.Repeat([]byte{byte(n)}, n)
			der, err := Encrypt(t.Context(), nil, plain, ra.cert, c, KeyTransport{})
			if err != nil {
				t.Fatal(err)
			}
			e := mustParseEnveloped(t, der)
			got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{Ciphers: allCiphers})
			if err != nil || !bytes.Equal(got, plain) || e.Cipher != c || e.Transport(ra.cert) != (KeyTransport{}) {
				t.Errorf("%v, %d octets: %x, %v", c, n, got, err)
			}
		}
	}
	// Every form of BER, the implicit string of the content in pieces.
	der := must(Encrypt(t.Context(), OIDSignedData, plaintext, ra.cert, AES256CBC, KeyTransport{}))
	for name, f := range forms {
		e := mustParseEnveloped(t, f.encode(der))
		if got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{}); err != nil || !bytes.Equal(got, plaintext) || !e.Type.Equal(OIDSignedData) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// Weak ciphers only by leave, and no key is asked before (S23).
func TestSCEP_S23_Policy(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	for _, c := range []struct {
		cipher Cipher
		p      Policy
		ok     bool
	}{
		{TripleDES, Policy{}, true},
		{TripleDES, Policy{Ciphers: []Cipher{AES128CBC, AES256CBC}}, false},
		{TripleDES, Policy{Ciphers: []Cipher{}}, false},
		{DES, Policy{}, false},
		{DES, Policy{SHA1: true}, false},
		{DES, Policy{Ciphers: []Cipher{DES}}, true},
		{AES256GCM, Policy{}, true},
	} {
		key := &countingKey{Decrypter: ra.decrypter()}
		_, err := mustParseEnveloped(t, must(Encrypt(t.Context(), nil, plaintext, ra.cert, c.cipher, KeyTransport{}))).Decrypt(ra.cert, key, c.p)
		if c.ok && (err != nil || key.calls != 1) {
			t.Errorf("%v: %v after %d operations", c.cipher, err, key.calls)
		}
		if !c.ok {
			wantFault(t, err, fault.BadAlgorithm, "content_cipher")
			if key.calls != 0 {
				t.Errorf("%v: the key was used %d times", c.cipher, key.calls)
			}
		}
	}
	if Cipher(0).String() != "unknown" || Cipher(99).String() != "unknown" || (Policy{Ciphers: []Cipher{0, 99}}).allowed(99) {
		t.Error("a cipher that is none")
	}
}

type countingKey struct {
	crypto.Decrypter
	calls int
	opts  crypto.DecrypterOpts
}

func (k *countingKey) Decrypt(rand io.Reader, c []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k.calls, k.opts = k.calls+1, opts
	return k.Decrypter.Decrypt(rand, c, opts)
}

func TestSCEP_S26_OAEP(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	all := []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}
	for _, hash := range all {
		for _, mask := range append([]crypto.Hash{0}, all...) {
			e := mustParseEnveloped(t, must(Encrypt(t.Context(), nil, plaintext, ra.cert, AES256CBC, KeyTransport{OAEP: hash, MGF: mask})))
			key := &countingKey{Decrypter: ra.decrypter()}
			got, err := e.Decrypt(ra.cert, key, Policy{})
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Fatalf("%v, %v: %v", hash, mask, err)
			}
			if mask == 0 {
				mask = hash
			}
			o, ok := key.opts.(*rsa.OAEPOptions)
			if !ok || o.Hash != hash || o.MGFHash != mask || e.Transport(ra.cert) != (KeyTransport{hash, mask}) {
				t.Errorf("%v, %v: asked as %+v, %+v", hash, mask, key.opts, e.Transport(ra.cert))
			}
		}
	}
	label := element(tag2.Constructed(), algorithmElement(oidPSpecified, octets([]byte("label"))))
	wrapped := must(rsa.EncryptOAEPWithOptions(rand.Reader, ra.cert.PublicKey.(*rsa.PublicKey), make([]byte, 16), &rsa.OAEPOptions{Hash: crypto.SHA1, MGFHash: crypto.SHA1, Label: []byte("label")}))
	e := mustParseEnveloped(t, envelope{transport: algorithmElement(oidOAEP, element(cbasn1.SEQUENCE, label)), wrapped: wrapped, content: cbcContent(make([]byte, 16), plaintext)}.der())
	if got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{}); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("with a label: %q, %v", got, err)
	}
	if o, ok := readOAEP(nil); !ok || o.Hash != crypto.SHA1 {
		t.Error("left-out parameters are not the defaults")
	}
}

func TestSCEP_S26_OAEPRefuses(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	hash := algorithmElement(hashOID(crypto.SHA256), null)
	for name, params := range map[string][]byte{
		"null":                  null,
		"MD5":                   element(cbasn1.SEQUENCE, element(tag0.Constructed(), algorithmElement(oidMD5, null))),
		"a hash and more":       element(cbasn1.SEQUENCE, element(tag0.Constructed(), hash, null)),
		"a hash that is null":   element(cbasn1.SEQUENCE, element(tag0.Constructed(), null)),
		"a primitive hash":      element(cbasn1.SEQUENCE, element(tag0, hash)),
		"a mask that is null":   element(cbasn1.SEQUENCE, element(tag1.Constructed(), null)),
		"another mask":          element(cbasn1.SEQUENCE, element(tag1.Constructed(), algorithmElement(oidMD5, hash))),
		"a mask without hash":   element(cbasn1.SEQUENCE, element(tag1.Constructed(), algorithmElement(oidMGF1))),
		"a mask of MD5":         element(cbasn1.SEQUENCE, element(tag1.Constructed(), algorithmElement(oidMGF1, algorithmElement(oidMD5)))),
		"another source":        element(cbasn1.SEQUENCE, element(tag2.Constructed(), algorithmElement(oidMD5, octets(nil)))),
		"a source that is null": element(cbasn1.SEQUENCE, element(tag2.Constructed(), null)),
		"a label that is null":  element(cbasn1.SEQUENCE, element(tag2.Constructed(), algorithmElement(oidPSpecified, null))),
		"more fields":           element(cbasn1.SEQUENCE, null),
	} {
		e := mustParseEnveloped(t, envelope{transport: algorithmElement(oidOAEP, params)}.der())
		_, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{})
		if err == nil || fault.Of(err).Kind != fault.BadAlgorithm || fault.Of(err).Reason != "key_transport" {
			t.Errorf("%s: %v", name, err)
		}
		if e.Transport(ra.cert) != (KeyTransport{}) {
			t.Errorf("%s: transport %v", name, e.Transport(ra.cert))
		}
	}
}

// cbcContent encrypts a content as AES-128-CBC with a zero vector.
func cbcContent(key, plain []byte) []byte {
	pad := 16 - len(plain)%16
	padded := append(slices.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	return rawContent(key, padded)
}

func rawContent(key, padded []byte) []byte {
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(must(aes.NewCipher(key)), make([]byte, 16)).CryptBlocks(out, padded)
	return element(tag0, out)
}

// gcmParts encrypts as AES-128-GCM with a zero nonce and a tag of so many octets.
func gcmParts(key, plain, aad []byte, tag int) (content, mac []byte) {
	sealed := must(cipher.NewGCMWithTagSize(must(aes.NewCipher(key)), tag)).Seal(nil, make([]byte, 12), plain, aad)
	return element(tag0, sealed[:len(plain)]), octets(sealed[len(plain):])
}

func gcmParams(nonce int, tag ...byte) []byte {
	params := octets(make([]byte, nonce))
	if len(tag) > 0 {
		params = append(params, element(cbasn1.INTEGER, tag)...)
	}
	return algorithmElement(ciphers[AES128GCM].oid, element(cbasn1.SEQUENCE, params))
}

func TestAuthEnvelopedData(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	key := bytes.Repeat([]byte{7}, 16)
	attributes := [][]byte{attributeElement(oidTransactionID, null), attributeElement(OIDContentType, oidElement(OIDData))}
	for _, c := range []struct {
		name   string
		params []byte
		aad    []byte
		sent   [][]byte
		tag    int
		ok     bool
	}{
		{"default tag", gcmParams(12), nil, nil, 12, true},
		{"13", gcmParams(12, 13), nil, nil, 13, true},
		{"16", gcmParams(12, 16), nil, nil, 16, true},
		{"attributes in any order", gcmParams(12, 16), set(attributes), attributes, 16, true},
		{"attributes unsigned", gcmParams(12, 16), nil, attributes, 16, false},
		{"attributes lost", gcmParams(12, 16), set(attributes), nil, 16, false},
		{"a longer tag than said", gcmParams(12), nil, nil, 16, false},
		{"a shorter tag than said", gcmParams(12, 16), nil, nil, 12, false},
		{"a tag of 4", gcmParams(12, 4), nil, nil, 12, false},
		{"a tag of -1", gcmParams(12, 0xff), nil, nil, 12, false},
		{"a long nonce", gcmParams(16, 16), nil, nil, 16, false},
		{"no nonce", gcmParams(0, 16), nil, nil, 16, false},
	} {
		content, mac := gcmParts(key, plaintext, c.aad, c.tag)
		trailer := [][]byte{mac, element(tag2.Constructed())}
		if c.sent != nil {
			trailer = slices.Insert(trailer, 0, element(tag1.Constructed(), c.sent...))
		}
		e := mustParseEnveloped(t, envelope{outer: OIDAuthEnvelopedData, wrapped: wrapV15(key), cipher: c.params, content: content, trailer: trailer}.der())
		got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{})
		if c.ok && (err != nil || !bytes.Equal(got, plaintext)) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		if !c.ok {
			wantIs(t, err, ErrDecrypt)
		}
	}
	short := envelope{outer: OIDAuthEnvelopedData, wrapped: wrapV15(key), cipher: gcmParams(12, 4), trailer: [][]byte{octets(make([]byte, 4))}}
	_, err := mustParseEnveloped(t, short.der()).Decrypt(ra.cert, ra.decrypter(), Policy{})
	wantIs(t, err, ErrDecrypt)
}

func TestDecryptRefuses(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	content, mac := gcmParts(make([]byte, 16), plaintext, nil, 16)
	for _, c := range []struct {
		name   string
		e      envelope
		kind   fault.Kind
		reason string
	}{
		{"an unknown cipher", envelope{cipher: algorithmElement(asn1.ObjectIdentifier{1, 2, 3})}, fault.BadAlgorithm, "content_cipher"},
		{"RC2", envelope{cipher: algorithmElement(asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 2}, element(cbasn1.SEQUENCE, octets(nil)))}, fault.BadAlgorithm, "content_cipher"},
		{"GCM without its tag", envelope{cipher: gcmParams(12, 16), content: content}, fault.BadAlgorithm, "content_cipher"},
		{"CBC with a tag", envelope{outer: OIDAuthEnvelopedData, trailer: [][]byte{mac}}, fault.BadAlgorithm, "content_cipher"},
		{"an unknown transport", envelope{transport: algorithmElement(oidEC)}, fault.BadAlgorithm, "key_transport"},
		{"somebody else", envelope{to: deviceRSA().cert}, fault.Unverified, "cms_recipient"},
		{"somebody else's key", envelope{name: element(tag0, []byte("key of device"))}, fault.Unverified, "cms_recipient"},
		{"other means", envelope{recipients: [][]byte{element(tag1.Constructed(), null), element(tag3.Constructed())}}, fault.Unverified, "cms_recipient"},
		{"nobody", envelope{recipients: [][]byte{}}, fault.Unverified, "cms_recipient"},
	} {
		e, err := ParseEnvelopedData(c.e.der(), Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		key := &countingKey{Decrypter: ra.decrypter()}
		if _, err = e.Decrypt(ra.cert, key, Policy{}); err == nil || fault.Of(err).Kind != c.kind || fault.Of(err).Reason != c.reason || key.calls != 0 {
			t.Errorf("%s: %v after %d operations", c.name, err, key.calls)
		}
	}
	// However often a message names us, the key is asked once.
	one := envelope{wrapped: make([]byte, 256)}.der()
	r := mustParseEnveloped(t, one).recipients[0]
	entry := element(cbasn1.SEQUENCE, []byte{2, 1, 0}, forgery{id: ra}.name0(), algorithmElement(oidRSA, null), octets(r.key))
	key := &countingKey{Decrypter: ra.decrypter()}
	_, err := mustParseEnveloped(t, envelope{recipients: slices.Repeat([][]byte{entry}, 32)}.der()).Decrypt(ra.cert, key, Policy{})
	wantIs(t, err, ErrDecrypt)
	if key.calls != 1 {
		t.Errorf("the key was used %d times", key.calls)
	}
}

// Names of recipients that clients write in their own way.
func TestSCEP_S8_NamesOfRecipients(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	key := make([]byte, 16)
	for name, id := range map[string][]byte{"anew": renamed(ra.cert), "by key": element(tag0, ra.cert.SubjectKeyId)} {
		e := mustParseEnveloped(t, envelope{name: id, wrapped: wrapV15(key), content: cbcContent(key, plaintext)}.der())
		if got, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{}); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestParseEnvelopedDataRefuses(t *testing.T) {
	t.Parallel()
	good := must(Encrypt(t.Context(), nil, plaintext, raRSA().cert, AES256CBC, KeyTransport{}))
	authentic := must(Encrypt(t.Context(), nil, plaintext, raRSA().cert, AES256GCM, KeyTransport{}))
	mac := octets(make([]byte, 16))
	many := func(n int, e []byte) [][]byte { return slices.Repeat([][]byte{e}, n) }
	for _, c := range []struct {
		name string
		der  []byte
		kind fault.Kind
	}{
		{"nothing", nil, fault.Malformed},
		{"a signed message", forgery{}.der(), fault.Malformed},
		{"something after it", append(slices.Clone(good), 0), fault.Malformed},
		{"something in it", envelope{trailer: [][]byte{null}}.der(), fault.Malformed},
		{"an originator that is null", bytes.Replace(envelope{}.der(), []byte{2, 1, 0, 0x31}, []byte{0x80, 1, 0, 0x31}, 1), fault.Malformed},
		{"attributes that are primitive", envelope{trailer: [][]byte{element(tag1)}}.der(), fault.Malformed},
		{"a recipient that is empty", envelope{recipients: [][]byte{{0x30, 0}}}.der(), fault.Malformed},
		{"a recipient without name", envelope{name: null}.der(), fault.Malformed},
		{"a recipient without transport", envelope{transport: null}.der(), fault.Malformed},
		{"a cipher that is null", envelope{cipher: null}.der(), fault.Malformed},
		{"no vector", envelope{cipher: algorithmElement(ciphers[AES128CBC].oid)}.der(), fault.Malformed},
		{"no parameters of GCM", envelope{outer: OIDAuthEnvelopedData, cipher: algorithmElement(ciphers[AES128GCM].oid), trailer: [][]byte{mac}}.der(), fault.Malformed},
		{"no content", envelope{content: []byte{}}.der(), fault.Malformed},
		{"content of other pieces", envelope{content: element(tag0.Constructed(), null)}.der(), fault.Malformed},
		{"no tag", envelope{outer: OIDAuthEnvelopedData}.der(), fault.Malformed},
		{"33 attributes", envelope{outer: OIDAuthEnvelopedData, trailer: [][]byte{element(tag1.Constructed(), many(33, null)...), mac}}.der(), fault.TooLarge},
		{"33 recipients", envelope{recipients: many(33, element(tag1.Constructed()))}.der(), fault.TooLarge},
	} {
		if e, err := ParseEnvelopedData(c.der, Limits{}); err == nil || fault.Of(err).Kind != c.kind {
			t.Errorf("%s: %+v, %v", c.name, e, err)
		}
	}
	for _, whole := range [][]byte{good, authentic} {
		for i := range whole {
			if _, err := ParseEnvelopedData(whole[:i], Limits{}); err == nil {
				t.Errorf("the first %d octets are enough", i)
			}
		}
	}
}

func TestEncryptRefuses(t *testing.T) {
	t.Parallel()
	ra := raRSA().cert
	_, err := Encrypt(t.Context(), nil, nil, p256().cert, AES128CBC, KeyTransport{})
	wantFault(t, err, fault.BadPublicKey, "key_type")
	small := &x509.Certificate{
		RawIssuer: ra.RawIssuer, SerialNumber: ra.SerialNumber,
		PublicKey: &rsa.PublicKey{N: big.NewInt(1<<62 + 1), E: 65537},
	}
	_, err = Encrypt(t.Context(), nil, nil, small, AES128CBC, KeyTransport{})
	wantFault(t, err, fault.BadPublicKey, "key_size")
	huge := &x509.Certificate{
		RawIssuer: ra.RawIssuer, SerialNumber: ra.SerialNumber,
		PublicKey: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537},
	}
	_, err = Encrypt(t.Context(), nil, nil, huge, AES128CBC, KeyTransport{})
	wantFault(t, err, fault.BadPublicKey, "key_size")
	for _, c := range []struct {
		cipher Cipher
		kt     KeyTransport
	}{{0, KeyTransport{}}, {99, KeyTransport{}}, {AES128CBC, KeyTransport{OAEP: crypto.MD5}}, {AES128CBC, KeyTransport{OAEP: crypto.SHA256, MGF: crypto.MD5}}} {
		if _, err := Encrypt(t.Context(), nil, nil, ra, c.cipher, c.kt); err == nil {
			t.Errorf("%v: encrypted", c)
		}
	}
	if _, err := Encrypt(t.Context(), asn1.ObjectIdentifier{9}, nil, ra, AES128CBC, KeyTransport{}); err == nil {
		t.Error("a content type that is not one")
	}
}

// A key in a token: what it answers when it is away goes to the caller, and
// nothing else does.
func TestDecrypterOfAToken(t *testing.T) {
	t.Parallel()
	ra := raRSA()
	der := must(Encrypt(t.Context(), nil, plaintext, ra.cert, AES128CBC, KeyTransport{}))
	away := fault.New(fault.Unavailable, "the token is away")
	for _, c := range []struct {
		name string
		key  answer
		want error
	}{
		{"away", answer{nil, fmt.Errorf("decrypt: %w", away)}, away},
		{"an error of its own", answer{nil, errToken}, ErrDecrypt},
		{"a key and an error", answer{make([]byte, 16), errToken}, ErrDecrypt},
		{"nothing", answer{nil, nil}, ErrDecrypt},
		{"too little", answer{make([]byte, 15), nil}, ErrDecrypt},
		{"too much", answer{make([]byte, 17), nil}, ErrDecrypt},
	} {
		got, err := mustParseEnveloped(t, der).Decrypt(ra.cert, c.key, Policy{})
		if !errors.Is(err, c.want) && !garbage(got, err) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

type answer struct {
	key []byte
	err error
}

func (answer) Public() crypto.PublicKey { return nil }

func (a answer) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) { return a.key, a.err }

// garbage reports whether a wrong key happened to give a good padding, which
// one in 256 does.
func garbage(got []byte, err error) bool { return err == nil && !bytes.Equal(got, plaintext) }
