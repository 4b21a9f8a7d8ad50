package pki_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFR15_SubjectIsWhatIsAsked: what a request asks for is read whatever a
// certificate could hold of it, and refused where it is to be written.
func TestFR15_SubjectIsWhatIsAsked(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for what, subject := range pkitest.Unwritable(t, "a.example.com") {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.ParseCSR(t.Context(), der)
		if err != nil || csr.Subject.CommonName() != "a.example.com" && what != "empty common name" {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if _, err := csr.Subject.DER(); (err == nil) != (what == "relative name without attributes") &&
			what != "unknown attribute" {
			t.Errorf("%s can be written: %v", what, err)
		}
		if text := csr.Subject.String(); strings.ContainsAny(text, "\x00\n\u202e\ufffd") {
			t.Errorf("%s deceives: %q", what, text)
		}
		// What waits for approval is kept so.
		again, err := csr.Subject.AskedDER()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := pki.ParseAskedName(again); err != nil || !reflect.DeepEqual(back, csr.Subject) ||
			!back.EqualRFC5280(csr.Subject) || back.Folded() != csr.Subject.Folded() {
			t.Errorf("%s: %v, %q was %q", what, err, back, csr.Subject)
		}
		if name, err := pki.ParseNameDER(subject); err == nil && name.Check() == nil {
			t.Errorf("%s: a certificate's name like this is taken", what)
		}
	}
	// A value that is no text is the same as itself alone.
	all := pkitest.Unwritable(t, "a")
	x, _ := pki.ParseAskedName(all["Latin-1 in a T61String"])
	y, _ := pki.ParseAskedName(all["Latin-1 as UTF-8"])
	if x == nil || x.EqualRFC5280(y) || x.Folded() == y.Folded() {
		t.Errorf("%q is %q", x, y)
	}
}

// TestFR15_ExtensionsThatAreAsked: what is wrong with an extension that is not granted
// refuses nothing; alternative names decide who is certified, and stay strict.
func TestFR15_ExtensionsThatAreAsked(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	usage := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 7, 0x80}}
	san := func(value ...byte) pkix.Extension { return pkix.Extension{Id: pki.OIDSubjectAltName, Value: value} }
	a := san(0x30, 3, 0x82, 1, 'a')
	for what, tc := range map[string]struct {
		extensions []pkix.Extension
		names      int
		refused    bool
	}{
		"twice":             {[]pkix.Extension{usage, usage, a}, 1, false},
		"value is not DER":  {[]pkix.Extension{{Id: usage.Id, Value: []byte{0xff}}, a}, 1, false},
		"SAN without names": {[]pkix.Extension{san(0x30, 0)}, 0, false},
		"the same SAN":      {[]pkix.Extension{a, usage, a}, 1, false},
		"another SAN":       {[]pkix.Extension{a, san(0x30, 3, 0x82, 1, 'b')}, 0, true},
		"SAN is not DER":    {[]pkix.Extension{san(0x30, 1)}, 0, true},
		"registeredID":      {[]pkix.Extension{san(0x30, 4, 0x88, 2, 0x2a, 3)}, 0, true},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader,
			&x509.CertificateRequest{ExtraExtensions: tc.extensions}, key)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.ParseCSR(t.Context(), der)
		if fault.Is(err, fault.BadCSR) != tc.refused || err == nil && len(csr.Names) != tc.names {
			t.Errorf("%s: %v", what, err)
		}
		// Who replaces the names needs none of them.
		if csr, err := pki.ParseUnnamedCSR(t.Context(), der); err != nil || len(csr.Names) != 0 {
			t.Errorf("%s, unnamed: %v", what, err)
		}
		der[len(der)-1] ^= 1
		if _, err := pki.ParseUnnamedCSR(t.Context(), der); !fault.Is(err, fault.BadCSR) {
			t.Errorf("%s, unnamed: the signature is not looked at: %v", what, err)
		}
	}
}
