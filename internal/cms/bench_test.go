package cms

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
)

// scepRequest is a typical PKCSReq: a CSR's worth of octets encrypted to the RA,
// signed by the device with the attributes of SCEP.
func scepRequest(b *testing.B) []byte {
	b.Helper()
	id := deviceRSA()
	inner := must(Encrypt(b.Context(), nil, bytes.Repeat([]byte{1}, 1000), raRSA().cert, AES256CBC, KeyTransport{}))
	return mustSign(b, Message{Content: inner}, Signer{Certificate: id.cert, Key: id.key, Attributes: []Attribute{
		attribute(oidMessageType, "19"), attribute(oidTransactionID, "0123456789abcdef0123456789abcdef"),
		attribute(append(oidMessageType[:8:8], 9, 5), "sixteen octets.."),
	}})
}

// BenchmarkRequest reads, verifies and decrypts; BenchmarkRequestRSA is the
// share of the raw RSA operations in it.
func BenchmarkRequest(b *testing.B) {
	message := scepRequest(b)
	ra := raRSA()
	b.ReportAllocs()
	for b.Loop() {
		s, err := ParseSignedData(message, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Verify(b.Context(), Policy{}); err != nil {
			b.Fatal(err)
		}
		e, err := ParseEnvelopedData(s.Content, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Decrypt(ra.cert, ra.decrypter(), Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestRSA(b *testing.B) {
	ra, device := raRSA(), deviceRSA()
	wrapped := wrapV15(make([]byte, 32))
	digest := sum(crypto.SHA256, nil)
	signature := must(device.key.Sign(rand.Reader, digest, crypto.SHA256))
	b.ReportAllocs()
	for b.Loop() {
		if rsa.VerifyPKCS1v15(device.cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest, signature) != nil {
			b.Fatal("it does not verify")
		}
		if _, err := ra.decrypter().Decrypt(rand.Reader, wrapped, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 32}); err != nil { //nolint:staticcheck // what clients write
			b.Fatal(err)
		}
	}
}

// BenchmarkReply makes the answer: certificates encrypted to the device, signed
// by the RA; BenchmarkReplyRSA is the share of the raw RSA operations in it.
func BenchmarkReply(b *testing.B) {
	ra, device := raRSA(), deviceRSA()
	b.ReportAllocs()
	for b.Loop() {
		bag, err := Degenerate([]*x509.Certificate{device.cert}, nil)
		if err != nil {
			b.Fatal(err)
		}
		inner, err := Encrypt(b.Context(), nil, bag, device.cert, AES256CBC, KeyTransport{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Sign(Message{Content: inner}, Signer{Certificate: ra.cert, Key: ra.key, Attributes: []Attribute{attribute(oidMessageType, "3")}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplyRSA(b *testing.B) {
	ra, device := raRSA(), deviceRSA()
	digest := sum(crypto.SHA256, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rsa.EncryptPKCS1v15(rand.Reader, device.cert.PublicKey.(*rsa.PublicKey), digest); err != nil { //nolint:staticcheck // what clients read
			b.Fatal(err)
		}
		if _, err := ra.key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNormalise reads 64 KiB of the worst BER within the caps.
func BenchmarkNormalise(b *testing.B) {
	worst := openAs(0x24, bytes.Repeat([]byte{4, 6, 0, 0, 0, 0, 0, 0}, 8100))
	b.SetBytes(int64(len(worst)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := normalise(worst, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
