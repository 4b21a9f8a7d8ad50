package profile

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

func asGiven(t *testing.T, c Config) *Profile {
	return compiled(t, "device", func(old *Config) { *old = c })
}

func parseRequest(t *testing.T, template *x509.CertificateRequest) *pki.CSR {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, ecKey())
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFR15_OutputRulesAreForOutput: what the certificate drops refuses nothing; what
// it keeps has to be fit for a certificate.
func TestFR15_OutputRulesAreForOutput(t *testing.T) {
	t.Parallel()
	drops := BuiltIn()["device"]
	drops.Subject = Subject{Fields: optional("CN"), Others: "drop"}
	keeps := drops
	keeps.Subject = Subject{Fields: []Field{
		{Attribute: "CN", Max: 2}, {Attribute: "O", Max: 2}, {Attribute: "C"}, {Attribute: "1.2.3"},
	}}
	for what, subject := range pkitest.Unwritable(t, "device-7") {
		csr := parseRequest(t, &x509.CertificateRequest{RawSubject: subject})
		got, err := asGiven(t, drops).Apply(Request{CSR: csr}, now)
		if err != nil || got.Subject != "CN=device-7" {
			t.Errorf("dropped, %s: %v %+v", what, err, got)
		}
		got, err = asGiven(t, keeps).Apply(Request{CSR: csr}, now)
		switch what {
		case "empty", "empty common name", "relative name without attributes": // they say nothing
			if err != nil || got.Subject != "CN=device-7" {
				t.Errorf("kept, %s: %v", what, err)
			}
		default:
			if !fault.Is(err, fault.BadCSR) || fault.Of(err).Reason != "subject" {
				t.Errorf("kept, %s: %v", what, err)
			}
		}
	}
}

// TestFR15_LongCommonName: one that repeats a name is left out where it does not fit,
// and refused where nothing else says it.
func TestFR15_LongCommonName(t *testing.T) {
	t.Parallel()
	long := pkitest.LongName("corp.example")
	for _, names := range [][]string{{long}, nil} {
		csr := parseRequest(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: long}, DNSNames: names})
		got, err := asGiven(t, BuiltIn()["tls-server"]).Apply(Request{CSR: csr}, now)
		if err != nil || got.Subject != "" || len(got.Names) != 1 || got.Names[0].Value != long {
			t.Errorf("%v: %v %+v", names, err, got)
		}
		if _, err := asGiven(t, BuiltIn()["device"]).Apply(Request{CSR: csr}, now); !fault.Is(err, fault.BadCSR) {
			t.Errorf("%v: %v", names, err)
		}
	}
}

// TestFR15_Extensions: what is copied is held to what a certificate can have, what is
// dropped is not.
func TestFR15_Extensions(t *testing.T) {
	t.Parallel()
	oid := asn1.ObjectIdentifier{1, 2, 3, 4}
	null, broken := pkix.Extension{Id: oid, Value: []byte{5, 0}}, pkix.Extension{Id: oid, Value: []byte{5}}
	otherFeature := pkix.Extension{Id: oidTLSFeature, Value: []byte{0x30, 3, 2, 1, 17}}
	drops, copies := BuiltIn()["device"], BuiltIn()["device"]
	drops.MustStaple = true
	copies.Extensions.Copy = []string{"1.2.3.4"}
	for what, tc := range map[string]struct {
		asked []pkix.Extension
		cfg   Config
		ok    bool
	}{
		"dropped twice":   {[]pkix.Extension{null, null}, drops, true},
		"dropped, broken": {[]pkix.Extension{broken}, drops, true},
		"copied":          {[]pkix.Extension{null}, copies, true},
		"copied twice":    {[]pkix.Extension{null, null}, copies, false},
		"copied, broken":  {[]pkix.Extension{broken}, copies, false},
		"dropped feature": {[]pkix.Extension{otherFeature}, drops, true},
	} {
		csr := &pki.CSR{PublicKey: ecKey().Public(), Subject: pki.CommonNameOnly("d"), Extensions: tc.asked}
		got, err := asGiven(t, tc.cfg).Apply(Request{CSR: csr}, now)
		if (err == nil) != tc.ok || err == nil && got.MustStaple || err != nil && fault.Of(err).Reason != "extension" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
