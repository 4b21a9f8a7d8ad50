package admin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// Names that an operator types are canonical in the certificate, or refused; a
// typed name never goes around the profile.
func TestOperatorsNamesAreChecked(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	for _, n := range []struct {
		typ, value, want string // want empty: refused
	}{
		{"dns", "WWW.A.test", "www.a.test"},
		{"dns", "www.a.test", "www.a.test"},
		{"dns", "a..test", ""},
		{"dns", "10.0.0.1", ""},
		{"ip", "2001:DB8:0:0::1", "2001:db8::1"},
		{"ip", "10.0.0.999", ""},
		{"email", "ann@a.test", ""}, // not a name of this profile
		{"fax", "+46 8 123", ""},
		{"dns", "", ""},
	} {
		v, err := c.Preview(t.Context(), api.IssueRequest{
			Profile: "tls-server", CSR: admintest.CSR(t, "asked.test"), Names: []api.Identifier{{Type: n.typ, Value: n.value}},
		})
		switch {
		case err != nil:
			t.Errorf("%s %q: %v", n.typ, n.value, err)
		case n.want == "" && v.Verdict != api.DecisionRefuse:
			t.Errorf("%s %q: %s as %v", n.typ, n.value, v.Verdict, v.Template.Names)
		case n.want != "" && (v.Verdict != api.DecisionIssue || v.Template.Names[0].Value != n.want):
			t.Errorf("%s %q: %s %s %v", n.typ, n.value, v.Verdict, v.Detail, v.Template.Names)
		}
	}
}

// TestFR15_OperatorsNamesReplace those of a request, whatever form these have.
func TestFR15_OperatorsNamesReplace(t *testing.T) {
	t.Parallel()
	c := admintest.Start(t, nil, "web-a-1").Client(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, subject := range pkitest.Unwritable(t, "www.a.test") {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			RawSubject:      subject, // and a registeredID
			ExtraExtensions: []pkix.Extension{{Id: pki.OIDSubjectAltName, Value: []byte{0x30, 4, 0x88, 2, 0x2a, 3}}},
		}, key)
		if err != nil {
			t.Fatal(err)
		}
		request := api.IssueRequest{
			Profile: "tls-server", Names: []api.Identifier{{Type: "dns", Value: "www.a.test"}},
			CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		}
		v, err := c.Preview(t.Context(), request)
		if err != nil || v.Verdict != api.DecisionIssue || v.Template.Names[0].Value != "www.a.test" {
			t.Errorf("%s: %v %+v", what, err, v)
		}
		request.Names = nil
		if v, err := c.Preview(t.Context(), request); err == nil && v.Verdict != api.DecisionRefuse {
			t.Errorf("%s: a name of a form that nobody reads is passed over: %+v", what, v)
		}
	}
}
