package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/fault"
)

// crmfTemplate is a template with a subject, a key and one DNS name.
func crmfTemplate(t testing.TB, key any) cmctest.Template {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: "device-1"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	san, err := MarshalSAN([]Identifier{{DNS, "device-1.test"}})
	if err != nil {
		t.Fatal(err)
	}
	extensions, err := asn1.Marshal([]pkix.Extension{{Id: OIDSubjectAltName, Value: san}, {Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	return cmctest.Template{Subject: subject, Key: key, Extensions: extensions}
}

func contextTag(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }

func TestEST_E19_ParseCRMF(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	request := cmctest.CertRequest(t, 7, crmfTemplate(t, key.Public()))
	proved := cmctest.Proved(t, request, key)
	for name, der := range map[string][]byte{"signature": proved, "word of an RA": cmctest.RAVerified(request)} {
		c, err := ParseCRMF(t.Context(), der, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !key.PublicKey.Equal(c.PublicKey) || c.Subject.String() != "CN=device-1" || len(c.Extensions) != 1 ||
			!slices.Equal(c.Names, []Identifier{{DNS, "device-1.test"}}) || !bytes.Equal(c.Raw, der) {
			t.Errorf("%s: %+v", name, c)
		}
		if again, err := ParseRecorded(der); err != nil || again.KeyHash != c.KeyHash {
			t.Errorf("%s: from the record: %v", name, err)
		}
	}
	if _, err := ParseCRMF(t.Context(), proved, false); err != nil {
		t.Error(err)
	}
	csr := makeCSR(t, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}})
	if c, err := ParseRecorded(csr); err != nil || c.Subject.String() != "CN=x" {
		t.Errorf("PKCS#10 from the record: %v", err)
	}
}

func TestEST_E19_CRMFThatIsRefused(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	with := func(change func(*cmctest.Template)) []byte {
		c := crmfTemplate(t, key.Public())
		change(&c)
		return cmctest.Proved(t, cmctest.CertRequest(t, 1, c), key)
	}
	good := cmctest.CertRequest(t, 1, crmfTemplate(t, key.Public()))
	sequence := func(parts ...cmctest.Part) []byte { return cmctest.Der(cmctest.Tagged(cbasn1.SEQUENCE, parts...)) }
	for name, tc := range map[string]struct {
		der    []byte
		reason string
	}{
		"empty":              {nil, "csr_syntax"},
		"something after it": {append(cmctest.Proved(t, good, key), 0), "csr_syntax"},
		"too large":          {make([]byte, maxCSR+1), "csr_size"},
		"no template":        {sequence(cmctest.Raw(sequence(cmctest.Int(1)))), "csr_syntax"},
		"controls":           {cmctest.Proved(t, cmctest.CertRequest(t, 1, crmfTemplate(t, key.Public()), cmctest.Tagged(cbasn1.SEQUENCE)), key), "crmf_controls"},
		"no subject":         {with(func(c *cmctest.Template) { c.Subject = nil }), "crmf_template"},
		"no key":             {with(func(c *cmctest.Template) { c.Key = nil }), "crmf_template"},
		"serial number": {with(func(c *cmctest.Template) {
			c.Before = []cmctest.Part{cmctest.Tagged(contextTag(1), cmctest.Raw([]byte{1}))}
		}), "crmf_template"},
		"validity": {with(func(c *cmctest.Template) { c.Before = []cmctest.Part{cmctest.Tagged(contextTag(4).Constructed())} }), "crmf_validity"},
		"subject twice": {with(func(c *cmctest.Template) {
			c.Before = []cmctest.Part{cmctest.Tagged(contextTag(5).Constructed(), cmctest.Raw(c.Subject))}
		}), "csr_syntax"},
		"primitive subject": {with(func(c *cmctest.Template) {
			c.Before, c.Subject = []cmctest.Part{cmctest.Tagged(contextTag(5), cmctest.Raw(c.Subject))}, nil
		}), "csr_syntax"},
		"not a field":         {with(func(c *cmctest.Template) { c.After = []cmctest.Part{cmctest.Int(1)} }), "csr_syntax"},
		"extensions":          {with(func(c *cmctest.Template) { c.Extensions = []byte{0x30, 2, 5, 0} }), "csr_attribute"},
		"no proof":            {sequence(cmctest.Raw(good)), "crmf_pop"},
		"word of anybody":     {cmctest.RAVerified(good), "crmf_pop"},
		"proof by decryption": {sequence(cmctest.Raw(good), cmctest.Tagged(contextTag(2).Constructed())), "crmf_pop"},
		"another input":       {sequence(cmctest.Raw(good), cmctest.Tagged(contextTag(1).Constructed(), cmctest.Tagged(contextTag(0).Constructed()))), "crmf_pop"},
		"proof that is none":  {sequence(cmctest.Raw(good), cmctest.Tagged(contextTag(1).Constructed(), cmctest.Int(1))), "csr_syntax"},
		"number for a proof":  {sequence(cmctest.Raw(good), cmctest.Int(1)), "csr_syntax"},
		"by another key":      {cmctest.Proved(t, good, other), "signature"},
	} {
		_, err := ParseCRMF(t.Context(), tc.der, false)
		if f := fault.Of(err); err == nil || f.Kind != fault.BadCSR || f.Reason != tc.reason {
			t.Errorf("%s: got %v", name, err)
		}
	}
	badKey := crmfTemplate(t, key.Public())
	badKey.Key, badKey.Extensions = nil, nil
	badKey.After = []cmctest.Part{cmctest.Tagged(contextTag(6).Constructed(), cmctest.Int(1))}
	if _, err := ParseCRMF(t.Context(), cmctest.Proved(t, cmctest.CertRequest(t, 1, badKey), key), false); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("a key that is none: %v", err)
	}
}

func FuzzParseCRMF(f *testing.F) {
	key := newKey(f)
	request := cmctest.CertRequest(f, 7, crmfTemplate(f, key.Public()))
	f.Add(cmctest.Proved(f, request, key))
	f.Add(cmctest.RAVerified(request))
	f.Add(cmctest.CertRequest(f, 1, crmfTemplate(f, key.Public()), cmctest.Tagged(cbasn1.SEQUENCE)))
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCRMF(t.Context(), der, true)
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.BadCSR && k != fault.BadPublicKey {
				t.Fatalf("%v is no fault of a request", err)
			}
			return
		}
		if again, err := ParseRecorded(der); err != nil || again.KeyHash != c.KeyHash {
			t.Fatalf("from the record: %v", err)
		}
	})
}
