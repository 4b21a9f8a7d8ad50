package cms

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// spoil returns a certificate of the identity's key that only carries it, with the
// serial number's octets; crypto/x509 reads nothing of the kind. Its signature is none.
func spoil(id identity, serial []byte) identity {
	var issuer cryptobyte.Builder
	issuer.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			b.AddBytes(element(cbasn1.SEQUENCE, []byte{6, 3, 0x55, 4, 3}, element(cbasn1.PrintableString, []byte("#1"))))
		})
	})
	name := issuer.BytesOrPanic()
	date := element(cbasn1.UTCTime, []byte("soon"))
	extension := element(cbasn1.SEQUENCE, []byte{6, 3, 0x55, 0x1d, 15}, octets([]byte("?")))
	algorithm := algorithmElement(oidRSAWithMD5)
	tbs := element(cbasn1.SEQUENCE, element(tag0.Constructed(), []byte{2, 1, 9}), element(cbasn1.INTEGER, serial), algorithm, name,
		element(cbasn1.SEQUENCE, date, date), element(cbasn1.SEQUENCE), id.cert.RawSubjectPublicKeyInfo,
		element(tag3.Constructed(), element(cbasn1.SEQUENCE, extension, extension)))
	number := new(big.Int)
	s := cryptobyte.String(element(cbasn1.INTEGER, serial))
	readSerial(&s, number)
	id.cert = &x509.Certificate{
		Raw:       element(cbasn1.SEQUENCE, tbs, algorithm, element(cbasn1.BIT_STRING, []byte{0})),
		RawIssuer: name, SerialNumber: number, PublicKey: id.cert.PublicKey, RawSubjectPublicKeyInfo: id.cert.RawSubjectPublicKeyInfo,
	}
	return id
}

// TestFR3_BareSigner: a certificate that only carries the signer's key is read for
// nothing else, where the caller says so.
func TestFR3_BareSigner(t *testing.T) {
	t.Parallel()
	for _, serial := range [][]byte{{0xfe}, {0}, {1}, {0, 0, 1}, {0xff, 0xff, 2}, bytes.Repeat([]byte{0x7f}, maxSerial)} {
		id := spoil(deviceRSA(), serial)
		name := element(cbasn1.SEQUENCE, id.cert.RawIssuer, element(cbasn1.INTEGER, serial))
		s := mustParseSigned(t, forgery{id: id, certs: [][]byte{id.cert.Raw}, name: name}.der())
		if _, err := x509.ParseCertificate(id.cert.Raw); err == nil || len(s.Certificates) != 0 {
			t.Fatal("crypto/x509 reads it")
		}
		signers, err := s.Verify(t.Context(), Policy{Bare: true})
		if err != nil {
			t.Errorf("%x: %v", serial, err)
			continue
		}
		if c := signers[0]; !bytes.Equal(c.Raw, id.cert.Raw) || c.SerialNumber.Cmp(id.cert.SerialNumber) != 0 || !c.NotAfter.IsZero() {
			t.Errorf("%x: %+v", serial, c)
		}
		if _, err := s.Verify(t.Context(), Policy{}); err == nil {
			t.Errorf("%x: taken where certificates are judged", serial)
		}
	}
	other := spoil(raRSA(), []byte{0xfe})
	s := mustParseSigned(t, forgery{id: spoil(deviceRSA(), []byte{0xfe}), certs: [][]byte{other.cert.Raw}}.der())
	if _, err := s.Verify(t.Context(), Policy{Bare: true}); err == nil {
		t.Error("verified by another key")
	}
	for _, serial := range [][]byte{{}, make([]byte, maxSerial+1)} {
		if _, ok := readBare(spoil(deviceRSA(), serial).cert.Raw); ok {
			t.Errorf("a serial number of %d octets", len(serial))
		}
	}
	if _, ok := readBare(append(slices.Clone(other.cert.Raw), 0)); ok {
		t.Error("something follows the certificate")
	}
}

// FuzzReadBare: what crypto/x509 reads is read as it reads it.
func FuzzReadBare(f *testing.F) {
	f.Add(p256().cert.Raw)
	f.Add(spoil(p256(), []byte{0xfe}).cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		got, ok := readBare(der)
		if ok && (got.SerialNumber == nil || got.PublicKey == nil || len(got.RawIssuer) == 0 || !bytes.Equal(got.Raw, der)) {
			t.Fatalf("%+v", got)
		}
		want, err := x509.ParseCertificate(der)
		if err != nil || len(want.SerialNumber.Bytes()) >= maxSerial {
			return
		}
		if ok != (want.PublicKey != nil) || ok && (got.SerialNumber.Cmp(want.SerialNumber) != 0 || !bytes.Equal(got.RawIssuer, want.RawIssuer) ||
			!bytes.Equal(got.RawSubjectPublicKeyInfo, want.RawSubjectPublicKeyInfo)) {
			t.Fatalf("%x: read %v as %+v, want %+v", der, ok, got, want)
		}
	})
}
