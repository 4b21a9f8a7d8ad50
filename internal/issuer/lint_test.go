package issuer

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// What the built-in profiles grant passes the linter: a private PKI's names are
// not those of the web.
func TestX12_BuiltInProfilesPassTheLinter(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	publics := map[string]crypto.PublicKey{
		"P-256": fixedKey(t, elliptic.P256(), 3).Public(), "P-384": fixedKey(t, elliptic.P384(), 3).Public(), "RSA": rsaKey.Public(),
	}
	for _, c := range []struct {
		profile, subject string
		names            []pki.Identifier
	}{
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "localhost"}}},
		{"tls-server", "CN=a.b.test", []pki.Identifier{{Type: pki.DNS, Value: "*.lab.test"}, {Type: pki.DNS, Value: "a.b.test"}}},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "printer"}, {Type: pki.IP, Value: "::1"}, {Type: pki.IP, Value: "10.0.0.1"}}},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "xn--bcher-kva.internal"}, {Type: pki.DNS, Value: "3com.test"}}},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "com"}, {Type: pki.DNS, Value: "*.test"}}},
		{"tls-server-short", "", []pki.Identifier{{Type: pki.DNS, Value: "db.internal"}}},
		{"tls-client", "CN=agent@lab.test", []pki.Identifier{{Type: pki.Email, Value: "agent@lab.test"}}},
		{"tls-client", "", []pki.Identifier{{Type: pki.URI, Value: "https://lab.test/agent"}}},
		{"code-signing", "CN=Example GmbH & Söhne,O=Example,C=DE", nil},
		{"user", "CN=Łukasz Przykładowy,GN=Bartholomäus-Maximilian,SN=Przykładowy,O=Example,C=PL",
			[]pki.Identifier{{Type: pki.Email, Value: "lukasz@example.test"}, {Type: pki.UPN, Value: "lukasz@corp.example.test"}}},
		{"device", "CN=Sensor 7,serialNumber=SN-000-7,O=Example",
			[]pki.Identifier{{Type: pki.URI, Value: "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}, {Type: pki.PermanentID, Value: "SN-7"}}},
		{"network-device", "CN=R1+serialNumber=9ESG+unstructuredName=R1.example.com+unstructuredAddress=192.0.2.1", nil},
		{"device", "serialNumber=1", []pki.Identifier{{Type: pki.URI, Value: "urn:dev:ops:32473-Refrigerator-5002"}, {Type: pki.HardwareID, Value: "1.3.6.1.4.1.99999.1/01ff"}}},
		{"workload", "", []pki.Identifier{{Type: pki.URI, Value: "spiffe://cluster/ns/default/sa/web"}}},
		{"workload", "", []pki.Identifier{{Type: pki.URI, Value: "spiffe://cluster.local/ns/default/sa/web"}}},
		{"ocsp-signing", "CN=OCSP Responder 1,O=Example", nil},
		{"EndEntityCertificate/V1", "CN=Anything,O=Example", []pki.Identifier{{Type: pki.DNS, Value: "a.lab.test"}, {Type: pki.Email, Value: "ann@lab.test"}}},
	} {
		p, err := profile.Compile(c.profile, profile.BuiltIn()[c.profile])
		if err != nil {
			t.Fatal(err)
		}
		subject, err := pki.ParseName(c.subject)
		if err != nil {
			t.Fatal(err)
		}
		for kind, pub := range publics {
			names := c.names
			if names == nil {
				names = []pki.Identifier{}
			}
			tmpl, err := p.Apply(profile.Request{PublicKey: pub, Subject: &subject, Names: names}, epoch.Add(2*60*60*1e9))
			if err != nil {
				t.Errorf("%s %q %v: profile: %v", c.profile, c.subject, c.names, err)
				continue
			}
			d, err := ca.Draft(tmpl, pki.NewSerial())
			if err != nil {
				t.Errorf("%s %q %v %s: %v", c.profile, c.subject, c.names, kind, err)
				continue
			}
			der, err := ca.Sign(t.Context(), d)
			if err != nil {
				t.Errorf("%s: %v", c.profile, err)
				continue
			}
			if x, err := x509.ParseCertificate(der); err != nil || x.CheckSignatureFrom(ca.Certificate()) != nil {
				t.Errorf("%s: %v", c.profile, err)
			}
		}
	}
}

// Names that a foreign CA has, and that we must copy as they are, do not stop us.
func TestX4_X12_ForeignIssuerNames(t *testing.T) {
	t.Parallel()
	subject := "CN=Multi+OU=Valued,O=Example"
	key := newECKey(t, elliptic.P256())
	self, err := SelfSigned("foreign", nameDER(t, subject), softSigner{key})
	if err != nil {
		t.Fatal(err)
	}
	root := certify(t, self, caTemplate(t, subject, key.Public(), 20, -1), pki.NewSerial())
	i, err := NewOffline("foreign", []*x509.Certificate{root}, softSigner{key}, testLocations)
	if err != nil {
		t.Fatal(err)
	}
	c := certify(t, i, leafTemplate(newECKey(t, elliptic.P256()).Public()), pki.NewSerial())
	if string(c.RawIssuer) != string(root.RawSubject) {
		t.Error("the issuer's name was not copied octet for octet")
	}
}

// The linter stops what RFC 5280 forbids even where a profile would allow it.
func TestX12_LinterStops(t *testing.T) {
	t.Parallel()
	_, ca := fixedTree(t)
	for want, edit := range map[string]func(*profile.Template){
		"e_subj_contains_html_entities": func(p *profile.Template) { p.RawSubject = nameDER(t, "CN=Tom &amp\\; Jerry") },
		"e_ext_san_uri_relative": func(p *profile.Template) {
			p.Extra = []pkix.Extension{{Id: oidSubjectAltName, Value: []byte("\x30\x05\x86\x03a/b")}}
			p.Names = nil
		},
	} {
		p := leafTemplate(newECKey(t, elliptic.P256()).Public())
		edit(p)
		if _, err := ca.Draft(p, pki.NewSerial()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestX12_IgnoreListIsData(t *testing.T) {
	t.Parallel()
	l, err := linter()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.certificates) < 100 || len(l.lists) == 0 {
		t.Fatalf("%d certificate lints and %d for lists: the sources are not registered", len(l.certificates), len(l.lists))
	}
	for _, x := range ignored {
		if x.reason == "" {
			t.Errorf("%s is ignored without a reason", x.lint)
		}
	}
	m := &linting{except: map[string][]string{"everywhere": nil, "here": {"user"}}}
	if !m.ignores("everywhere", "x") || !m.ignores("here", "user") || m.ignores("here", "x") || m.ignores("none", "x") {
		t.Error("the ignore list is not read as it says")
	}
}
