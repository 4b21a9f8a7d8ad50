package ceremony

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func pass(s string) keys.Secret { return func() ([]byte, error) { return []byte(s), nil } }

func newCA(t testing.TB) CA {
	return CA{Dir: filepath.Join(t.TempDir(), "root"), Secret: pass("s"), Now: func() time.Time { return epoch }}
}

const rootName, caName = "CN=Example Root,O=Example,ST=Bremen,C=DE", "CN=Example Issuing CA 1,O=Example,ST=Bremen,C=DE"

func newRoot(t testing.TB, spec RootSpec) CA {
	t.Helper()
	ca := newCA(t)
	if spec.Subject == "" {
		spec.Subject = rootName
	}
	if _, err := Root(t.Context(), ca, spec); err != nil {
		t.Fatal(err)
	}
	return ca
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request(t testing.TB, key crypto.Signer, subject string) *pki.CSR {
	t.Helper()
	csr, err := NewRequest(key, subject)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

var rootLocations = issuer.Locations{CRL: "http://pki.test/crl/root.crl", CAIssuers: "http://pki.test/roots/root.cer"}

func TestG1_12_G1_23_G1_25_G1_30_Root(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	chain, err := ca.Chain()
	if err != nil || len(chain) != 1 {
		t.Fatal(err)
	}
	root := chain[0]
	if want := time.Date(2046, 11, 21, 11, 59, 59, 0, time.UTC); !root.NotAfter.Equal(want) || !root.NotBefore.Equal(epoch) {
		t.Errorf("validity %s to %s: want 20 calendar years", root.NotBefore, root.NotAfter)
	}
	if root.SignatureAlgorithm != x509.ECDSAWithSHA384 || root.CheckSignatureFrom(root) != nil {
		t.Errorf("signature %s", root.SignatureAlgorithm)
	}
	if root.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign|x509.KeyUsageCRLSign || root.MaxPathLen != -1 {
		t.Errorf("key usage %b, path length %d", root.KeyUsage, root.MaxPathLen)
	}
	for name, want := range map[string]os.FileMode{
		"private": 0o700, "private/ca.key": 0o400, "certs": 0o755, "crl": 0o755, "newcerts": 0o755, "csr": 0o755,
		"index.txt": 0o644, "crlnumber": 0o644, "certs/ca.pem": 0o444,
	} {
		if info, err := os.Stat(ca.path(name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v: want %o", name, info.Mode().Perm(), err, want)
		}
	}
	if text, _ := os.ReadFile(ca.path("crlnumber")); string(text) != "1000\n" {
		t.Errorf("crlnumber %q", text)
	}
	if _, err := Root(t.Context(), ca, RootSpec{Subject: rootName}); fault.Of(err).Reason != "exists" {
		t.Errorf("a second root in the folder: %v", err)
	}
}

// Names are UTF8String but for those that RFC 5280 wants printable (G1-29).
func TestG1_29_StringTypes(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	chain, _ := ca.Chain()
	der := string(chain[0].RawSubject)
	if !strings.Contains(der, "\x06\x03\x55\x04\x03\x0c\x0cExample Root") || !strings.Contains(der, "\x06\x03\x55\x04\x06\x13\x02DE") {
		t.Errorf("subject % x", der)
	}
}

func TestG1_12_RootRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec RootSpec
		want string
	}{
		"26 years":       {RootSpec{Subject: rootName, Years: 26}, "validity"},
		"negative":       {RootSpec{Subject: rootName, Years: -1}, "validity"},
		"P-256":          {RootSpec{Subject: rootName, Algorithm: "ec-p256"}, "key_type"},
		"RSA 2048":       {RootSpec{Subject: rootName, Algorithm: "rsa-2048"}, "key_type"},
		"no common name": {RootSpec{Subject: "O=Example"}, ""},
		"no subject":     {RootSpec{}, ""},
		"no name at all": {RootSpec{Subject: "nonsense"}, ""},
	} {
		ca := newCA(t)
		_, err := Root(t.Context(), ca, c.spec)
		if err == nil || fault.Of(err).Reason != c.want && c.want != "" {
			t.Errorf("%s: %v: want reason %q", name, err, c.want)
		}
		if exists(ca.path(certFile)) {
			t.Errorf("%s: a certificate was left behind", name)
		}
	}
	ca := newRoot(t, RootSpec{Years: 26, Override: true})
	if chain, _ := ca.Chain(); chain[0].NotAfter.Year() != 2052 {
		t.Errorf("override: %s", chain[0].NotAfter)
	}
	empty := newCA(t)
	empty.Secret = pass("")
	if _, err := Root(t.Context(), empty, RootSpec{Subject: rootName}); err == nil {
		t.Error("an empty passphrase was taken")
	}
}

// A ceremony that stopped after the key was made goes on with that key.
func TestRootResumes(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	if err := ca.makeDirs(); err != nil {
		t.Fatal(err)
	}
	key, err := keys.Generate(ca.key(), "ec-p384", ca.Secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Root(t.Context(), ca, RootSpec{Subject: rootName, Algorithm: "rsa-4096"}); fault.Of(err).Reason != "key_type" {
		t.Errorf("another algorithm: %v", err)
	}
	other := ca
	other.Secret = pass("other")
	if _, err := Root(t.Context(), other, RootSpec{Subject: rootName}); err == nil {
		t.Error("another passphrase was taken")
	}
	root, err := Root(t.Context(), ca, RootSpec{Subject: rootName})
	if err != nil || !root.PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Errorf("resume: %v", err)
	}
	if info, err := os.Stat(ca.path(keyFile)); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("G1-25: %v", info.Mode())
	}
}

func TestG1_31_SignCA(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	csr := request(t, newKey(t), caName)
	c, err := SignCA(t.Context(), ca, csr, CASpec{Locations: rootLocations, Policies: []string{"1.3.6.1.4.1.99999.1"}})
	if err != nil {
		t.Fatal(err)
	}
	chain, _ := ca.Chain()
	switch {
	case c.CheckSignatureFrom(chain[0]) != nil:
		t.Error("the signature does not verify")
	case !c.MaxPathLenZero || c.MaxPathLen != 0 || !c.IsCA:
		t.Errorf("path length %d", c.MaxPathLen)
	case !c.NotAfter.Equal(time.Date(2036, 11, 21, 11, 59, 59, 0, time.UTC)):
		t.Errorf("notAfter %s: want 10 calendar years", c.NotAfter)
	case len(c.ExtKeyUsage) == 0 || c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign|x509.KeyUsageCRLSign:
		t.Error("usages are wrong")
	case len(c.CRLDistributionPoints) != 1 || len(c.IssuingCertificateURL) != 1 || len(c.Policies) != 1:
		t.Error("locations or policies are missing")
	}
	serial := strings.ToUpper(string(pki.SerialFromBig(c.SerialNumber)))
	for _, d := range []string{"newcerts/", "csr/"} {
		if !exists(ca.path(d + serial + ".pem")) {
			t.Errorf("%s%s.pem is missing", d, serial)
		}
	}
	index, err := os.ReadFile(ca.path(indexFile))
	if want := "V\t361121115959Z\t\t" + serial + "\tunknown\t/C=DE/ST=Bremen/O=Example/CN=Example Issuing CA 1\n"; err != nil || string(index) != want {
		t.Errorf("index.txt %q: want %q", index, want)
	}
}

// csrWith makes a request with the given extensions.
func csrWith(t *testing.T, tmpl x509.CertificateRequest) *pki.CSR {
	t.Helper()
	name, err := pki.ParseName(caName)
	if err != nil {
		t.Fatal(err)
	}
	if tmpl.RawSubject, err = name.DER(); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestG1_16_G1_28_SignCARefuses(t *testing.T) {
	t.Parallel()
	ca := newRoot(t, RootSpec{})
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// CA:FALSE in both spellings: the default left out, and written.
	leaf := csrWith(t, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasic, Value: []byte{0x30, 0}}}})
	leafToo := csrWith(t, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasic, Value: []byte{0x30, 3, 1, 1, 0}}}})
	broken := csrWith(t, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasic, Value: []byte{0x31, 0}}}})
	key := newKey(t)
	for name, c := range map[string]struct {
		csr    *pki.CSR
		spec   CASpec
		reason string
	}{
		"CA:FALSE":            {leaf, CASpec{}, "not_a_ca"},
		"CA:FALSE spelled":    {leafToo, CASpec{}, "not_a_ca"},
		"broken constraints":  {broken, CASpec{}, "not_a_ca"},
		"alternative name":    {csrWith(t, x509.CertificateRequest{DNSNames: []string{"www.test"}}), CASpec{}, "not_a_ca"},
		"other organisation":  {request(t, key, "CN=x,O=Other,ST=Bremen,C=DE"), CASpec{}, "name_policy"},
		"other country":       {request(t, key, "CN=x,O=Example,ST=Bremen,C=FR"), CASpec{}, "name_policy"},
		"no state":            {request(t, key, "CN=x,O=Example,C=DE"), CASpec{}, "name_policy"},
		"no common name":      {request(t, key, "O=Example,ST=Bremen,C=DE"), CASpec{}, "name_policy"},
		"not in the policy":   {request(t, key, "CN=x,L=Bremen,O=Example,ST=Bremen,C=DE"), CASpec{}, "name_policy"},
		"as long as the root": {request(t, key, caName), CASpec{Years: 20}, ""},
		"negative":            {request(t, key, caName), CASpec{Years: -1}, "validity"},
		"before the root":     {request(t, key, caName), CASpec{NotBefore: epoch.Add(-time.Hour)}, ""},
		"RSA 2048":            {request(t, weak, caName), CASpec{}, ""},
		"https location":      {request(t, key, caName), CASpec{Locations: issuer.Locations{CRL: "https://x.test/"}}, ""},
		"bad policy OID":      {request(t, key, caName), CASpec{Policies: []string{"x"}}, ""},
		"bad attribute":       {request(t, key, caName), CASpec{Names: calaw.NamePolicy{Match: []string{"no such"}}}, ""},
	} {
		if _, err := SignCA(t.Context(), ca, c.csr, c.spec); err == nil || c.reason != "" && fault.Of(err).Reason != c.reason {
			t.Errorf("%s: %v: want reason %q", name, err, c.reason)
		}
	}
	if index, err := ca.Index(); err != nil || len(index) != 0 {
		t.Errorf("refused requests are in the index: %v %v", index, err)
	}
	wrong := ca
	wrong.Secret = pass("wrong")
	if _, err := SignCA(t.Context(), wrong, request(t, key, caName), CASpec{}); err == nil {
		t.Error("a wrong passphrase was taken")
	}
	if _, err := SignCA(t.Context(), newCA(t), request(t, key, caName), CASpec{}); err == nil {
		t.Error("an empty folder signed")
	}
	free := CASpec{Names: calaw.NamePolicy{Supplied: []string{"CN"}, Optional: []string{"O", "C"}}}
	if _, err := SignCA(t.Context(), ca, request(t, key, "CN=x,O=Other,C=FR"), free); err != nil {
		t.Errorf("another policy: %v", err)
	}
}
