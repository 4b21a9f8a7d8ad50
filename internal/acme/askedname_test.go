package acme

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR15_Finalize: whatever else stands in the subject, the order's name is
// certified; a common name that no order has is refused as before.
func TestFR15_Finalize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	finalize := func(template *x509.CertificateRequest, name string) *x509.Certificate {
		o, u := c.ready(name)
		want(t, c.post(o.Finalize, csrPayload(csrOf(t, template, nil))), http.StatusOK)
		if status, r := c.await(u, statusProcessing); status != statusValid {
			t.Fatalf("order %s", r.body)
		}
		o = decodeInto[orderView](t, c.read(u))
		return chainOf(t, c.read(o.Certificate).body)[0]
	}
	usage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}
	for what, subject := range pkitest.Unwritable(t, "a.localhost") {
		t.Run(what, func(t *testing.T) {
			leaf := finalize(&x509.CertificateRequest{
				RawSubject: subject, DNSNames: []string{"a.localhost"}, ExtraExtensions: []pkix.Extension{usage, usage},
			}, "a.localhost")
			got, err := pki.ParseNameDER(leaf.RawSubject)
			if err != nil || got.String() != "CN=a.localhost" && what != "empty common name" {
				t.Errorf("the subject is %s (%v)", got, err)
			}
		})
	}
	long := pkitest.LongName("localhost")
	leaf := finalize(&x509.CertificateRequest{Subject: pkix.Name{CommonName: long}, DNSNames: []string{long}}, long)
	if leaf.Subject.CommonName != "" || len(leaf.DNSNames) != 1 {
		t.Errorf("%s %v", leaf.Subject, leaf.DNSNames)
	}
	o, _ := c.ready("a.localhost")
	for _, cn := range []string{"b.localhost", "a.localhost\x00", "a.localhost ", "M\xfcller"} {
		subject := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{
			Type: pki.OIDCommonName, Value: asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte(cn)},
		}}}
		request := csrOf(t, &x509.CertificateRequest{Subject: subject, DNSNames: []string{"a.localhost"}}, nil)
		wantProblem(t, c.post(o.Finalize, csrPayload(request)), http.StatusBadRequest, "badCSR")
	}
}
