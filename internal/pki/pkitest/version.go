package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// Versioned returns a PKCS#10 like der with another version, signed anew by the
// key with SHA-256. Key is of RSA or ECDSA.
func Versioned(t testing.TB, der []byte, key crypto.Signer, version int) []byte {
	t.Helper()
	var request struct {
		Info struct {
			Version       int
			Subject, SPKI asn1.RawValue
			Attributes    asn1.RawValue `asn1:"optional"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if rest, err := asn1.Unmarshal(der, &request); err != nil || len(rest) > 0 {
		t.Fatalf("not a PKCS#10: %v", err)
	}
	request.Info.Version = version
	info, err := asn1.Marshal(request.Info)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(info)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	oid, parameters := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, asn1.RawValue{}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		oid, parameters = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.NullRawValue
	}
	out, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{
		asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: parameters},
		asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
