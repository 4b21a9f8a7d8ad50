package server

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// A CA that may not certify responders needs signer: issuer (rule X8).
func TestCheckOCSPSignerBelowTheIssuersUsages(t *testing.T) {
	t.Parallel()
	chain, err := readChain(filepath.Join(newLab(t).dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	narrow := *chain[0]
	narrow.Extensions = nil
	for _, e := range chain[0].Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
			e.Value = []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1} // serverAuth alone
		}
		narrow.Extensions = append(narrow.Extensions, e)
	}
	mute := *chain[0]
	mute.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for name, c := range map[string]struct {
		ca     *x509.Certificate
		signer string
		want   string
	}{
		"delegated":                       {chain[0], signerDelegated, ""},
		"issuer":                          {chain[0], signerIssuer, ""},
		"delegated, usage forbidden":      {&narrow, signerDelegated, "cannot certify a responder"},
		"issuer, usage forbidden":         {&narrow, signerIssuer, ""},
		"issuer without digitalSignature": {&mute, signerIssuer, "lacks digitalSignature"},
	} {
		d := &document{}
		checkResponder(d, "issuers[0].ocsp", Issuer{ID: "x", OCSP: OCSP{Signer: c.signer}}, []*x509.Certificate{c.ca, chain[1]})
		text := ""
		if err := d.err(); err != nil {
			text = err.Error()
		}
		if (c.want == "") != (text == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
	}
}

// The responder of the server, with openssl as the client: for its own issuer out
// of the box, and for the root once that has certified a responder.
func TestOCSPServes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	l := newLab(t)
	l.certifyResponder(t)
	l.serve(t)
	chain, err := readChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	issuing := filepath.Join(l.dir, "issuing.pem")
	if err := os.WriteFile(issuing, pki.EncodeChain(chain[0].Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(l.dir, "root.pem")
	_, served := l.get(t, "http://"+l.addr.http+"/roots.pem")
	if len(served) == 0 {
		t.Fatal("nothing is served")
	}
	pair, err := (&pairFile{path: filepath.Join(l.dir, "tls", "https.pem"), secret: Reference("file:secrets/state").secret(l.dir)}).read()
	if err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Join(l.dir, "leaf.pem")
	if err := os.WriteFile(leaf, pki.EncodeChain(pair.Leaf.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a certificate of the issuer": {"-issuer", issuing, "-cert", leaf, "-url", "http://" + l.addr.http + "/ocsp/dev-a-1", "-CAfile", root, "-verify_other", issuing},
		"the issuer's own":            {"-issuer", root, "-cert", issuing, "-url", "http://" + l.addr.http + "/ocsp/dev-root", "-CAfile", root},
	} {
		out, err := exec.CommandContext(t.Context(), "openssl", append([]string{"ocsp", "-no_nonce"}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Response verify OK") || !strings.Contains(string(out), ": good") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if _, ready := l.get(t, "http://"+l.addr.ops+"/readyz"); !strings.Contains(string(ready), "ocsp dev-root") {
		t.Errorf("readyz: %s", ready)
	}
}

// certifyResponder signs a responder with the root's key and configures it.
func (l *lab) certifyResponder(t *testing.T) {
	t.Helper()
	chain, err := readChain(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(ceremonyText)
	passphrase := lines[len(lines)-1]
	found, err := filepath.Glob(filepath.Join(l.dir, "offline", "private", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.Chmod(found[0], 0o600); err != nil {
		t.Fatal(err)
	}
	rootKey, err := keys.Open(t.Context(), keys.Ref("file:"+found[0]), literal(passphrase), keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer rootKey.Close()
	key, err := keys.Generate(keys.Ref("file:"+filepath.Join(l.dir, "keys", "root-ocsp.key")), "ec-p256", Reference("file:secrets/issuer").secret(l.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(99), Subject: pkix.Name{CommonName: "OCSP responder of the root"}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}},
	}, chain[0], key.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "root-ocsp.pem"), pki.EncodeChain(der), 0o600); err != nil {
		t.Fatal(err)
	}
	l.change(t, "    crl: root.crl", "    crl: root.crl\n    ocsp: {certificate: root-ocsp.pem, key: 'file:keys/root-ocsp.key', passphrase: 'file:secrets/issuer'}")
}
