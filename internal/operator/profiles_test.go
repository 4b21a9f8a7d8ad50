package operator_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/test/need"
)

// profileCase is one certificate that a built-in profile issues.
type profileCase struct {
	profile string
	request x509.CertificateRequest
	names   []pki.Identifier // a SAN that crypto/x509 cannot write
	eku     string           // as openssl prints it
	want    []string         // in openssl's text
	rsa     bool             // the profile takes no other keys
}

var profileCases = []profileCase{
	{
		profile: "tls-server", eku: "TLS Web Server Authentication",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "www.a.test"}, DNSNames: []string{"www.a.test", "*.a.test"}, IPAddresses: []net.IP{{192, 0, 2, 7}}},
		want:    []string{"DNS:www.a.test, DNS:*.a.test, IP Address:192.0.2.7", "CA Issuers - URI:http://ca.test/issuers/web-a-1.cer", "URI:http://ca.test/crl/web-a-1.crl", "OCSP - URI:http://ca.test/ocsp/web-a-1"},
	},
	{
		profile: "tls-server-short", eku: "TLS Web Server Authentication",
		request: x509.CertificateRequest{DNSNames: []string{"short.a.test"}},
		want:    []string{"DNS:short.a.test"},
	},
	{
		profile: "tls-client", eku: "TLS Web Client Authentication",
		request: x509.CertificateRequest{DNSNames: []string{"client.a.test"}},
		want:    []string{"DNS:client.a.test"},
	},
	{
		profile: "EndEntityCertificate/V1", eku: "TLS Web Server Authentication, TLS Web Client Authentication",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "Anything", Organization: []string{"Example"}}, DNSNames: []string{"any.a.test"}},
		want:    []string{"O = Example, CN = Anything", "DNS:any.a.test"},
	},
	{
		profile: "code-signing", eku: "Code Signing",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "Example Builds", Organization: []string{"Example"}, Country: []string{"SE"}}},
		want:    []string{"CN = Example Builds"},
	},
	{
		profile: "user", eku: "TLS Web Client Authentication, E-mail Protection",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "Ann Example", SerialNumber: "E-4711"}},
		names:   []pki.Identifier{{Type: pki.Email, Value: "ann@a.test"}, {Type: pki.UPN, Value: "ann@corp.test"}},
		want:    []string{"serialNumber = E-4711", "email:ann@a.test", "othername: UPN", "ann@corp.test"},
	},
	{
		profile: "operator", eku: "TLS Web Client Authentication",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "Ann Example", SerialNumber: "E-4711"}},
		names:   []pki.Identifier{{Type: pki.Email, Value: "ann@a.test"}},
		want:    []string{"serialNumber = E-4711", "email:ann@a.test", "Digital Signature"},
	},
	{
		profile: "device", eku: "TLS Web Client Authentication",
		request: x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "router-7", SerialNumber: "SN-0007"}, URIs: []*url.URL{{Scheme: "urn", Opaque: "example:device:7"}},
		},
		want: []string{"serialNumber = SN-0007", "URI:urn:example:device:7"},
	},
	{
		profile: "network-device", eku: "TLS Web Client Authentication",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "R1", ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 2}, Value: "R1.a.test"},
			{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 8}, Value: "192.0.2.1"},
		}}},
		want: []string{"unstructuredName = R1.a.test", "unstructuredAddress = 192.0.2.1"},
	},
	{
		profile: "workload", eku: "TLS Web Server Authentication, TLS Web Client Authentication",
		request: x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "a.test", Path: "/billing"}}},
		want:    []string{"URI:spiffe://a.test/billing"},
	},
	{
		profile: "ocsp-signing", eku: "OCSP Signing",
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "OCSP web-a-1"}},
		want:    []string{"OCSP No Check"},
	},
	{
		profile: "est-server", eku: "TLS Web Server Authentication, CMC Registration Authority",
		request: x509.CertificateRequest{DNSNames: []string{"est.a.test"}},
		want:    []string{"DNS:est.a.test"},
	},
	{
		profile: "scep-ra", eku: "TLS Web Server Authentication", rsa: true,
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "SCEP RA"}},
		want:    []string{"Digital Signature, Key Encipherment"},
	},
	{
		profile: "scep-ra-signing", eku: "TLS Web Server Authentication", rsa: true,
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "SCEP RA (signature)"}},
		want:    []string{"Digital Signature"},
	},
	{
		profile: "scep-ra-decryption", eku: "TLS Web Server Authentication", rsa: true,
		request: x509.CertificateRequest{Subject: pkix.Name{CommonName: "SCEP RA (encryption)"}},
		want:    []string{"Key Encipherment"},
	},
}

// Every built-in profile is issued by `cert issue` and read by openssl.
func TestProfiles(t *testing.T) {
	t.Parallel()
	openssl := need.Program(t, "openssl")
	s := admintest.Start(t, nil, "web-a-1")
	seen := map[string]bool{}
	for _, c := range profileCases {
		seen[c.profile] = true
		t.Run(c.profile, func(t *testing.T) { // in turn: cobra's commands print to one root
			text := issueAndRead(t, openssl, s, c)
			for _, want := range append(c.want, "X509v3 Subject Key Identifier", "X509v3 Authority Key Identifier") {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not show %q in\n%s", want, text)
				}
			}
			_, after, _ := strings.Cut(text, "X509v3 Extended Key Usage:")
			if line, _, _ := strings.Cut(strings.TrimSpace(after), "\n"); strings.TrimSpace(line) != c.eku {
				t.Errorf("extended key usage %q, want %q", line, c.eku)
			}
			revocable := c.profile != "tls-server-short" && c.profile != "ocsp-signing"
			if strings.Contains(text, "CRL Distribution Points") != revocable {
				t.Errorf("CRL locations: %v, want %v", !revocable, revocable)
			}
		})
	}
	for name, cfg := range profile.BuiltIn() {
		if !seen[name] && !cfg.CA {
			t.Errorf("built-in profile %s has no case", name)
		}
	}
}

// issueAndRead issues with the command line and returns openssl's text.
func issueAndRead(t *testing.T, openssl string, s *admintest.Server, c profileCase) string {
	t.Helper()
	if c.names != nil {
		san, err := pki.MarshalSAN(c.names)
		if err != nil {
			t.Fatal(err)
		}
		c.request.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}
	}
	csr, out := filepath.Join(t.TempDir(), "csr.pem"), filepath.Join(t.TempDir(), "cert.pem")
	text := []byte(admintest.CSROf(t, &c.request))
	if c.rsa {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &c.request, key)
		if err != nil {
			t.Fatal(err)
		}
		text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	if err := os.WriteFile(csr, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := root()
	var said bytes.Buffer
	cmd.SetOut(&said)
	cmd.SetErr(&said)
	cmd.SetArgs([]string{"cert", "issue", "--socket", s.Socket, "--profile", c.profile, "--csr", csr, "--out", out})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	rootFile := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(rootFile, pki.EncodeChain(s.Root.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.CommandContext(t.Context(), openssl, "verify", "-CAfile", rootFile, "-untrusted", out, out).CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, text)
	}
	shown, err := exec.CommandContext(t.Context(), openssl, "x509", "-in", out, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl x509: %v\n%s", err, shown)
	}
	return string(shown)
}
