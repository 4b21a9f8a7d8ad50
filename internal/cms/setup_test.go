package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/test/need"
)

// identity is a key with a self-signed certificate, as a device makes it.
type identity struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (id identity) decrypter() crypto.Decrypter { return id.key.(crypto.Decrypter) }

// identities are made once for all tests: RSA keys take their time.
var (
	deviceRSA = sync.OnceValue(func() identity { return newIdentity(must(rsa.GenerateKey(rand.Reader, 2048)), "device", 77) })
	raRSA     = sync.OnceValue(func() identity { return newIdentity(must(rsa.GenerateKey(rand.Reader, 2048)), "ra", 1<<40) })
	p256      = sync.OnceValue(func() identity { return newIdentity(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "p256", 3) })
	p384      = sync.OnceValue(func() identity { return newIdentity(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "p384", 4) })
	p521      = sync.OnceValue(func() identity { return newIdentity(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), "p521", 5) })
	edwards   = sync.OnceValue(func() identity {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return newIdentity(must(key, err), "edwards", 6)
	})
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newIdentity returns a certificate of a clock that is years off: no test may
// depend on validity.
func newIdentity(key crypto.Signer, name string, serial int64) identity {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{Organization: []string{"Lab"}, CommonName: name},
		NotBefore:    time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(1999, 1, 8, 0, 0, 0, 0, time.UTC),
		SubjectKeyId: []byte("key of " + name),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return identity{key, must(x509.ParseCertificate(der))}
}

// shell runs openssl in a folder of its own.
type shell struct {
	t   *testing.T
	dir string
}

// openssl finds the program, or skips the test; in CI it must be there.
func openssl(t *testing.T) shell {
	t.Helper()
	need.Program(t, "openssl")
	return shell{t, t.TempDir()}
}

func (s shell) put(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// identity writes NAME.pem and NAME.key.
func (s shell) identity(name string, id identity) {
	s.t.Helper()
	s.put(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}))
	s.put(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(id.key))}))
}

// try runs openssl and returns what it writes to its standard output.
func (s shell) try(args ...string) ([]byte, string, error) {
	cmd := exec.CommandContext(s.t.Context(), "openssl", args...)
	cmd.Dir = s.dir
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := cmd.Run()
	return out.Bytes(), diag.String(), err
}

func (s shell) run(args ...string) []byte {
	s.t.Helper()
	out, diag, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("openssl %q: %v\n%s", args, err, diag)
	}
	return out
}

// attribute returns one with PrintableString values.
func attribute(oid asn1.ObjectIdentifier, values ...string) Attribute {
	a := Attribute{Type: oid}
	for _, v := range values {
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.PrintableString, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v)) })
		a.Values = append(a.Values, b.BytesOrPanic())
	}
	return a
}

var (
	oidMessageType   = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 2}
	oidTransactionID = asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, 7}
)

// wantFault fails unless err is a fault of the kind and reason.
func wantFault(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	if err == nil || fault.Of(err).Kind != kind || fault.Of(err).Reason != reason {
		t.Errorf("error %v, want %v because of %s", err, kind, reason)
	}
}

func wantIs(t *testing.T, err, target error) {
	t.Helper()
	if err != target { //nolint:errorlint // the very value: errors must not differ in anything
		t.Errorf("error %v, want %v", err, target)
	}
}

func mustSign(t testing.TB, m Message, s Signer) []byte {
	t.Helper()
	der, err := Sign(m, s)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func mustParseSigned(t testing.TB, ber []byte) *SignedData {
	t.Helper()
	s, err := ParseSignedData(ber, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustParseEnveloped(t testing.TB, ber []byte) *EnvelopedData {
	t.Helper()
	e, err := ParseEnvelopedData(ber, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (s shell) read(name string) []byte {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func newCRL(t testing.TB) []byte {
	t.Helper()
	id := p256()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: time.Now()}},
	}, &x509.Certificate{RawSubject: id.cert.RawSubject, SubjectKeyId: id.cert.SubjectKeyId, KeyUsage: x509.KeyUsageCRLSign}, id.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
