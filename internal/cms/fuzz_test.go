package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
)

// fuzzRecipient is a certificate that is only a name, the same in every run, so
// that seeds on disk stay good.
func fuzzRecipient() *x509.Certificate {
	return &x509.Certificate{
		RawIssuer:    must(asn1.Marshal(pkix.Name{CommonName: "fuzz"}.ToRDNSequence())),
		SerialNumber: big.NewInt(1),
		SubjectKeyId: []byte("fuzz"),
	}
}

// openKey "decrypts" a content key that was not encrypted at all.
type openKey struct{}

func (openKey) Public() crypto.PublicKey { return nil }

func (openKey) Decrypt(_ io.Reader, c []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok && o.SessionKeyLen > len(c) { //nolint:staticcheck // what clients write
		return nil, errors.New("too short")
	}
	return c, nil
}

// fuzzEnvelope returns an envelope for openKey.
func fuzzEnvelope(c Cipher, transport []byte) []byte {
	key := bytes.Repeat([]byte{5}, ciphers[c].key)
	iv, encrypted, mac, err := c.seal(key, plaintext, nil)
	must(0, err)
	e := envelope{to: fuzzRecipient(), wrapped: key, transport: transport, content: element(tag0, encrypted), cipher: cipherElement(c, iv)}
	if mac != nil {
		e.outer, e.trailer = OIDAuthEnvelopedData, [][]byte{octets(mac)}
	}
	return e.der()
}

func FuzzBER(f *testing.F) {
	der := fuzzEnvelope(AES256CBC, nil)
	f.Add(der)
	for _, form := range forms {
		f.Add(form.encode(der))
	}
	f.Fuzz(func(t *testing.T, ber []byte) {
		l := Limits{Depth: 24}
		der, err := normalise(ber, l)
		if fault.Is(err, fault.TooLarge) {
			return
		}
		want, rest, wantErr := plainly(ber, false, 0)
		if good := wantErr == nil && len(rest) == 0; good != (err == nil) || good && !bytes.Equal(der, want) {
			t.Fatalf("%x is %x, %v; read plainly %x, %v, %x left", ber, der, err, want, wantErr, rest)
		}
		if err != nil {
			return
		}
		if again, err := normalise(der, Limits{Size: 1 << 20}); err != nil || &again[0] != &der[0] {
			t.Fatalf("%x is not DER, or changes again: %v", der, err)
		}
	})
}

func FuzzParseSignedData(f *testing.F) {
	id := p256()
	der := mustSign(f, Message{Content: plaintext, CRLs: [][]byte{newCRL(f)}}, Signer{Certificate: id.cert, Key: id.key, Attributes: []Attribute{attribute(oidMessageType, "19")}})
	f.Add(der)
	f.Add(forms["everything"].encode(der))
	f.Add(must(Degenerate([]*x509.Certificate{id.cert}, nil)))
	f.Add(mustSign(f, Message{Content: plaintext}, Signer{Certificate: spoil(id, []byte{0xfe}).cert, Key: id.key}))
	f.Fuzz(func(t *testing.T, ber []byte) {
		s, err := ParseSignedData(ber, Limits{})
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Malformed && k != fault.TooLarge {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		signers, err := s.Verify(t.Context(), Policy{SHA1: true, Bare: true}, fuzzRecipient())
		if (err == nil) != (len(signers) == len(s.Signers) && len(signers) > 0) {
			t.Fatalf("%d of %d signers, %v", len(signers), len(s.Signers), err)
		}
		if err == nil && s.Signers[0].Hash == 0 {
			t.Fatal("verified without a hash")
		}
		for _, info := range s.Signers {
			info.SigningTime()
		}
		if bag, err := Degenerate(s.Certificates, s.CRLs); err != nil {
			t.Fatal(err)
		} else if again, err := ParseSignedData(bag, Limits{Size: 1 << 20}); err != nil || len(again.Certificates) != len(s.Certificates) || len(again.CRLs) != len(s.CRLs) {
			t.Fatalf("its bag comes back as %+v, %v", again, err)
		}
	})
}

func FuzzParseEnvelopedData(f *testing.F) {
	for _, c := range []Cipher{AES256CBC, AES128GCM} {
		der := fuzzEnvelope(c, nil)
		f.Add(der)
		f.Add(forms["everything"].encode(der))
	}
	f.Fuzz(func(t *testing.T, ber []byte) {
		e, err := ParseEnvelopedData(ber, Limits{})
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Malformed && k != fault.TooLarge {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if len(e.Recipients) != len(e.recipients) {
			t.Fatalf("%d names, %d keys", len(e.Recipients), len(e.recipients))
		}
		if _, err := e.Decrypt(raRSA().cert, openKey{}, Policy{}); err == nil && !e.To(raRSA().cert) {
			t.Fatal("opened without being for us")
		}
	})
}

// FuzzDecrypt opens envelopes with a key that lets every content key through,
// so that ciphers and paddings see what the fuzzer makes.
func FuzzDecrypt(f *testing.F) {
	for _, c := range allCiphers {
		f.Add(fuzzEnvelope(c, nil))
	}
	f.Add(fuzzEnvelope(AES256CBC, algorithmElement(oidOAEP, []byte{0x30, 0})))
	f.Add(forms["everything"].encode(fuzzEnvelope(AES128CBC, nil)))
	f.Fuzz(func(t *testing.T, ber []byte) {
		e, err := ParseEnvelopedData(ber, Limits{})
		if err != nil {
			return
		}
		e.Transport(fuzzRecipient())
		plain, err := e.Decrypt(fuzzRecipient(), openKey{}, Policy{Ciphers: allCiphers})
		switch {
		case err == nil && len(plain) > len(e.encrypted):
			t.Fatalf("%d octets out of %d", len(plain), len(e.encrypted))
		case err != nil && plain != nil:
			t.Fatal("a plaintext and an error")
		case err != nil && err != ErrDecrypt && err != ErrNotRecipient && !fault.Is(err, fault.BadAlgorithm): //nolint:errorlint // the very values
			t.Fatalf("an error of another kind: %v", err)
		}
	})
}
