package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// request is a PKCS#10 to be made: crypto/x509 writes no attributes but
// extensions, so these are signed here.
type request struct {
	subject    pkix.Name
	names      []pki.Identifier
	attributes []rawAttribute
	rawSubject []byte
	forge      bool // the signature is wrong
}

type rawAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

type csrOption func(testing.TB, *request)

func withDNS(names ...string) csrOption {
	return func(_ testing.TB, r *request) {
		for _, n := range names {
			r.names = append(r.names, pki.Identifier{Type: pki.DNS, Value: n})
		}
	}
}

func withSerial(serial string) csrOption {
	return func(_ testing.TB, r *request) { r.subject.SerialNumber = serial }
}

func withSubject(der []byte) csrOption {
	return func(_ testing.TB, r *request) { r.rawSubject = der }
}

func forged() csrOption { return func(_ testing.TB, r *request) { r.forge = true } }

// withAttribute adds an attribute with one value.
func withAttribute(oid asn1.ObjectIdentifier, value any) csrOption {
	return func(t testing.TB, r *request) {
		t.Helper()
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		r.attributes = append(r.attributes, rawAttribute{oid, []asn1.RawValue{{FullBytes: der}}})
	}
}

var oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}

func withChallenge(password string) csrOption { return withAttribute(oidChallengePassword, password) }

// newCSR makes a PKCS#10.
func newCSR(t testing.TB, key crypto.Signer, cn string, options ...csrOption) []byte {
	t.Helper()
	r := request{subject: pkix.Name{CommonName: cn}}
	for _, o := range options {
		o(t, &r)
	}
	subject := r.rawSubject
	if subject == nil {
		subject = marshal(t, r.subject.ToRDNSequence())
	}
	if len(r.names) > 0 {
		san, err := pki.MarshalSAN(r.names)
		if err != nil {
			t.Fatal(err)
		}
		withAttribute(oidExtensionReq, []pkix.Extension{{Id: pki.OIDSubjectAltName, Value: san}})(t, &r)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	var info cryptobyte.Builder
	info.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, a := range r.attributes {
				b.AddBytes(marshal(t, a))
			}
		})
	})
	return sign(t, key, info.BytesOrPanic(), r.forge)
}

func sign(t testing.TB, key crypto.Signer, info []byte, forge bool) []byte {
	t.Helper()
	algorithm := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}
	} else if _, ok := key.Public().(*ecdsa.PublicKey); !ok {
		t.Fatalf("no algorithm for %T", key)
	}
	digest := sha256.Sum256(info)
	if forge {
		digest[0] ^= 1
	}
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parseCSR(t testing.TB, der []byte) *pki.CSR {
	t.Helper()
	csr, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}
