package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

// container is a chain of two and the key of the first in a folder.
type container struct {
	dir         string
	ca, root    []byte
	chain, keys []byte // PEM
}

func newContainer(t testing.TB) *container {
	t.Helper()
	c := &container{dir: t.TempDir()}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := func(cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now(),
			NotAfter: time.Now().AddDate(1, 0, 0),
			IsCA:     true, BasicConstraintsValid: true,
		}
	}
	if c.root, err = x509.CreateCertificate(rand.Reader, template("Root"), template("Root"), rootKey.Public(),
		rootKey); err != nil {
		t.Fatal(err)
	}
	if c.ca, err = x509.CreateCertificate(rand.Reader, template("A"), template("Root"), key.Public(),
		rootKey); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c.chain = pki.EncodeChain(c.ca, c.root)
	c.keys = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, text := range map[string][]byte{"chain.pem": c.chain, "back.pem": pki.EncodeChain(c.root, c.ca),
		"key.pem": c.keys} {
		if err := os.WriteFile(filepath.Join(c.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// openssl runs a command that writes the file "out" and returns that.
func (c *container) openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", append(args, "-out", "out")...)
	cmd.Dir = c.dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, text)
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func toUTF16(text []byte, order binary.AppendByteOrder) []byte {
	out := order.AppendUint16(nil, 0xfeff)
	for _, u := range utf16.Encode([]rune(string(text))) {
		out = order.AppendUint16(out, u)
	}
	return out
}

// TestFR19_Containers: what people have is read, or named with the command that converts
// it; nothing in a file is passed over in silence.
func TestFR19_Containers(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		need.Missing(t, "openssl")
	}
	c := newContainer(t)
	one := pki.EncodeChain(c.ca)
	crlf := bytes.ReplaceAll(c.chain, []byte("\n"), []byte("\r\n"))
	for name, x := range map[string]struct {
		text []byte
		want string // of the error; "" is the whole chain
	}{
		"PEM": {c.chain, ""}, "CRLF": {crlf, ""}, "text between": {append([]byte("A, by Root\n"), c.chain...), ""},
		"byte order mark":      {append([]byte("\xef\xbb\xbf"), c.chain...), ""},
		"UTF-16":               {toUTF16(crlf, binary.LittleEndian), ""},
		"UTF-16 the other way": {toUTF16(c.chain, binary.BigEndian), ""},
		"DER":                  {slices.Concat(c.ca, c.root), ""},
		"base64":               {[]byte(base64.StdEncoding.EncodeToString(slices.Concat(c.ca, c.root))), ""},
		"base64 in lines": {bytes.Join(slices.Collect(slices.Chunk([]byte(base64.StdEncoding.EncodeToString(
			slices.Concat(c.ca, c.root))), 64)), []byte("\r\n")), ""},
		"p7b":           {c.openssl(t, "crl2pkcs7", "-nocrl", "-certfile", "chain.pem", "-outform", "DER"), ""},
		"p7b backwards": {c.openssl(t, "crl2pkcs7", "-nocrl", "-certfile", "back.pem"), ""},
		"PKCS#12": {c.openssl(t, "pkcs12", "-export", "-in", "chain.pem", "-inkey", "key.pem", "-passout", "pass:x"),
			"openssl pkcs12 -in FILE -nokeys -out chain.pem"},
		"trusted": {c.openssl(t, "x509", "-in", "chain.pem", "-trustout"), "openssl x509 -in FILE"},
		"key too": {slices.Concat(c.chain, c.keys),
			`a block of type "PRIVATE KEY": a private key does not belong`},
		"half":  {c.chain[:len(c.chain)-60], "block 2 of 2 cannot be read"},
		"glued": {append([]byte("x"), c.chain...), "block 2 of 2 cannot be read"},
		"more": {append(slices.Clone(c.chain), "and more"...),
			"what follows the last certificate is not PEM"},
		"empty":          {[]byte(" \n"), "the file is empty"},
		"a list":         {pki.Lists.PEM(one), `a block of type "X509 CRL": want CERTIFICATE`},
		"no certificate": {[]byte{0x30, 1, 0}, "it is not a certificate"},
		"prose":          {[]byte("no PEM, no DER."), "neither PEM nor DER"},
		"DER and more":   {append(slices.Clone(c.ca), 0), "neither PEM nor DER"},
	} {
		ders, err := pki.Objects(x.text, pki.Certificates)
		switch {
		case x.want != "":
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: %v, want %q", name, err, x.want)
			}
		case err != nil || !slices.EqualFunc(ders, [][]byte{c.ca, c.root}, bytes.Equal):
			t.Errorf("%s: %d certificates, %v", name, len(ders), err)
		}
	}
}

// TestFT18_OneRequestAFile: a file with two requests says so, instead of that the first is
// signed.
func TestFT18_OneRequestAFile(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pki.Requests.PEM(der)
	for _, two := range [][]byte{slices.Concat(text, text), slices.Concat(der, der)} {
		if _, err := pki.Single(two, pki.Requests); err == nil ||
			!strings.Contains(err.Error(), "2 times a certificate request") {
			t.Errorf("two requests: %v", err)
		}
	}
	for _, one := range [][]byte{text, der, append([]byte("\xef\xbb\xbf"), text...)} {
		if got, err := pki.Single(one, pki.Requests); err != nil || !bytes.Equal(got, der) {
			t.Errorf("one request: %v", err)
		}
	}
}

func FuzzObjects(f *testing.F) {
	c := newContainer(f)
	for _, text := range [][]byte{c.chain, c.ca, toUTF16(c.chain, binary.LittleEndian), []byte("\xff\xfe\x00"),
		c.keys} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, kind := range []pki.Kind{pki.Certificates, pki.Requests, pki.Lists} {
			ders, err := pki.Objects(text, kind)
			if err != nil {
				continue
			}
			if again, err := pki.Objects(kind.PEM(ders...), kind); len(ders) > 0 &&
				(err != nil || len(again) != len(ders)) {
				t.Errorf("written as PEM: %d of %d, %v", len(again), len(ders), err)
			}
		}
	})
}
