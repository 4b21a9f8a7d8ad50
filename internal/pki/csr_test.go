package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
)

// newKey returns a fresh P-256 key.
func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// makeCSR lets the standard library sign a request.
func makeCSR(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestX5_ParseCSR(t *testing.T) {
	t.Parallel()
	u, _ := url.Parse("spiffe://example.org/a")
	key := newKey(t)
	der := makeCSR(t, key, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "a.example.com", Country: []string{"CH"}},
		DNSNames: []string{"a.example.com", "B.example.com", "b.example.com"},
		// the standard library writes IPv4 in four octets
		IPAddresses:     []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("2001:db8::1")},
		EmailAddresses:  []string{"Ann@Example.com"},
		URIs:            []*url.URL{u},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Critical: true, Value: []byte{0x30, 3, 2, 1, 5}}},
	})
	c, err := ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	want := []Identifier{
		{DNS, "a.example.com"}, {DNS, "b.example.com"}, {Email, "Ann@example.com"},
		{IP, "10.0.0.1"}, {IP, "2001:db8::1"}, {URI, "spiffe://example.org/a"},
	}
	if !reflect.DeepEqual(c.Names, want) {
		t.Errorf("names %v, want %v", c.Names, want)
	}
	if c.Subject.CommonName() != "a.example.com" || c.Subject.String() != "CN=a.example.com,C=CH" {
		t.Errorf("subject %s", c.Subject)
	}
	if len(c.Extensions) != 1 || !c.Extensions[0].Critical || c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("extensions %v, algorithm %v", c.Extensions, c.SignatureAlgorithm)
	}
	if h, _ := HashKey(key.Public()); h != c.KeyHash {
		t.Error("key hash differs from HashKey")
	}
}

func TestParseCSR_Algorithms(t *testing.T) {
	t.Parallel()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for _, tc := range []struct {
		key crypto.Signer
		alg x509.SignatureAlgorithm
		ok  bool
	}{
		{r, x509.SHA256WithRSA, true},
		{r, x509.SHA384WithRSA, true},
		{r, x509.SHA512WithRSA, true},
		{r, x509.SHA256WithRSAPSS, true},
		{r, x509.SHA384WithRSAPSS, true},
		{r, x509.SHA512WithRSAPSS, true},
		{r, x509.SHA1WithRSA, false},
		{newKey(t), x509.ECDSAWithSHA512, true},
		{newKey(t), x509.ECDSAWithSHA1, false},
		{ed, x509.PureEd25519, true},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: tc.alg}, tc.key)
		if err != nil {
			t.Logf("%v: the standard library does not sign it any more: %v", tc.alg, err)
			continue
		}
		c, err := ParseCSR(t.Context(), der)
		if tc.ok && (err != nil || c.SignatureAlgorithm != tc.alg) {
			t.Errorf("%v: %v", tc.alg, err)
		}
		if !tc.ok && !(fault.Is(err, fault.BadCSR) && fault.Of(err).Reason == "signature_algorithm") {
			t.Errorf("%v: %v, want badCSR signature_algorithm", tc.alg, err)
		}
	}
}

// rawExt builds an extension whose value is the given DER.
func rawExt(value ...byte) pkix.Extension { return pkix.Extension{Id: OIDSubjectAltName, Value: value} }

func TestA41_BadCSR(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	good := makeCSR(t, key, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}})
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	with := func(ext ...pkix.Extension) []byte {
		return makeCSR(t, key, &x509.CertificateRequest{ExtraExtensions: ext})
	}
	for name, tc := range map[string]struct {
		der    []byte
		reason string
	}{
		"empty":             {nil, "csr_syntax"},
		"trailing data":     {append(append([]byte(nil), good...), 0), "csr_syntax"},
		"cut short":         {good[:len(good)-1], "csr_syntax"},
		"too large":         {make([]byte, maxCSR+1), "csr_size"},
		"signature":         {flipped, "signature"},
		"SAN twice":         {with(rawExt(0x30, 3, 0x82, 1, 'a'), rawExt(0x30, 3, 0x82, 1, 'b')), "csr_attribute"},
		"registeredID":      {with(rawExt(0x30, 4, 0x88, 2, 0x2a, 3)), "csr_attribute"},
		"unknown otherName": {with(rawExt(0x30, 10, 0xa0, 8, 6, 2, 0x2a, 3, 0xa0, 2, 5, 0)), "csr_attribute"},
		"address of 5":      {with(rawExt(0x30, 7, 0x87, 5, 1, 2, 3, 4, 5)), "csr_attribute"},
		"mapped address": {with(rawExt(0x30, 18, 0x87, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1)),
			"csr_attribute"},
		"NUL in a name": {with(rawExt(0x30, 5, 0x82, 3, 'a', 0, 'b')), "csr_attribute"},
		"U-label":       {with(rawExt(0x30, 4, 0x82, 2, 0xc3, 0xa4)), "csr_attribute"},
	} {
		_, err := ParseCSR(t.Context(), tc.der)
		if !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != tc.reason {
			t.Errorf("%s: %v, want badCSR %s", name, err, tc.reason)
		}
	}
}

func TestA41_UnknownKey(t *testing.T) {
	t.Parallel()
	der := makeCSR(t, newKey(t), &x509.CertificateRequest{})
	// id-ecPublicKey becomes an OID that nobody knows.
	at := strings.Index(string(der), "\x2a\x86\x48\xce\x3d\x02\x01")
	der[at+6] = 9
	if _, err := ParseCSR(t.Context(), der); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("%v, want badPublicKey", err)
	}
}

func TestParseCSR_Attributes(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	attribute := func(id asn1.ObjectIdentifier, value any) []byte {
		der, err := asn1.Marshal(struct {
			ID     asn1.ObjectIdentifier
			Values []any `asn1:"set"`
		}{id, []any{value}})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	password := attribute(oidChallengePassword, "secret")
	c, err := ParseCSR(t.Context(), signInfo(t, key, 0, password))
	if err != nil || c.ChallengePassword != "secret" {
		t.Errorf("challenge password %v", err)
	}
	if _, err := ParseCSR(t.Context(), signInfo(t, key, 0, attribute(asn1.ObjectIdentifier{1, 2, 3}, "x"))); err != nil {
		t.Errorf("an attribute that nobody knows: %v", err)
	}
	for name, der := range map[string][]byte{
		"attribute twice": signInfo(t, key, 0, password, password),
		"number password": signInfo(t, key, 0, attribute(oidChallengePassword, 5)),
	} {
		if _, err := ParseCSR(t.Context(), der); !fault.Is(err, fault.BadCSR) {
			t.Errorf("%s: %v, want badCSR", name, err)
		}
	}
}

// signInfo signs a request with an empty subject and the given attributes.
func signInfo(t testing.TB, key *ecdsa.PrivateKey, version int, attributes ...[]byte) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var raws []asn1.RawValue
	for _, a := range attributes {
		raws = append(raws, asn1.RawValue{FullBytes: a})
	}
	info, err := asn1.Marshal(struct {
		Version       int
		Subject, SPKI asn1.RawValue
		Attributes    []asn1.RawValue `asn1:"tag:0,set"`
	}{version, asn1.RawValue{FullBytes: []byte{0x30, 0}}, asn1.RawValue{FullBytes: spki}, raws})
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA256.New()
	h.Write(info)
	sig, err := ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func FuzzParseCSR(f *testing.F) {
	key := newKey(f)
	u, _ := url.Parse("spiffe://example.org/a")
	f.Add(makeCSR(f, key, &x509.CertificateRequest{}))
	f.Add(signInfo(f, key, 2))
	extensions := requestFor(f, "a.example.com")
	f.Add(signInfo(f, key, 0, attributeOf(oidMicrosoftExtension, extensions), attributeOf(oidExtensionRequest, extensions)))
	f.Add(makeCSR(f, key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"a.example.com"}, URIs: []*url.URL{u},
	}))
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCSR(t.Context(), der)
		if err != nil {
			if !fault.Is(err, fault.BadCSR) && !fault.Is(err, fault.BadPublicKey) {
				t.Fatalf("a fault of another kind: %v", err)
			}
			return
		}
		if len(c.Names) > 0 {
			if _, err := MarshalSAN(c.Names); err != nil {
				t.Fatalf("names that were read cannot be written: %v", err)
			}
		}
		asked, err := c.Subject.AskedDER()
		if back, readErr := ParseAskedName(asked); err != nil || readErr != nil || back.Folded() != c.Subject.Folded() {
			t.Fatalf("a subject that was read cannot be kept: %v %v", err, readErr)
		}
		if _, err := c.Subject.DER(); (err == nil) != (c.Subject.Check() == nil) {
			t.Fatalf("a subject that passes Check cannot be written, or the other way: %v", err)
		}
	})
}

func BenchmarkParseCSR(b *testing.B) {
	der := makeCSR(b, newKey(b), &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "a.example.com"}, DNSNames: []string{"a.example.com", "b.example.com"},
	})
	for b.Loop() {
		if _, err := ParseCSR(b.Context(), der); err != nil {
			b.Fatal(err)
		}
	}
}
