package scep

import (
	"crypto/x509"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// bare returns the device with a throw-away certificate that crypto/x509 refuses: a
// negative serial number, one extension twice, a subject that is not the issuer.
func (d *device) bare(t testing.TB, key any) *device {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	serial := big.NewInt(-77)
	var b cryptobyte.Builder
	sequence := func(b *cryptobyte.Builder, f cryptobyte.BuilderContinuation) { b.AddASN1(cbasn1.SEQUENCE, f) }
	algorithm := func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier([]int{1, 2, 840, 113549, 1, 1, 4})
			b.AddASN1NULL()
		})
	}
	sequence(&b, func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
			b.AddASN1BigInt(serial)
			algorithm(b)
			b.AddBytes(d.cert.RawIssuer)
			sequence(b, func(b *cryptobyte.Builder) { b.AddASN1UTCTime(d.cert.NotAfter); b.AddASN1UTCTime(d.cert.NotAfter) })
			sequence(b, func(*cryptobyte.Builder) {})
			b.AddBytes(spki)
			b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				sequence(b, func(b *cryptobyte.Builder) {
					for range 2 {
						sequence(b, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier([]int{2, 5, 29, 15})
							b.AddASN1OctetString([]byte{3, 2, 5, 0xa0})
						})
					}
				})
			})
		})
		algorithm(b)
		b.AddASN1BitString([]byte{1})
	})
	der := b.BytesOrPanic()
	if _, err := x509.ParseCertificate(der); err == nil {
		t.Fatal("crypto/x509 reads the certificate")
	}
	return &device{d.key, &x509.Certificate{Raw: der, RawIssuer: d.cert.RawIssuer, SerialNumber: serial, PublicKey: key}}
}

// TestFR3_ThrowAwayCertificate need not please crypto/x509.
func TestFR3_ThrowAwayCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	d = d.bare(t, d.key.Public())
	send := func(typ, tx string, content []byte) rep {
		w := e.post(d.wrap(t, e, message{typ: typ, transaction: tx, content: content}))
		if w.Code != 200 {
			t.Fatalf("%s %s: %d %s", typ, tx, w.Code, w.Body)
		}
		return d.read(t, w)
	}
	if r := send("19", "a", d.csr(t, "dev-1", testSecret)); r.status != pkiSuccess || !d.key.PublicKey.Equal(r.certs[0].PublicKey) {
		t.Errorf("%+v", r)
	}
	wantFail(t, send("19", "b", newDevice(t, 1).csr(t, "dev-1", testSecret)), badRequest, "scep_key_mismatch")
	wantFail(t, send("17", "c", d.csr(t, "dev-1", "")), badRequest, "renewal_signer")
	wantFail(t, send("20", "d", issuerAndSubject(t, e, "dev-1")), badCertID, "scep_unreadable")
}

// TestFR3_FS2_KeySize is looked at in a bare certificate as well.
func TestFR3_FS2_KeySize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	ask := message{typ: "19", transaction: "huge", content: d.csr(t, "dev-1", testSecret)}
	huge := d.bare(t, pkitest.Huge(254_000).Public())
	huge.cert.PublicKey = d.key.Public() // what it is signed with
	wantFail(t, d.read(t, e.post(huge.wrap(t, e, ask))), badAlg, "key_size")
}

// TestFR5_Challenge in a PrintableString, of which it is none.
func TestFR5_Challenge(t *testing.T) {
	t.Parallel()
	const secret = "a#b@c_d!e \xfc"
	e := newEnv(t, func(ep *Endpoint) { ep.Secret = secret })
	d := newDevice(t, 0)
	send := func(tx, secret string) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: d.csr(t, "dev-1", secret)})))
	}
	wantFail(t, send("a", "a#b@c_d!e \xfd"), badRequest, "scep_challenge_wrong")
	if r := send("b", secret); r.status != pkiSuccess {
		t.Errorf("%+v", r)
	}
}
