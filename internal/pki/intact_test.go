package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// withMD5 signs a request anew as old devices do.
func withMD5(t testing.TB, key *rsa.PrivateKey, csr []byte) []byte {
	t.Helper()
	p, ok := splitCSR(csr)
	if !ok {
		t.Fatal("no request")
	}
	digest := md5.Sum(p.info)
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.MD5, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(p.info)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(outdatedAlgorithms[0].oid)
			b.AddASN1NULL()
		})
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

func intact(t *testing.T, der []byte) bool {
	t.Helper()
	ok, err := IntactCSR(t.Context(), der)
	if err != nil {
		t.Error(err)
	}
	return ok
}

func TestFR4_IntactCSR(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := makeCSR(t, key, &x509.CertificateRequest{})
	all := map[string][]byte{
		"RSA":       good,
		"ECDSA":     makeCSR(t, ec, &x509.CertificateRequest{}),
		"SHA-1":     makeCSR(t, key, &x509.CertificateRequest{SignatureAlgorithm: x509.SHA1WithRSA}),
		"MD5":       withMD5(t, key, good),
		"a subject": makeCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: strings.Repeat("x", 70)}}),
		"a name":    makeCSR(t, key, &x509.CertificateRequest{DNSNames: []string{"no name"}}),
		"a version": signInfo(t, ec, 1<<40),
	}
	for name, der := range all {
		if !intact(t, der) {
			t.Errorf("%s: not intact", name)
		}
		if intact(t, append(slices.Clone(der), '\n')) || intact(t, der[:len(der)-1]) ||
			intact(t, append([]byte{}, der[1:]...)) {
			t.Errorf("%s: intact with more or less of it", name)
		}
		for _, at := range []int{12, len(der) / 2, len(der) - 1} {
			changed := slices.Clone(der)
			changed[at] ^= 1
			if intact(t, changed) {
				t.Errorf("%s: intact, changed at %d", name, at)
			}
		}
	}
}

func FuzzIntactCSR(f *testing.F) {
	key := newKey(f)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		f.Fatal(err)
	}
	good := makeCSR(f, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}})
	f.Add(good)
	f.Add(append(slices.Clone(good), '\n'))
	f.Add(withMD5(f, weak, makeCSR(f, weak, &x509.CertificateRequest{})))
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := ParseLegacyCSR(t.Context(), der); err == nil && !intact(t, der) {
			t.Error("a request that is taken is not intact")
		}
		if intact(t, der) && intact(t, append(slices.Clone(der), 0)) {
			t.Error("intact with an octet more")
		}
	})
}
