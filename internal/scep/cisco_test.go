package scep

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
)

// ciscoSubject is what IOS-XE makes of "subject-name CN=R1,O=Example", "serial-number",
// "fqdn" and "ip-address": what it adds to the name is one multi-valued relative name.
// Both orders are tried.
func ciscoSubject(t *testing.T, first bool) []byte {
	t.Helper()
	text := func(oid asn1.ObjectIdentifier, value string) pkix.AttributeTypeAndValue {
		raw := asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(value)}
		return pkix.AttributeTypeAndValue{Type: oid, Value: raw}
	}
	added := pkix.RelativeDistinguishedNameSET{
		text(pki.OIDSerialNumber, "9ESGOBARV9D"),
		text(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 8}, "192.0.2.1"),
		text(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 2}, "R1.example.com"),
	}
	name := pkix.RDNSequence{{text(pki.OIDOrganization, "Example")}, {text(pki.OIDCommonName, "R1")}, added}
	if first {
		name = pkix.RDNSequence{added, name[0], name[1]}
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestFR7_CiscoIOSXE enrols as a router does, fetches its certificate by CertPoll and
// renews it by PKCSReq with a new key.
func TestFR7_CiscoIOSXE(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(ep *Endpoint) {
		ep.Profiles, ep.DefaultProfile = []string{"network-device"}, "network-device"
	})
	san, err := pki.MarshalSAN([]pki.Identifier{{Type: pki.DNS, Value: "r1.example.com"}, {Type: pki.IP,
		Value: "192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	extensions := []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 5, 0xa0}},
		{Id: pki.OIDSubjectAltName, Value: san},
	}
	for what, first := range map[string]bool{"the name first": false, "the name last": true} {
		subject := ciscoSubject(t, first)
		d, next := newCiscoDevice(t), newDevice(t, 1)
		request := withSubject(t, d.key, subject, testSecret, cbasn1.PrintableString, extensions...)
		r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: what, content: request})))
		if r.status != pkiSuccess {
			t.Fatalf("%s: %+v", what, r)
		}
		cert := r.certs[0]
		checkCisco(t, cert, subject)
		var poll cryptobyte.Builder
		poll.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(e.ca.RawSubject); b.AddBytes(subject) })
		polled := d.read(t, e.post(d.wrap(t, e, message{typ: "20", transaction: what, content: poll.BytesOrPanic()})))
		if polled.status != pkiSuccess || !polled.certs[0].Equal(cert) {
			t.Errorf("%s, polled: %+v", what, polled)
		}
		holder := &device{d.key, cert}
		request = withSubject(t, next.key, subject, "", cbasn1.PrintableString, extensions...)
		renewed := holder.read(t, e.post(holder.wrap(t, e, message{typ: "19", transaction: what + " again",
			content: request})))
		if renewed.status != pkiSuccess || !next.key.PublicKey.Equal(renewed.certs[0].PublicKey) {
			t.Fatalf("%s, renewed: %+v", what, renewed)
		}
		checkCisco(t, renewed.certs[0], subject)
	}
}

// newCiscoDevice signs with a throw-away certificate of another subject than the
// request's, as IOS does.
func newCiscoDevice(t *testing.T) *device {
	t.Helper()
	d := &device{}
	var err error
	if d.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	own := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "R1"},
		NotAfter: time.Now().Add(time.Hour)}
	d.cert = issuancetest.Certify(t, own, own, d.key.Public(), d.key)
	return d
}

func checkCisco(t *testing.T, cert *x509.Certificate, subject []byte) {
	t.Helper()
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if !pki.SameName(cert.RawSubject, subject) || len(cert.DNSNames) != 1 || len(cert.IPAddresses) != 1 ||
		cert.KeyUsage != usage {
		t.Errorf("%s %v %v %v", cert.Subject, cert.DNSNames, cert.IPAddresses, cert.KeyUsage)
	}
}
