package profile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// now is when all these tests happen.
var now = time.Date(2026, 11, 21, 12, 0, 0, 500, time.UTC)

var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// compiled returns a built-in profile, changed by change.
func compiled(t testing.TB, name string, change ...func(*Config)) *Profile {
	t.Helper()
	c, ok := BuiltIn()[name]
	if !ok {
		t.Fatalf("no built-in profile %q", name)
	}
	for _, f := range change {
		f(&c)
	}
	p, err := Compile(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// csr makes a request as a client would.
func csr(t testing.TB, key crypto.Signer, subject, names string, exts ...pkix.Extension) *pki.CSR {
	t.Helper()
	n, err := pki.ParseName(subject)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := n.DER()
	if err != nil {
		t.Fatal(err)
	}
	if names != "" {
		value, err := pki.MarshalSAN(ids(names))
		if err != nil {
			t.Fatal(err)
		}
		exts = append(exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: raw, ExtraExtensions: exts}, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ids reads names as "dns:a.example.com ip:10.0.0.1".
func ids(s string) []pki.Identifier {
	var list []pki.Identifier
	for _, w := range strings.Fields(s) {
		typ, value, _ := strings.Cut(w, ":")
		list = append(list, pki.Identifier{Type: pki.IdentifierType(typ), Value: value})
	}
	return list
}

// decode reads a profile as the configuration does.
func decode(text []byte) (c Config, err error) {
	err = strictyaml.Decode("", text, &c).Err()
	return c, err
}

func TestBuiltInProfilesCompile(t *testing.T) {
	t.Parallel()
	ca := compiled(t, "issuing-ca")
	for name, c := range BuiltIn() {
		p, err := Compile(name, c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Description() == "" || len(p.Version()) != 12 || p.Name() != name {
			t.Errorf("%s: description %q, version %q", name, p.Description(), p.Version())
		}
		for _, e := range p.EKUs() {
			if !has(ca.EKUs(), e) { // rule X8
				t.Errorf("%s: %s is not among the issuing CA's", name, pki.EKUName(e))
			}
		}
		if !c.CA && (p.MaxValidity() > maxLeaf || p.CA()) {
			t.Errorf("%s lives %s", name, p.MaxValidity())
		}
		text, err := strictyaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(text)
		if err != nil {
			t.Errorf("%s does not read back: %v\n%s", name, err, text)
			continue
		}
		if q, err := Compile(name, back); err != nil || q.Version() != p.Version() {
			t.Errorf("%s is another profile after YAML: %v\n%s", name, err, text)
		}
	}
}

// TestG1_14_BuiltInsIssue gives each profile a request of its kind.
func TestG1_14_G1_18_BuiltInsIssue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ profile, subject, names, wantSubject, ekus string }{
		{"tls-server", "CN=a.example.com,O=Nobody Asked", "dns:a.example.com dns:*.example.com ip:10.0.0.1", "CN=a.example.com", "serverAuth"},
		{"tls-server", "", "dns:printer", "", "serverAuth"},
		{"tls-server-short", "", "dns:a.example.com", "", "serverAuth"},
		{"tls-client", "CN=ann@example.com", "email:ann@example.com", "CN=ann@example.com", "clientAuth"},
		{"code-signing", "CN=Release Team,O=Example,C=CH", "", "CN=Release Team,O=Example,C=CH", "codeSigning"},
		{"user", "CN=Ann Example", "email:ann@example.com upn:ann@corp.example", "CN=Ann Example", "clientAuth emailProtection"},
		{"device", "CN=Meter+serialNumber=4711,O=Example", "uri:urn:dev:mac:0024befffe804ff1 permanent-identifier:4711 hardware-module:1.3.6.1.4.1.99999.1/0a0b",
			"CN=Meter+serialNumber=4711,O=Example", "clientAuth"},
		{"workload", "CN=dropped", "uri:spiffe://example.org/ns/web", "", "serverAuth clientAuth"},
		{"ocsp-signing", "CN=OCSP 1", "", "CN=OCSP 1", "OCSPSigning"},
	} {
		p := compiled(t, tc.profile)
		tpl, err := p.Apply(Request{CSR: csr(t, ecKey(), tc.subject, tc.names)}, now)
		if err != nil {
			t.Errorf("%s: %v", tc.profile, err)
			continue
		}
		var ekus []string
		for _, e := range tpl.ExtKeyUsage {
			ekus = append(ekus, pki.EKUName(e))
		}
		want, _ := pki.ParseName(tc.wantSubject)
		got, _ := pki.ParseNameDER(tpl.RawSubject)
		if !got.EqualRFC5280(want) || strings.Join(ekus, " ") != tc.ekus || !slices.Equal(tpl.Names, ids(tc.names)) {
			t.Errorf("%s: subject %q, EKU %v, names %v", tc.profile, tpl.Subject, ekus, tpl.Names)
		}
		if tpl.CA || tpl.MaxPathLen != -1 || tpl.KeyUsage != x509.KeyUsageDigitalSignature || tpl.PublicKey == nil ||
			tpl.Profile != tc.profile || tpl.ProfileVersion != p.Version() {
			t.Errorf("%s: template %+v", tc.profile, tpl)
		}
		if tpl.NoRevAvail != (tc.profile == "tls-server-short") || tpl.OCSPNoCheck != (tc.profile == "ocsp-signing") {
			t.Errorf("%s: noRevAvail %v, nocheck %v", tc.profile, tpl.NoRevAvail, tpl.OCSPNoCheck)
		}
	}
}

func TestX7_KeyUsageFollowsTheKey(t *testing.T) {
	t.Parallel()
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	p := compiled(t, "tls-server", func(c *Config) {
		c.Keys = []string{"ec-p256", "rsa-2048", "ed25519"}
		c.KeyUsage = []string{"digitalSignature", "keyEncipherment", "dataEncipherment", "keyAgreement"}
	})
	for _, tc := range []struct {
		key  crypto.Signer
		want []string
	}{
		{ecKey(), []string{"digitalSignature", "keyAgreement"}},
		{rsaKey(), []string{"digitalSignature", "keyEncipherment", "dataEncipherment"}},
		{ed, []string{"digitalSignature"}},
	} {
		tpl, err := p.Apply(Request{CSR: csr(t, tc.key, "", "dns:a.example.com")}, now)
		if err != nil || !slices.Equal(tpl.KeyUsageNames(), tc.want) {
			t.Errorf("%T: %v %v, want %v", tc.key, tpl, err, tc.want)
		}
	}
	none := compiled(t, "tls-server", func(c *Config) { c.KeyUsage = []string{"keyEncipherment"} })
	if _, err := none.Apply(Request{PublicKey: ecKey().Public(), Names: ids("dns:a.example.com")}, now); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("a key without any use: %v", err)
	}
}

// refusal is a request and the fault that it must get.
type refusal struct {
	name, profile, subject, names, authorised string
	exts                                      []pkix.Extension
	change                                    func(*Config)
	kind                                      fault.Kind
	reason                                    string
}

func TestA41_X5_X11_Refusals(t *testing.T) {
	t.Parallel()
	ext := func(oid string, value ...byte) []pkix.Extension {
		o, _ := pki.ParseOID(oid)
		return []pkix.Extension{{Id: o, Value: value}}
	}
	const wrong, csrBad = fault.RejectedIdentifier, fault.BadCSR
	for _, tc := range []refusal{
		{name: "no name", profile: "code-signing", kind: csrBad, reason: "subject_required"},
		{name: "no SAN", profile: "tls-server", kind: csrBad, reason: "san_count"},
		{name: "CN outside SAN", profile: "tls-server", subject: "CN=b.example.com", names: "dns:a.example.com", kind: csrBad, reason: "common_name"},
		{name: "type", profile: "tls-server", names: "dns:a.example.com email:a@example.com", kind: wrong, reason: "san_type"},
		{name: "UPN", profile: "tls-server", names: "dns:a.example.com upn:a@example.com", kind: wrong, reason: "san_type"},
		{name: "underscore", profile: "tls-client", names: "dns:a_b.example.com", kind: wrong, reason: "dns_name"},
		{name: "wildcard", profile: "tls-client", names: "dns:*.example.com", kind: wrong, reason: "dns_name"},
		{name: "two SPIFFE", profile: "workload", names: "uri:spiffe://a/b uri:spiffe://a/c", kind: csrBad, reason: "san_count"},
		{name: "no SPIFFE", profile: "workload", names: "uri:https://a.example/b", kind: wrong, reason: "name_form"},
		{name: "SPIFFE port", profile: "workload", names: "uri:spiffe://a:1/b", kind: wrong, reason: "name_form"},
		{name: "SPIFFE trust domain alone", profile: "workload", names: "uri:spiffe://a.example", kind: wrong, reason: "name_form"},
		{name: "SPIFFE dots", profile: "workload", names: "uri:spiffe://a/../b", kind: wrong, reason: "name_form"},
		{name: "URL for a device", profile: "device", subject: "CN=x", names: "uri:https://a.example/", kind: wrong, reason: "name_not_allowed"},
		{name: "subject attribute", profile: "user", subject: "CN=x,L=y", names: "upn:x@y", kind: csrBad, reason: "subject_attribute"},
		{name: "two CNs", profile: "user", subject: "CN=x,CN=y", names: "upn:x@y", kind: csrBad, reason: "subject_count"},
		{name: "must staple", profile: "tls-server", names: "dns:a.example.com", exts: ext("1.3.6.1.5.5.7.1.24", 0x30, 3, 2, 1, 5), kind: csrBad, reason: "extension"},
		{name: "other TLS feature", profile: "tls-server", names: "dns:a.example.com", exts: ext("1.3.6.1.5.5.7.1.24", 0x30, 3, 2, 1, 6), kind: csrBad, reason: "extension",
			change: func(c *Config) { c.MustStaple = true }},
		{name: "not DER", profile: "tls-server", names: "dns:a.example.com", exts: ext("1.2.3.4", 0x30), kind: csrBad, reason: "extension",
			change: func(c *Config) { c.Extensions.Copy = []string{"1.2.3.4"} }},
		{name: "name constraints", profile: "tls-server", names: "dns:a.example.com", exts: ext("2.5.29.30", 0x30, 0), kind: csrBad, reason: "extension"},
		{name: "not authorised", profile: "tls-server", names: "dns:a.example.com dns:b.example.com", authorised: "dns:a.example.com", kind: wrong, reason: "not_authorised"},
		{name: "denied", profile: "tls-server", names: "dns:secret.example.com", kind: wrong, reason: "name_denied",
			change: func(c *Config) { c.SAN.DNS.Deny = []string{"secret.example.com"} }},
		{name: "wildcard over a denied name", profile: "tls-server", names: "dns:*.example.com", kind: wrong, reason: "name_denied",
			change: func(c *Config) { c.SAN.DNS.Deny = []string{"secret.example.com"} }},
		{name: "network", profile: "tls-server", names: "ip:192.0.2.1", kind: wrong, reason: "name_not_allowed",
			change: func(c *Config) { c.SAN.IP.Allow = []string{"10.0.0.0/8"} }},
		{name: "forbidden", profile: "tls-server", subject: "CN=a.example.com,O=x", names: "dns:a.example.com", kind: csrBad, reason: "subject_attribute",
			change: func(c *Config) {
				c.Subject.Fields = append(c.Subject.Fields, Field{Attribute: "O", Request: "forbidden"})
			}},
		{name: "G1-28 fixed", profile: "user", subject: "CN=x,O=Other", names: "upn:x@y", kind: csrBad, reason: "subject_fixed",
			change: func(c *Config) {
				c.Subject.Fields = []Field{{Attribute: "O", Fixed: "Example"}, {Attribute: "CN"}}
			}},
		{name: "match", profile: "user", subject: "CN=root", names: "upn:x@y", kind: csrBad, reason: "subject_value",
			change: func(c *Config) { c.Subject.Fields = []Field{{Attribute: "CN", Match: []string{"*.example"}}} }},
		{name: "X15 count", profile: "tls-server", names: manyNames(101), kind: csrBad, reason: "san_count"},
	} {
		change := tc.change
		if change == nil {
			change = func(*Config) {}
		}
		r := Request{CSR: csr(t, ecKey(), tc.subject, tc.names, tc.exts...)}
		if tc.authorised != "" {
			r.Names = ids(tc.authorised)
		}
		_, err := compiled(t, tc.profile, change).Apply(r, now)
		f := fault.Of(err)
		if err == nil || f.Kind != tc.kind || f.Reason != tc.reason {
			t.Errorf("%s: %v (%s), want %v %s", tc.name, err, reason(err), tc.kind, tc.reason)
			continue
		}
		if f.Kind == wrong && (len(f.Sub) == 0 || f.Sub[0].Identifier.Value == "") {
			t.Errorf("%s: no sub-fault that names the identifier", tc.name)
		}
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Reason
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("dns:h" + strings.Repeat("x", i%50) + string(rune('a'+i/50)) + ".example.com ")
	}
	return b.String()
}

func TestX5_CommonName(t *testing.T) {
	t.Parallel()
	p := compiled(t, "tls-server")
	// Old devices send a CN and no SAN.
	tpl, err := p.Apply(Request{CSR: csr(t, ecKey(), "CN=A.example.com", "")}, now)
	if err != nil || tpl.Subject != "CN=a.example.com" || !slices.Equal(tpl.Names, ids("dns:a.example.com")) {
		t.Errorf("CN only: %+v %v", tpl, err)
	}
	// Rule A58: an address is not repeated in the CN.
	tpl, err = p.Apply(Request{CSR: csr(t, ecKey(), "CN=10.0.0.1", "ip:10.0.0.1")}, now)
	if err != nil || tpl.Subject != "" || !bytes.Equal(tpl.RawSubject, []byte{0x30, 0}) {
		t.Errorf("CN is an address: %+v %v", tpl, err)
	}
	// Names may come apart from the CSR, as with ACME.
	tpl, err = p.Apply(Request{CSR: csr(t, ecKey(), "CN=a.example.com", ""), Names: ids("dns:a.example.com dns:b.example.com")}, now)
	if err != nil || len(tpl.Names) != 2 {
		t.Errorf("authorised names: %+v %v", tpl, err)
	}
}

func TestSubjectOrderAndFixedFields(t *testing.T) {
	t.Parallel()
	p := compiled(t, "user", func(c *Config) {
		c.Subject.Fields = []Field{{Attribute: "C", Fixed: "CH"}, {Attribute: "O", Fixed: "Example"}, {Attribute: "OU", Max: 2}, {Attribute: "CN", Request: "required"}}
	})
	tpl, err := p.Apply(Request{CSR: csr(t, ecKey(), "CN=Ann,OU=B,OU=A,O=EXAMPLE", "upn:ann@example.com")}, now)
	if err != nil || tpl.Subject != "CN=Ann,OU=B,OU=A,O=Example,C=CH" {
		t.Errorf("%+v %v", tpl, err)
	}
	over, _ := pki.ParseName("CN=Bob")
	tpl, err = p.Apply(Request{CSR: csr(t, ecKey(), "CN=Ann", "upn:ann@example.com"), Subject: &over}, now)
	if err != nil || tpl.Subject != "CN=Bob,O=Example,C=CH" {
		t.Errorf("override: %+v %v", tpl, err)
	}
}

func TestX11_ExtensionsAreCopiedByOIDOnly(t *testing.T) {
	t.Parallel()
	own := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	// G2-31: a CSR that asks for CA:TRUE does not get it.
	ca := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}
	p := compiled(t, "tls-server", func(c *Config) { c.Extensions.Copy = []string{"1.2.3.4"} })
	tpl, err := p.Apply(Request{CSR: csr(t, ecKey(), "", "dns:a.example.com", own, ca)}, now)
	if err != nil || len(tpl.Extra) != 1 || tpl.Extra[0].Critical || !tpl.Extra[0].Id.Equal(own.Id) || tpl.CA {
		t.Errorf("%+v %v", tpl, err)
	}
}

// Only if the request asks and the profile allows.
func TestOCSP_O15_MustStaple(t *testing.T) {
	t.Parallel()
	staple := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Critical: true, Value: []byte{0x30, 3, 2, 1, 5}}
	plain, asks := csr(t, ecKey(), "", "dns:a.example.com"), csr(t, ecKey(), "", "dns:a.example.com", staple)
	allows := func(c *Config) { c.MustStaple = true }
	drops := func(c *Config) { c.Extensions.Others = "drop" }
	for name, tc := range map[string]struct {
		change func(*Config)
		csr    *pki.CSR
		want   bool
		reason string
	}{
		"asked and allowed":   {allows, asks, true, ""},
		"allowed, not asked":  {allows, plain, false, ""},
		"asked, not allowed":  {func(*Config) {}, asks, false, "extension"},
		"asked, not, dropped": {drops, asks, false, ""},
	} {
		tpl, err := compiled(t, "tls-server", tc.change).Apply(Request{CSR: tc.csr}, now)
		if reason(err) != tc.reason || err == nil && (tpl.MustStaple != tc.want || len(tpl.Extra) != 0) {
			t.Errorf("%s: %+v %v", name, tpl, err)
		}
	}
}

func TestX13_Keys(t *testing.T) {
	t.Parallel()
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for _, tc := range []struct {
		keys   []string
		key    crypto.Signer
		reason string
	}{
		{nil, ecKey(), ""}, {nil, rsaKey(), ""},
		{nil, p521, "key_type"},
		{[]string{"ec-p521"}, p521, ""},
		{[]string{"rsa-2048+"}, ecKey(), "key_type"},
		{[]string{"ec-p256"}, rsaKey(), "key_type"},
		{[]string{"rsa-3072+"}, rsaKey(), "key_size"},
		{[]string{"rsa-2048"}, rsaKey(), ""},
		{[]string{"rsa-3072", "rsa-4096"}, rsaKey(), "key_size"},
	} {
		p := compiled(t, "tls-server", func(c *Config) { c.Keys = tc.keys })
		_, err := p.Apply(Request{PublicKey: tc.key.Public(), Names: ids("dns:a.example.com")}, now)
		if reason(err) != tc.reason || err != nil && !fault.Is(err, fault.BadPublicKey) {
			t.Errorf("%v, %s: %v, want %q", tc.keys, pki.KeyAlgorithm(tc.key.Public()), err, tc.reason)
		}
	}
	p := compiled(t, "tls-server")
	if _, err := p.Apply(Request{Names: ids("dns:a.example.com")}, now); reason(err) != "no_key" {
		t.Errorf("no key: %v", err)
	}
	if _, err := p.Apply(Request{CSR: csr(t, ecKey(), "", "dns:a.example.com"), PublicKey: p521.Public()}, now); reason(err) != "key_mismatch" {
		t.Errorf("two keys: %v", err)
	}
}
