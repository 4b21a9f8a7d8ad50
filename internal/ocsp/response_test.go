package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/need"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func writePEM(t testing.TB, dir, name string, certs ...*x509.Certificate) string {
	t.Helper()
	var text bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	return write(t, dir, name, text.Bytes())
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := attempt(program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func attempt(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	return string(out), err
}

var golden = time.Date(2026, 3, 1, 12, 30, 15, 987654321, time.FixedZone("there", 3600))

func goldenCertID(serial string) []byte {
	out, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Name, Key []byte
		Serial    *big.Int
	}{
		pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue},
		bytes.Repeat([]byte{0x11}, 32), bytes.Repeat([]byte{0x22}, 32), pki.Serial(serial).Big(),
	})
	if err != nil {
		panic(err)
	}
	return out
}

// What is signed, octet for octet.
//
//	xxd -r -p testdata/revoked.hex | openssl asn1parse -inform DER -i
func TestOCSP_O5_O8_O13_O16_GoldenResponses(t *testing.T) {
	t.Parallel()
	single := func(status CertStatus, edit func(*Single)) Single {
		s := Single{CertID: goldenCertID("4001"), Status: status, ThisUpdate: golden, NextUpdate: golden.Add(24 * time.Hour)}
		if edit != nil {
			edit(&s)
		}
		return s
	}
	revoked := func(reason pki.Reason) Single {
		return single(Revoked, func(s *Single) { s.RevokedAt, s.Reason = golden.Add(-time.Hour), reason })
	}
	for name, d := range map[string]Data{
		"good":        {Responses: []Single{single(Good, nil)}},
		"revoked":     {Responses: []Single{revoked(pki.KeyCompromise)}},
		"unspecified": {Responses: []Single{revoked(pki.Unspecified)}},
		"unknown":     {Responses: []Single{single(Unknown, nil)}},
		"not-issued":  {Responses: []Single{single(NotIssued, nil)}},
		"several":     {Responses: []Single{single(Good, nil), revoked(pki.CertificateHold), single(NotIssued, nil)}, Nonce: []byte("0123456789abcdef")},
		"nonce":       {Responses: []Single{single(Good, nil)}, Nonce: bytes.Repeat([]byte{0xff}, 128)},
		"archive":     {Responses: []Single{single(Good, func(s *Single) { s.ArchiveCutoff = golden.AddDate(-7, 0, 0) })}},
	} {
		copy(d.Responder[:], "key hash of 20 octet")
		d.ProducedAt = golden
		der, err := d.Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		compare(t, name, der)
	}
}

func compare(t *testing.T, name string, der []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	var text bytes.Buffer
	for line := der; len(line) > 0; line = line[min(32, len(line)):] {
		fmt.Fprintf(&text, "%x\n", line[:min(32, len(line))])
	}
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, text.Bytes()) {
		t.Errorf("%s: not what %s holds; -update if it is meant", name, path)
	}
}

// A whole response of a fixed Ed25519 key is the same in every run.
func TestOCSP_O1_O9_GoldenMessages(t *testing.T) {
	t.Parallel()
	for status, want := range map[ResponseStatus]string{
		MalformedRequest: "30030a0101", InternalError: "30030a0102", TryLater: "30030a0103", Unauthorized: "30030a0106",
	} {
		if got := hex.EncodeToString(status.body()); got != want {
			t.Errorf("%s: %s", status, got)
		}
	}
	key := &signer{Signer: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32))}
	l := &lab{t: t, root: smallCA(t)}
	ca := issuancetest.Certify(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: caUsage, NotBefore: golden, NotAfter: golden.AddDate(10, 0, 0), SubjectKeyId: []byte{1}}, l.root, key.Public(), newKey(t, ""))
	r, err := issuer.NewResponder(ca, respond(t, ca, key, key), key)
	if err != nil {
		t.Fatal(err)
	}
	d := Data{Responder: r.KeyHash(), ProducedAt: golden, Responses: []Single{{
		CertID: goldenCertID("4001"), ThisUpdate: golden, NextUpdate: golden.Add(time.Hour),
	}}}
	tbs, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	basic, err := r.SignOCSP(t.Context(), tbs, true)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := wrap(basic)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "ed25519-message", whole)
}

var noCheck = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}

// respond makes a responder certificate.
func respond(t testing.TB, ca *x509.Certificate, caKey, key crypto.Signer, edit ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "Responder"}, NotBefore: ca.NotBefore, NotAfter: ca.NotBefore.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, ExtraExtensions: []pkix.Extension{noCheck},
	}
	for _, e := range edit {
		e(template)
	}
	if s, ok := caKey.(*signer); ok {
		caKey = s.Signer
	}
	return issuancetest.Certify(t, template, ca, key.Public(), caKey)
}

func TestOCSP_O6_WhoMaySign(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	key := &signer{Signer: newKey(t, "")}
	good := respond(t, l.ca, l.key, key)
	if _, err := issuer.NewResponder(l.ca, good, key); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{
		"another purpose": respond(t, l.ca, l.key, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"no nocheck":      respond(t, l.ca, l.key, key, func(c *x509.Certificate) { c.ExtraExtensions = nil }),
		"no signing":      respond(t, l.ca, l.key, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }),
		"a CA":            respond(t, l.ca, l.key, key, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
		"of the root":     respond(t, l.root, l.rootKey, key),
		"another signer":  respond(t, l.ca, newKey(t, ""), key),
		"not its own key": respond(t, l.ca, l.key, newKey(t, "")),
	} {
		if _, err := issuer.NewResponder(l.ca, c, key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A responder signs its own responses and nothing else.
	r, err := issuer.NewResponder(l.ca, good, key)
	if err != nil {
		t.Fatal(err)
	}
	other := Data{ProducedAt: golden}
	tbs, _ := other.Encode()
	for name, octets := range map[string][]byte{"a certificate": good.RawTBSCertificate, "a foreign response": tbs, "nothing": nil} {
		if _, err := r.SignOCSP(t.Context(), octets, true); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	if key.used.Load() != 0 {
		t.Error("the key was used")
	}
}

// sample is one response that other programs read.
type sample struct {
	name    string
	status  string // as openssl prints it
	singles []Single
	nonce   []byte
}

func samples(ca *x509.Certificate, from time.Time) []sample {
	id := func(n int64) []byte { return certIDOf(ca, n) }
	to := from.Add(time.Hour)
	revoked := func(n int64, reason pki.Reason) Single {
		return Single{CertID: id(n), Status: Revoked, RevokedAt: from.Add(-time.Hour), Reason: reason, ThisUpdate: from, NextUpdate: to}
	}
	good := Single{CertID: id(5), ThisUpdate: from, NextUpdate: to}
	return []sample{
		{"good", "good", []Single{good}, nil},
		{"revoked", "revoked", []Single{revoked(5, pki.KeyCompromise)}, nil},
		{"unspecified", "revoked", []Single{revoked(5, pki.Unspecified)}, nil},
		{"unknown", "unknown", []Single{{CertID: id(5), Status: Unknown, ThisUpdate: from, NextUpdate: to}}, nil},
		{"extended-revoked", "revoked", []Single{{CertID: id(5), Status: NotIssued, ThisUpdate: from, NextUpdate: to}}, nil},
		{"several", "good", []Single{revoked(4, pki.Superseded), good}, nil},
		{"nonce", "good", []Single{good}, bytes.Repeat([]byte{0x5a}, 32)},
		{"archive cutoff", "good", []Single{{CertID: id(5), ThisUpdate: from, NextUpdate: to, ArchiveCutoff: from.AddDate(-1, 0, 0)}}, nil},
	}
}

func certIDOf(ca *x509.Certificate, n int64) []byte {
	r, err := ParseRequest(ask{ca: ca, hash: crypto.SHA1, serials: []*big.Int{big.NewInt(n)}}.der())
	if err != nil {
		panic(err)
	}
	return r.CertIDs[0].Raw
}

// TestReaders has every kind of response read by openssl, GnuTLS and
// x/crypto/ocsp, of every kind of signer; docs/ocsp.md has the table.
func TestReaders(t *testing.T) {
	need.Programs(t, "openssl", "ocsptool")
	t.Parallel()
	dir := t.TempDir()
	table := map[string]bool{}
	for _, alg := range []string{"ec-p256", "ec-p384", "rsa", "ed25519"} {
		l := newLab(t, storetest.SQLite(t), alg)
		key := &signer{Signer: newKey(t, alg)}
		delegate, err := issuer.NewResponder(l.ca, respond(t, l.ca, l.key, key), key)
		if err != nil {
			t.Fatal(err)
		}
		own, err := l.issuer.Responder()
		if err != nil {
			t.Fatal(err)
		}
		ca := writePEM(t, dir, alg+"-ca.pem", l.ca)
		chain := writePEM(t, dir, alg+"-chain.pem", l.root, l.ca)
		for who, r := range map[string]*issuer.Responder{"issuer": own, "delegate": delegate} {
			for _, s := range samples(l.ca, time.Now().Add(-time.Second)) {
				name := alg + " " + who + " " + s.name
				der := signed(t, r, s)
				file := write(t, dir, strings.ReplaceAll(name, " ", "-"), der)
				table["openssl "+name] = readByOpenSSL(t, name, file, ca, chain, s)
				table["gnutls "+name] = readByGnuTLS(t, name, file, ca, chain, r.Certificate(), dir)
				table["x/crypto "+name] = readByGo(t, name, der, l.ca, s, alg)
			}
		}
	}
	n := 0
	for _, ok := range table {
		if ok {
			n++
		}
	}
	t.Logf("%d of %d readings", n, len(table))
}

func signed(t *testing.T, r *issuer.Responder, s sample) []byte {
	t.Helper()
	d := Data{Responder: r.KeyHash(), ProducedAt: s.singles[0].ThisUpdate, Responses: s.singles, Nonce: s.nonce}
	tbs, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	basic, err := r.SignOCSP(context.Background(), tbs, true)
	if err != nil {
		t.Fatal(err)
	}
	der, err := wrap(basic)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func readByOpenSSL(t *testing.T, name, file, ca, chain string, s sample) bool {
	t.Helper()
	out, err := attempt("openssl", "ocsp", "-respin", file, "-issuer", ca, "-serial", "5", "-CAfile", chain, "-no_nonce")
	if err != nil || !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "5: "+s.status) {
		t.Errorf("openssl, %s: %v\n%s", name, err, out)
		return false
	}
	return true
}

func readByGnuTLS(t *testing.T, name, file, ca, chain string, delegate *x509.Certificate, dir string) bool {
	t.Helper()
	signer := ca
	if delegate != nil {
		signer = writePEM(t, dir, "delegate.pem", delegate)
	}
	_ = chain
	out, err := attempt("ocsptool", "--verify-response", "--load-response", file, "--load-signer", signer)
	if err != nil || !strings.Contains(out, "Success") {
		t.Errorf("ocsptool, %s: %v\n%s", name, err, out)
		return false
	}
	return true
}

func readByGo(t *testing.T, name string, der []byte, ca *x509.Certificate, s sample, alg string) bool {
	t.Helper()
	r, err := xocsp.ParseResponseForCert(der, &x509.Certificate{SerialNumber: big.NewInt(5)}, ca)
	if err != nil {
		// It knows no Ed25519.
		if alg != "ed25519" {
			t.Errorf("x/crypto/ocsp, %s: %v", name, err)
		}
		return false
	}
	if want := map[string]int{"good": xocsp.Good, "revoked": xocsp.Revoked, "unknown": xocsp.Unknown}[s.status]; r.Status != want {
		t.Errorf("x/crypto/ocsp, %s: status %d", name, r.Status)
	}
	return true
}
