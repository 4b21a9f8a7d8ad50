package acme

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// TestFS9_SubjectThatWasNotProved: a proof of a name gives that name and nothing else
// of a CSR's subject, whatever the profile would take from others: neither attributes
// of another device nor a second common name that no order has.
func TestFS9_SubjectThatWasNotProved(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cfg := profile.BuiltIn()["tls-server"]
	cfg.Subject = profile.Subject{Fields: []profile.Field{
		{Attribute: "CN", Max: 2}, {Attribute: "O"}, {Attribute: "serialNumber"}, {Attribute: "UID"},
		{Attribute: "L", Fixed: "Basel"},
	}, Others: "refuse"}
	e.profile(t, cfg)

	c := e.account(t)
	for name, tc := range map[string]struct {
		subject []pkix.AttributeTypeAndValue
		want    string
	}{
		"attributes": {
			[]pkix.AttributeTypeAndValue{
				{Type: pki.OIDOrganization, Value: "Another"}, {Type: pki.OIDCommonName, Value: "a.localhost"},
				{Type: pki.OIDSerialNumber, Value: "SN-1"},
				{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "admin"},
			}, "CN=a.localhost,L=Basel",
		},
		"two common names": {
			[]pkix.AttributeTypeAndValue{
				{Type: pki.OIDCommonName, Value: "dc1.corp.example"}, {Type: pki.OIDCommonName, Value: "a.localhost"},
			}, "CN=a.localhost,L=Basel",
		},
		"none": {nil, "L=Basel"},
	} {
		t.Run(name, func(t *testing.T) {
			o, u := c.ready("a.localhost")
			template := &x509.CertificateRequest{Subject: pkix.Name{ExtraNames: tc.subject}, DNSNames: []string{"a.localhost"}}
			want(t, c.post(o.Finalize, csrPayload(csrOf(t, template, nil))), http.StatusOK)
			if status, r := c.await(u, statusProcessing); status != statusValid {
				t.Fatalf("order %s", r.body)
			}
			o = decodeInto[orderView](t, c.read(u))
			leaf := chainOf(t, c.read(o.Certificate).body)[0]
			if got, err := pki.ParseNameDER(leaf.RawSubject); err != nil || got.String() != tc.want {
				t.Errorf("the subject is %s (%v), want %s", got, err, tc.want)
			}
		})
	}
	e.verify(t)
}
