package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func TestForgeryIsRight(t *testing.T) {
	t.Parallel()
	der := forgery{}.der()
	s := mustParseSigned(t, der)
	if _, err := s.Verify(t.Context(), Policy{}); err != nil {
		t.Fatal(err)
	}
	same := mustSign(t, Message{Content: []byte("content")}, Signer{Certificate: deviceRSA().cert, Key: deviceRSA().key})
	if again := mustParseSigned(t, same); !bytes.Equal(again.Signers[0].signature, s.Signers[0].signature) {
		t.Error("Sign signs something else than the forger")
	}
}

func TestSCEP_S13_SignAndVerify(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]identity{"rsa": deviceRSA(), "p256": p256(), "p384": p384(), "p521": p521(), "ed25519": edwards()} {
		for _, hash := range []crypto.Hash{0, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			for _, pss := range []bool{false, true} {
				der := mustSign(t, Message{Content: plaintext, Certificates: []*x509.Certificate{raRSA().cert}}, Signer{
					Certificate: id.cert, Key: id.key, Hash: hash, PSS: pss,
					Attributes: []Attribute{attribute(oidTransactionID, "zz"), attribute(oidMessageType, "19")},
				})
				s := mustParseSigned(t, der)
				signers, err := s.Verify(t.Context(), Policy{})
				if err != nil || len(signers) != 1 || !signers[0].Equal(id.cert) {
					t.Fatalf("%s %v: %v, %v", name, hash, signers, err)
				}
				// S15: the signer's certificate is in the message, first.
				if !s.Certificates[0].Equal(id.cert) || !s.Certificates[1].Equal(raRSA().cert) {
					t.Errorf("%s: certificates %v", name, s.Certificates)
				}
				info := s.Signers[0]
				if string(info.Value(oidTransactionID)) != "\x13\x02zz" || info.Value(oidMessageType) == nil || len(info.Attributes) != 4 ||
					!info.SigningTime().IsZero() || info.Name.Serial.Cmp(id.cert.SerialNumber) != 0 || info.Value(asn1.ObjectIdentifier{1, 2}) != nil {
					t.Errorf("%s: %+v", name, info)
				}
			}
		}
	}
}

// The digest of the request tells how to answer; a nil content and an empty
// one are not the same (S17).
func TestSCEP_S17_AbsentContent(t *testing.T) {
	t.Parallel()
	id := deviceRSA()
	for _, content := range [][]byte{nil, {}, {1}} {
		s := mustParseSigned(t, mustSign(t, Message{Content: content}, Signer{Certificate: id.cert, Key: id.key}))
		if _, err := s.Verify(t.Context(), Policy{}); err != nil || (s.Content == nil) != (content == nil) || !bytes.Equal(s.Content, content) {
			t.Errorf("%v: %v, %v", content, s.Content, err)
		}
	}
}

func TestSCEP_S16_OrderOfCertificates(t *testing.T) {
	t.Parallel()
	certs := []*x509.Certificate{raRSA().cert, edwards().cert, deviceRSA().cert, p256().cert}
	s := mustParseSigned(t, mustSign(t, Message{Certificates: certs, CRLs: [][]byte{newCRL(t)}}, Signer{Certificate: deviceRSA().cert, Key: deviceRSA().key}))
	bag := mustParseSigned(t, must(Degenerate(certs, s.CRLs)))
	for _, got := range []*SignedData{s, bag} {
		if !slices.EqualFunc(got.Certificates, certs, (*x509.Certificate).Equal) || len(got.RawCertificates) != 4 || len(got.CRLs) != 1 {
			t.Errorf("%v", got)
		}
		if _, err := x509.ParseRevocationList(got.CRLs[0]); err != nil {
			t.Error(err)
		}
	}
	_, err := bag.Verify(t.Context(), Policy{})
	wantFault(t, err, fault.Unverified, "cms_unsigned")
	if empty := mustParseSigned(t, must(Degenerate(nil, nil))); len(empty.Certificates)+len(empty.CRLs) != 0 {
		t.Errorf("%v", empty)
	}
}

// S14: every form of BER, attributes in any order, whatever order was signed,
// signing times and certificates of wrong clocks.
func TestSCEP_S14_Tolerance(t *testing.T) {
	t.Parallel()
	id := deviceRSA()
	der := mustSign(t, Message{Content: bytes.Repeat(plaintext, 50)}, Signer{
		Certificate: id.cert, Key: id.key, SigningTime: time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC),
		Attributes: []Attribute{attribute(oidTransactionID, "1"), attribute(oidMessageType, "b", "a", "c")},
	})
	messages := map[string][]byte{"der": der}
	for name, f := range forms {
		messages[name] = f.encode(der)
	}
	two := attributeElement(oidTransactionID, octets([]byte("b")), octets([]byte("a")))
	backwards := append([][]byte{two}, usual("content")...)
	slices.Reverse(backwards)
	inOrder := append([][]byte{attributeElement(oidTransactionID, octets([]byte("a")), octets([]byte("b")))}, usual("content")...)
	messages["order received, DER signed"] = forgery{attributes: backwards, signed: set(inOrder)}.der()
	messages["order received signed"] = forgery{attributes: backwards, signed: concat(backwards)}.der()
	sha1 := algorithmElement(hashOID(crypto.SHA256), null)
	messages["null in the digest"] = forgery{digest: sha1}.der()
	messages["named by the signature"] = forgery{algorithm: algorithmElement(hashes[1].rsa, null)}.der()
	messages["no null in the signature"] = forgery{algorithm: algorithmElement(oidRSA)}.der()
	messages["an unreadable certificate"] = forgery{certs: [][]byte{{0x30, 0}, element(tag1.Constructed(), null), id.cert.Raw}}.der()
	messages["by key identifier"] = forgery{name: element(tag0, id.cert.SubjectKeyId)}.der()
	messages["the name written anew"] = forgery{name: renamed(id.cert)}.der()
	for name, m := range messages {
		s := mustParseSigned(t, m)
		if _, err := s.Verify(t.Context(), Policy{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := mustParseSigned(t, der).Signers[0].SigningTime(); got.Year() != 2060 {
		t.Errorf("signing time %v", got)
	}
}

// renamed returns the name of a certificate with the issuer's texts in another
// string type.
func renamed(c *x509.Certificate) []byte {
	issuer := bytes.ReplaceAll(c.RawIssuer, []byte{0x13}, []byte{0x0c})
	if bytes.Equal(issuer, c.RawIssuer) {
		panic("no PrintableString in the name")
	}
	return element(cbasn1.SEQUENCE, issuer, append([]byte{2, byte(len(c.SerialNumber.Bytes()))}, c.SerialNumber.Bytes()...))
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	id := deviceRSA()
	digest := usual("content")[1]
	typ := usual("content")[0]
	pssParams := func(hash, mask crypto.Hash) []byte {
		b := element(cbasn1.SEQUENCE, element(tag0.Constructed(), algorithmElement(hashOID(hash))),
			element(tag1.Constructed(), algorithmElement(oidMGF1, algorithmElement(hashOID(mask)))))
		return algorithmElement(oidPSS, b)
	}
	for _, c := range []struct {
		name   string
		f      forgery
		kind   fault.Kind
		reason string
	}{
		{"other content", forgery{content: octets([]byte("contend"))}, fault.Unverified, "cms_signature"},
		{"other attributes signed", forgery{signed: set(usual("x"))}, fault.Unverified, "cms_signature"},
		{"bare content signed", forgery{signed: []byte("content")}, fault.Unverified, "cms_signature"},
		{"no digest", forgery{attributes: [][]byte{typ}}, fault.Malformed, "cms_syntax"},
		{"two digests", forgery{attributes: [][]byte{typ, attributeElement(OIDMessageDigest, octets(nil), octets([]byte{1}))}}, fault.Malformed, "cms_syntax"},
		{"a digest that is a number", forgery{attributes: [][]byte{typ, attributeElement(OIDMessageDigest, []byte{2, 1, 1})}}, fault.Malformed, "cms_syntax"},
		{"no type", forgery{attributes: [][]byte{digest}}, fault.Malformed, "cms_syntax"},
		{"no attributes", forgery{attributes: [][]byte{}, signed: []byte("content")}, fault.Malformed, "cms_syntax"},
		{"another type", forgery{attributes: [][]byte{attributeElement(OIDContentType, oidElement(OIDSignedData)), digest}}, fault.Unverified, "cms_signature"},
		{"an unknown digest", forgery{digest: algorithmElement(asn1.ObjectIdentifier{1, 2, 3})}, fault.BadAlgorithm, "signature_algorithm"},
		{"a digest with parameters", forgery{digest: algorithmElement(hashOID(crypto.SHA256), []byte{2, 1, 1})}, fault.BadAlgorithm, "signature_algorithm"},
		{"an unknown signature", forgery{algorithm: algorithmElement(asn1.ObjectIdentifier{1, 2, 3})}, fault.BadAlgorithm, "signature_algorithm"},
		{"another hash in the signature", forgery{algorithm: algorithmElement(hashes[2].rsa, null)}, fault.BadAlgorithm, "signature_algorithm"},
		{"MD5 in the signature", forgery{algorithm: algorithmElement(oidRSAWithMD5, null)}, fault.BadAlgorithm, "digest_md5"},
		{"MD5", forgery{digest: algorithmElement(oidMD5, null)}, fault.BadAlgorithm, "digest_md5"},
		{"SHA-1", forgery{digest: algorithmElement(oidSHA1)}, fault.BadAlgorithm, "digest_sha1"},
		{"PSS without parameters", forgery{algorithm: algorithmElement(oidPSS)}, fault.BadAlgorithm, "signature_algorithm"},
		{"PSS of defaults", forgery{algorithm: algorithmElement(oidPSS, []byte{0x30, 0})}, fault.BadAlgorithm, "signature_algorithm"},
		{"PSS with two hashes", forgery{algorithm: pssParams(crypto.SHA256, crypto.SHA512)}, fault.BadAlgorithm, "signature_algorithm"},
		{"PSS with another hash", forgery{algorithm: pssParams(crypto.SHA512, crypto.SHA512)}, fault.BadAlgorithm, "signature_algorithm"},
		{"PSS that is not", forgery{algorithm: pssParams(crypto.SHA256, crypto.SHA256)}, fault.Unverified, "cms_signature"},
		{"ECDSA by RSA", forgery{algorithm: algorithmElement(hashes[1].ecdsa)}, fault.Unverified, "cms_signature"},
		{"Ed25519 by RSA", forgery{algorithm: algorithmElement(oidEd25519)}, fault.Unverified, "cms_signature"},
		{"RSA by ECDSA", forgery{id: p256()}, fault.Unverified, "cms_signature"},
		{"RSA by Ed25519", forgery{id: identity{anySigner{edwards().key}, edwards().cert}}, fault.Unverified, "cms_signature"},
		{"nobody's certificate", forgery{certs: [][]byte{}}, fault.Unverified, "cms_signer"},
		{"somebody else's certificate", forgery{certs: [][]byte{raRSA().cert.Raw}}, fault.Unverified, "cms_signer"},
		{"an empty key identifier", forgery{name: element(tag0)}, fault.Unverified, "cms_signer"},
		{"another serial number", forgery{name: element(cbasn1.SEQUENCE, id.cert.RawIssuer, []byte{2, 1, 78})}, fault.Unverified, "cms_signer"},
		{"another issuer", forgery{name: element(cbasn1.SEQUENCE, raRSA().cert.RawIssuer, []byte{2, 1, 77})}, fault.Unverified, "cms_signer"},
		{"an issuer that is no name", forgery{name: element(cbasn1.SEQUENCE, []byte{0x30, 2, 5, 0}, []byte{2, 1, 77})}, fault.Unverified, "cms_signer"},
	} {
		s, err := ParseSignedData(c.f.der(), Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if _, err = s.Verify(t.Context(), Policy{}); err == nil || fault.Of(err).Kind != c.kind || fault.Of(err).Reason != c.reason {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// anySigner signs with Ed25519 whatever is asked.
type anySigner struct{ crypto.Signer }

func (s anySigner) Sign(rand io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(rand, digest, crypto.Hash(0))
}

// A key without a certificate, as of a CMC client that has none yet.
func TestVerifyKey(t *testing.T) {
	t.Parallel()
	id := deviceRSA()
	bare := mustParseSigned(t, forgery{certs: [][]byte{}, name: element(tag0, []byte("any"))}.der())
	if err := bare.VerifyKey(t.Context(), bare.Signers[0], id.key.Public(), Policy{}); err != nil {
		t.Error(err)
	}
	wantFault(t, bare.VerifyKey(t.Context(), bare.Signers[0], raRSA().key.Public(), Policy{}), fault.Unverified, "cms_signature")
	wantFault(t, bare.VerifyKey(t.Context(), bare.Signers[0], nil, Policy{}), fault.BadPublicKey, "key_type")
	other := mustParseSigned(t, forgery{content: octets(nil)}.der())
	wantFault(t, other.VerifyKey(t.Context(), other.Signers[0], id.key.Public(), Policy{}), fault.Unverified, "cms_signature")
	old := mustParseSigned(t, forgery{digest: algorithmElement(oidMD5, null)}.der())
	wantIs(t, old.VerifyKey(t.Context(), old.Signers[0], id.key.Public(), Policy{}), ErrMD5)
}

func TestVerifyBoundsTheWork(t *testing.T) {
	t.Parallel()
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
	err := scheme{kind: schemeRSA, hash: crypto.SHA256}.verifyAny(t.Context(), huge, [][]byte{nil}, make([]byte, 1025))
	wantFault(t, err, fault.BadPublicKey, "key_size")
	// Certificates under one name are tried one after the other, a few of them.
	var certs [][]byte
	for range maxCandidates {
		certs = append(certs, newIdentity(p256().key, "device", 77).cert.Raw)
	}
	own := deviceRSA().cert.Raw
	s := mustParseSigned(t, forgery{certs: append(slices.Clone(certs[1:]), own, own)}.der())
	if _, err := s.Verify(t.Context(), Policy{}); err != nil {
		t.Errorf("among %d: %v", maxCandidates, err)
	}
	s = mustParseSigned(t, forgery{certs: append(slices.Clone(certs), own)}.der())
	_, err = s.Verify(t.Context(), Policy{})
	wantFault(t, err, fault.Unverified, "cms_signature")
	s = mustParseSigned(t, forgery{signers: 4}.der())
	if signers, err := s.Verify(t.Context(), Policy{}); err != nil || len(signers) != 4 {
		t.Errorf("four signers: %v, %v", signers, err)
	}
}

func TestParseSignedDataRefuses(t *testing.T) {
	t.Parallel()
	many := func(n int, e []byte) [][]byte { return slices.Repeat([][]byte{e}, n) }
	good := forgery{}.der()
	var numbered [][]byte
	for i := range 40 {
		numbered = append(numbered, attributeElement(asn1.ObjectIdentifier{1, 2, i}, null))
	}
	for _, c := range []struct {
		name string
		der  []byte
		kind fault.Kind
	}{
		{"nothing", nil, fault.Malformed},
		{"a certificate", deviceRSA().cert.Raw, fault.Malformed},
		{"an envelope", envelope{}.der(), fault.Malformed},
		{"something after it", append(slices.Clone(good), '\n'), fault.Malformed},
		{"content that is a sequence", forgery{content: []byte{0x30, 0}}.der(), fault.Malformed},
		{"two contents", forgery{content: []byte{4, 0, 4, 0}}.der(), fault.Malformed},
		{"an attribute twice", forgery{attributes: append(usual("content"), usual("content")[0])}.der(), fault.Malformed},
		{"an attribute without values", forgery{attributes: [][]byte{element(cbasn1.SEQUENCE, oidElement(OIDData))}}.der(), fault.Malformed},
		{"an attribute that is null", forgery{attributes: [][]byte{null}}.der(), fault.Malformed},
		{"a name that is null", forgery{name: null}.der(), fault.Malformed},
		{"a digest that is null", forgery{digest: null}.der(), fault.Malformed},
		{"a signature that is null", forgery{algorithm: null}.der(), fault.Malformed},
		{"33 certificates", forgery{certs: many(33, deviceRSA().cert.Raw)}.der(), fault.TooLarge},
		{"33 CRLs", forgery{crls: many(33, []byte{0x30, 0})}.der(), fault.TooLarge},
		{"33 attributes", forgery{attributes: numbered[:33]}.der(), fault.TooLarge},
		{"33 values", forgery{attributes: [][]byte{attributeElement(OIDData, many(33, null)...)}}.der(), fault.TooLarge},
		{"5 signers", forgery{signers: 5}.der(), fault.TooLarge},
		{"66 KiB", forgery{content: octets(make([]byte, 66<<10))}.der(), fault.TooLarge},
	} {
		if s, err := ParseSignedData(c.der, Limits{}); err == nil || fault.Of(err).Kind != c.kind {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
	if _, err := ParseSignedData(forgery{attributes: numbered, signers: 5, crls: many(33, []byte{0x30, 0})}.der(), Limits{Entries: 40, Signers: 5}); err != nil {
		t.Errorf("with wider limits: %v", err)
	}
	for i := range good {
		if _, err := ParseSignedData(good[:i], Limits{}); err == nil {
			t.Errorf("the first %d octets are enough", i)
		}
	}
}

// An octet changed anywhere leaves either an error or the same signed text.
func TestChangedOctets(t *testing.T) {
	t.Parallel()
	good := mustSign(t, Message{Content: plaintext}, Signer{Certificate: p256().cert, Key: p256().key, Attributes: []Attribute{attribute(oidTransactionID, "1")}})
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := slices.Clone(good)
			bad[i] ^= bit
			s, err := ParseSignedData(bad, Limits{})
			if err != nil {
				continue
			}
			if signers, err := s.Verify(t.Context(), Policy{}); err == nil {
				if !bytes.Equal(s.Content, plaintext) || string(s.Signers[0].Value(oidTransactionID)) != "\x13\x011" || !signers[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(p256().key.Public()) {
					t.Fatalf("octet %d changed by %x: it verifies as %+v", i, bit, s)
				}
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	id := deviceRSA()
	long := Attribute{Type: oidMessageType, Values: [][]byte{append(slices.Clone(null), 0)}}
	for name, s := range map[string]Signer{
		"nothing":                  {},
		"no certificate":           {Key: id.key},
		"no key":                   {Certificate: id.cert},
		"another key":              {Certificate: id.cert, Key: raRSA().key},
		"a key of another kind":    {Certificate: id.cert, Key: p256().key},
		"an unknown kind of key":   {Certificate: id.cert, Key: strangeKey{}},
		"SHA-1 without leave":      {Certificate: id.cert, Key: id.key, Hash: crypto.SHA1},
		"MD5":                      {Certificate: id.cert, Key: id.key, Hash: crypto.MD5, SHA1: true},
		"SHA-224":                  {Certificate: id.cert, Key: id.key, Hash: crypto.SHA224},
		"an attribute twice":       {Certificate: id.cert, Key: id.key, Attributes: []Attribute{attribute(oidMessageType, "1"), attribute(oidMessageType, "1")}},
		"our attribute":            {Certificate: id.cert, Key: id.key, Attributes: []Attribute{attribute(OIDMessageDigest, "1")}},
		"an attribute, no value":   {Certificate: id.cert, Key: id.key, Attributes: []Attribute{{Type: oidMessageType}}},
		"an attribute, no type":    {Certificate: id.cert, Key: id.key, Attributes: []Attribute{{Values: [][]byte{null}}}},
		"a value with a tail":      {Certificate: id.cert, Key: id.key, Attributes: []Attribute{long}},
		"a time that has no name":  {Certificate: id.cert, Key: id.key, SigningTime: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"a token that is not here": {Certificate: id.cert, Key: brokenKey{id.key}},
	} {
		if _, err := Sign(Message{}, s); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := Sign(Message{Type: asn1.ObjectIdentifier{9}}, Signer{Certificate: id.cert, Key: id.key}); err == nil {
		t.Error("a content type that is not one")
	}
	_, err := Sign(Message{}, Signer{Certificate: id.cert, Key: brokenKey{id.key}})
	if !errors.Is(err, errToken) {
		t.Errorf("the key's error is lost: %v", err)
	}
}

var errToken = errors.New("the token is not here")

type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errToken }

type strangeKey struct{ crypto.Signer }

func (strangeKey) Public() crypto.PublicKey { return "a key" }

// A certificate whose serial number and name are the signer's, but which
// crypto/x509 refuses, is not lost to those who look at the octets.
func TestUnreadableCertificatesAreKept(t *testing.T) {
	t.Parallel()
	s := mustParseSigned(t, forgery{certs: [][]byte{{0x30, 0}, deviceRSA().cert.Raw}}.der())
	if len(s.RawCertificates) != 2 || len(s.Certificates) != 1 {
		t.Errorf("%d raw, %d read", len(s.RawCertificates), len(s.Certificates))
	}
	if (Name{Serial: big.NewInt(1)}).Matches(&x509.Certificate{}) {
		t.Error("a certificate without serial number has one")
	}
}
