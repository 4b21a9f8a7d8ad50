package ceremony

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/test/need"
)

// openssl runs the command and returns what it prints.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryOpenSSL(t, args...)
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryOpenSSL(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := need.Program(t, "openssl")
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func wants(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	// openssl breaks and indents lines as it likes.
	flat := strings.Join(strings.Fields(text), " ")
	for _, p := range parts {
		if !strings.Contains(flat, p) {
			t.Errorf("%s: %q is missing in\n%s", what, p, text)
		}
	}
}

// today is epoch's stand-in where openssl looks at the clock of the machine.
func today() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

// The folder is one that openssl reads, certificate by certificate, and can carry
// on with: its own revocation and list follow ours, ours follow its.
func TestG1_30_G1_31_G1_32_OpenSSLReadsTheFolder(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	ca.Now = today
	if _, err := Root(t.Context(), ca, RootSpec{Subject: rootName}); err != nil {
		t.Fatal(err)
	}
	c := signCA(t, ca)
	second := signCA(t, ca)
	makeCRL(t, ca)
	rootPEM, serial := ca.path(certFile), strings.ToUpper(string(pki.SerialFromBig(c.SerialNumber)))
	caPEM := ca.path("newcerts/" + serial + ".pem")

	text := openssl(t, "x509", "-in", rootPEM, "-noout", "-text")
	wants(t, "root", text, "CA:TRUE", "ecdsa-with-SHA384", "X509v3 Basic Constraints: critical",
		"X509v3 Key Usage: critical Digital Signature, Certificate Sign, CRL Sign", "X509v3 Subject Key Identifier", "X509v3 Authority Key Identifier")
	if strings.Contains(text, "pathlen") {
		t.Error("G1-30: the root has a path length")
	}
	wants(t, "issuing CA", openssl(t, "x509", "-in", caPEM, "-noout", "-text"), "CA:TRUE, pathlen:0", "URI:"+rootLocations.CRL)
	openssl(t, "x509", "-in", rootPEM, "-noout", "-checkend", "630000000")
	openssl(t, "req", "-in", ca.path("csr/"+serial+".pem"), "-noout", "-verify")
	openssl(t, "verify", "-x509_strict", "-CAfile", rootPEM, rootPEM)
	wants(t, "crl", openssl(t, "crl", "-inform", "DER", "-in", ca.path(crlFile), "-noout", "-text", "-CAfile", rootPEM),
		"verify OK", "No Revoked Certificates", "X509v3 CRL Number: 4096")
	crlPEM := ca.path(crlFile + ".pem")
	openssl(t, "verify", "-x509_strict", "-crl_check", "-CAfile", rootPEM, "-CRLfile", crlPEM, caPEM)

	config := filepath.Join(t.TempDir(), "ca.cnf")
	if err := os.WriteFile(config, []byte(fmt.Sprintf("[ca]\ndefault_ca=c\n[c]\ndir=%s\ndatabase=$dir/index.txt\ncrlnumber=$dir/crlnumber\n"+
		"certificate=$dir/certs/ca.pem\nprivate_key=$dir/private/ca.key\ndefault_md=sha384\ndefault_crl_days=30\nunique_subject=no\n", ca.Dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _ := tryOpenSSL(t, "ca", "-config", config, "-status", serial)
	wants(t, "status", status, serial+"=Valid (V)")
	since := epoch.AddDate(0, 0, -3)
	if err := Revoke(t.Context(), ca, Revocation{Serial: pki.SerialFromBig(c.SerialNumber), Reason: pki.KeyCompromise, InvalidityAt: &since}); err != nil {
		t.Fatal(err)
	}
	other := strings.ToUpper(string(pki.SerialFromBig(second.SerialNumber)))
	openssl(t, "ca", "-config", config, "-passin", "pass:s", "-revoke", ca.path("newcerts/"+other+".pem"), "-crl_reason", "CACompromise")
	theirs := openssl(t, "ca", "-config", config, "-passin", "pass:s", "-gencrl")
	block, _ := pem.Decode([]byte(theirs[strings.Index(theirs, "-----BEGIN"):]))
	their, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || len(their.RevokedCertificateEntries) != 2 {
		t.Fatalf("the list that openssl made: %v", err)
	}
	ca.Now = time.Now // openssl's revocation is from just now
	list := makeCRL(t, ca)
	if len(list.RevokedCertificateEntries) != 2 || list.Number.Cmp(their.Number) <= 0 {
		t.Fatalf("%d entries, number %x after openssl's %x", len(list.RevokedCertificateEntries), list.Number, their.Number)
	}
	wants(t, "crl", openssl(t, "crl", "-inform", "DER", "-in", ca.path(crlFile), "-noout", "-text", "-CAfile", rootPEM),
		"verify OK", serial, other, "Key Compromise", "CA Compromise", "Invalidity Date")
	if out, err := tryOpenSSL(t, "verify", "-crl_check", "-CAfile", rootPEM, "-CRLfile", crlPEM, caPEM); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("a revoked CA verifies: %s", out)
	}
}

func TestG1_24_RSARoot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("makes an RSA key of 4096 bits")
	}
	ca := newRoot(t, RootSpec{Algorithm: "rsa-4096"})
	wants(t, "root", openssl(t, "x509", "-in", ca.path(certFile), "-noout", "-text"), "sha384WithRSAEncryption", "4096 bit")
	openssl(t, "rsa", "-in", ca.path(keyFile), "-passin", "pass:s", "-check", "-noout")
}

// memory is a CA key that is not in a folder.
type memory struct{ crypto.Signer }

func (m memory) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return m.Sign(rand.Reader, digest, opts)
}

// constrained returns an issuing CA below a root that permits private names only.
func constrained(t *testing.T) (CA, *issuer.Issuer) {
	t.Helper()
	ca := newCA(t)
	ca.Now = today
	if _, err := Root(t.Context(), ca, RootSpec{Subject: rootName, NameConstraints: PrivateNames()}); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	c, err := SignCA(t.Context(), ca, request(t, key, caName), CASpec{Locations: rootLocations})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Chain()
	if err != nil {
		t.Fatal(err)
	}
	i, err := issuer.New("dev-1", append([]*x509.Certificate{c}, chain...), memory{key}, issuer.Locations{})
	if err != nil {
		t.Fatal(err)
	}
	return ca, i
}

// leaf issues a certificate of a built-in profile without asking hierarchy.
func leaf(t *testing.T, i *issuer.Issuer, name, subject string, names []pki.Identifier) *x509.Certificate {
	t.Helper()
	p, err := profile.Compile(name, profile.BuiltIn()[name])
	if err != nil {
		t.Fatal(err)
	}
	dn, err := pki.ParseName(subject)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := p.Apply(profile.Request{PublicKey: newKey(t).Public(), Subject: &dn, Names: names}, today())
	if err != nil {
		t.Fatal(err)
	}
	tmpl.NotBefore = today()
	d, err := i.Draft(tmpl, pki.NewSerial())
	if err != nil {
		t.Fatal(err)
	}
	der, err := i.Sign(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Both of the verifiers that most programs use take what the constrained root
// permits, for every built-in profile, and refuse what it does not.
func TestPrivateNames(t *testing.T) {
	t.Parallel()
	ca, i := constrained(t)
	dir := t.TempDir()
	chainPEM := filepath.Join(dir, "chain.pem")
	if err := os.WriteFile(chainPEM, pki.EncodeChain(i.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, "root", openssl(t, "x509", "-in", ca.path(certFile), "-noout", "-text"),
		"X509v3 Name Constraints: critical Permitted: DNS:localhost DNS:test DNS:internal IP:127.0.0.0/255.0.0.0")
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(i.Chain()[1])
	middle.AddCert(i.Certificate())
	for n, c := range []struct {
		profile, subject string
		names            []pki.Identifier
		ok               bool
	}{
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "localhost"}, {Type: pki.IP, Value: "127.0.0.1"}, {Type: pki.IP, Value: "::1"}}, true},
		{"tls-server", "CN=a.localhost", []pki.Identifier{{Type: pki.DNS, Value: "a.localhost"}, {Type: pki.DNS, Value: "*.lab.test"}}, true},
		{"tls-server-short", "", []pki.Identifier{{Type: pki.DNS, Value: "db.internal"}, {Type: pki.IP, Value: "192.168.1.7"}}, true},
		{"tls-client", "", []pki.Identifier{{Type: pki.Email, Value: "agent@example.com"}}, true},
		{"code-signing", "CN=Example GmbH,O=Example,C=DE", []pki.Identifier{}, true},
		{"user", "CN=Erika Mustermann,O=Example", []pki.Identifier{{Type: pki.Email, Value: "erika@example.com"}, {Type: pki.UPN, Value: "erika@corp.example.com"}}, true},
		{"device", "CN=Sensor 7,serialNumber=7", []pki.Identifier{{Type: pki.DNS, Value: "sensor-7.internal"}, {Type: pki.PermanentID, Value: "7"}}, true},
		{"workload", "", []pki.Identifier{{Type: pki.URI, Value: "spiffe://example.org/web"}}, true},
		{"ocsp-signing", "CN=OCSP 1,O=Example", []pki.Identifier{}, true},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "www.example.com"}}, false},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "notlocalhost"}}, false},
		{"tls-server", "", []pki.Identifier{{Type: pki.DNS, Value: "a.test"}, {Type: pki.IP, Value: "8.8.8.8"}}, false},
		{"tls-server", "", []pki.Identifier{{Type: pki.IP, Value: "2001:db8::1"}}, false},
	} {
		x := leaf(t, i, c.profile, c.subject, c.names)
		_, err := x.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if (err == nil) != c.ok {
			t.Errorf("%s %v: Go says %v", c.profile, c.names, err)
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.pem", n))
		if err := os.WriteFile(path, pki.EncodeChain(x.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := tryOpenSSL(t, "verify", "-x509_strict", "-CAfile", ca.path(certFile), "-untrusted", chainPEM, path)
		if (err == nil) != c.ok || !c.ok && !strings.Contains(out, "permitted subtree violation") {
			t.Errorf("%s %v: openssl says %s", c.profile, c.names, out)
		}
	}
}

// Go's verifier refuses every URI without a host, such as a URN, below any name
// constraint at all, even one that says nothing of URIs. openssl does not. If
// this fails, the exception has gone and the documentation can say so.
func TestPrivateNamesAndURNs(t *testing.T) {
	t.Parallel()
	ca, i := constrained(t)
	x := leaf(t, i, "device", "CN=Sensor 7", []pki.Identifier{{Type: pki.URI, Value: "urn:dev:ops:32473-7"}})
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(i.Chain()[1])
	middle.AddCert(i.Certificate())
	if _, err := x.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("Go takes a URN below name constraints")
	}
	dir := t.TempDir()
	for name, der := range map[string][]byte{"ca.pem": i.Certificate().Raw, "leaf.pem": x.Raw} {
		if err := os.WriteFile(filepath.Join(dir, name), pki.EncodeChain(der), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, "verify", "-x509_strict", "-CAfile", ca.path(certFile), "-untrusted", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "leaf.pem"))
}

func TestPrivateNamesAreCanonical(t *testing.T) {
	t.Parallel()
	for _, s := range PrivateNames().Permitted.IP {
		if p, err := netip.ParsePrefix(s); err != nil || p.Masked().String() != s {
			t.Errorf("%s: %v", s, err)
		}
	}
}
