package calaw_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR15_CARequests: nothing of a CA's name is dropped, so all of it has to be fit for
// a certificate, and two basic constraints have to agree.
func TestFR15_CARequests(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	check := func(template *x509.CertificateRequest) error {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.ParseCSR(t.Context(), der)
		if err != nil {
			t.Fatal(err)
		}
		return calaw.CheckRequest(csr)
	}
	for what, subject := range pkitest.Unwritable(t, "Example CA") {
		err := check(&x509.CertificateRequest{RawSubject: subject})
		if what != "relative name without attributes" && (!fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "subject") {
			t.Errorf("%s: %v", what, err)
		}
	}
	constraints := func(value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: value}
	}
	yes, no := constraints(0x30, 3, 1, 1, 0xff), constraints(0x30, 0)
	for _, tc := range []struct {
		asked []pkix.Extension
		ok    bool
	}{{nil, true}, {[]pkix.Extension{yes}, true}, {[]pkix.Extension{yes, yes}, true}, {[]pkix.Extension{no}, false},
		{[]pkix.Extension{yes, no}, false}, {[]pkix.Extension{no, yes}, false}} {
		err := check(&x509.CertificateRequest{Subject: pkix.Name{CommonName: "Example CA"}, ExtraExtensions: tc.asked})
		if (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.asked, err)
		}
	}
}
