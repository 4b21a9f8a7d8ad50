package opensslca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/pki"
)

// maker makes what a folder holds.
type maker struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (m *maker) write(name string, text []byte) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) certificate(serial int64, cn string, ca bool) []byte {
	m.t.Helper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: epoch,
		NotAfter:              epoch.AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent := m.cert
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, m.key.Public(), m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return der
}

func (m *maker) list(number int64, serials ...int64) []byte {
	m.t.Helper()
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: epoch, NextUpdate: epoch.AddDate(0, 0, 1)}
	for _, s := range serials {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: epoch})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, m.cert, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return der
}

const folderConfig = "[ca]\ndefault_ca=a\n[a]\ndir=/root/ca\nprivate_key=$dir/private/ca.key\ncertificate=$dir/ca.crt\ncrl=$dir/last.crl\n"

// folder is one that is in order: two certificates, one of them revoked.
func folder(t *testing.T) *maker {
	t.Helper()
	m := &maker{t: t, dir: t.TempDir()}
	var err error
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	root := m.certificate(1, "root", true)
	if m.cert, err = x509.ParseCertificate(root); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(m.key)
	if err != nil {
		t.Fatal(err)
	}
	m.write("openssl.cnf", []byte(folderConfig))
	m.write("private/ca.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	m.write("ca.crt", pki.EncodeChain(root))
	m.write("index.txt", []byte("V\t361121120000Z\t\t10\tunknown\t/CN=a\nR\t361121120000Z\t261121120000Z\t11\tunknown\t/CN=b\n"))
	m.write("crlnumber", []byte("0A\n"))
	m.write("newcerts/10.pem", pki.EncodeChain(m.certificate(0x10, "a", true)))
	m.write("newcerts/11.pem", append([]byte("Certificate:\n    Data:\n"),
		pki.EncodeChain(m.certificate(0x11, "b", true))...))
	m.write("crl/old.crl", m.list(8))
	m.write("last.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: m.list(9, 0x11)}))
	return m
}

func TestG2_25_ReadFolder(t *testing.T) {
	t.Parallel()
	m := folder(t)
	f, err := Read(Source{Dir: m.dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Index) != 2 || len(f.Issued) != 2 || f.CRLNumber.Int64() != 10 || f.CRL.Number.Int64() != 9 ||
		f.Serial != nil || f.Encrypted {
		t.Errorf("%+v", f)
	}
	if len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "was not encrypted") {
		t.Errorf("notes %q", f.Notes)
	}
	if err := os.Remove(filepath.Join(m.dir, "openssl.cnf")); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(Source{Dir: m.dir}); err != nil || f.CRL == nil { // as easy-rsa names its files
		t.Errorf("without configuration: %v", err)
	}
	if err := os.Rename(filepath.Join(m.dir, "ca.crt"), filepath.Join(m.dir, "mine.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(Source{Dir: m.dir}); err == nil || !strings.Contains(err.Error(), "name the file") {
		t.Errorf("without configuration and names: %v", err)
	}
	named := Source{Dir: m.dir, Key: filepath.Join(m.dir, "private/ca.key"),
		Certificate: filepath.Join(m.dir, "mine.crt")}
	if _, err := Read(named); err != nil {
		t.Errorf("with the files named: %v", err)
	}
}

// What does not fit together is refused or noted.
func TestG2_35_FolderThatDoesNotFit(t *testing.T) {
	t.Parallel()
	other := folder(t)
	otherKey, err := os.ReadFile(filepath.Join(other.dir, "private/ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		do    func(m *maker)
		fatal bool
		want  string
	}{
		{"other key", func(m *maker) { m.write("private/ca.key", otherKey) }, true,
			"is not the key of the certificate"},
		{"no key", func(m *maker) { m.write("private/ca.key", []byte("x")) }, true, "no private key"},
		{"no certificate", func(m *maker) { m.write("ca.crt", []byte("x")) }, true,
			"is not a certificate: neither PEM nor DER"},
		{"a leaf", func(m *maker) { m.write("ca.crt", pki.EncodeChain(m.certificate(3, "x", false))) }, true,
			"not a CA certificate"},
		{"index", func(m *maker) { m.write("index.txt", []byte("x\n")) }, true, "index.txt line 1"},
		{"number", func(m *maker) { m.write("crlnumber", []byte("x\n")) }, true, "one hexadecimal number"},
		{"serial", func(m *maker) { m.write("serial", []byte("-1\n")) }, true, "one hexadecimal number"},
		{"config", func(m *maker) { m.write("openssl.cnf", []byte("x\n")) }, true, "openssl.cnf line 1"},
		{"config without CA", func(m *maker) { m.write("openssl.cnf", nil) }, true, "no section"},
		{"a big file", func(m *maker) { m.write("newcerts/a.pem", make([]byte, maxFile+1)) }, true, "at most"},
		{"a lost revocation", func(m *maker) { m.write("crl/new.crl", m.list(20, 0x10)) }, true,
			"serial 10 as revoked, the index has not"},
		{"an unknown revocation", func(m *maker) { m.write("crl/new.crl", m.list(20, 0x77)) }, true,
			"serial 77 as revoked, the index has not"},
		{"number put back", func(m *maker) { m.write("crlnumber", []byte("05")) }, false,
			"crlnumber says 5, but the last list has 9 already: the next one gets A"},
		{"foreign list", func(m *maker) { m.write("crl/other.crl", other.list(99)) }, false,
			"is not signed by this CA"},
		{"no list", func(m *maker) { m.write("crl/other.txt", []byte("x")) }, false, "is not a revocation list"},
		{"unknown certificate", func(m *maker) { m.write("newcerts/77.pem", m.certificate(0x77, "x", true)) }, false,
			"serial 77, is not in the index: find out who signed it"},
		{"foreign certificate", func(m *maker) { m.write("newcerts/x.pem", other.certificate(1, "x", true)) }, false,
			"is not signed by this CA"},
		{"no certificate at all", func(m *maker) { m.write("newcerts/10.pem", []byte("x")) }, false,
			"is not a certificate"},
		{"missing certificate", func(m *maker) { m.write("newcerts/10.pem", m.certificate(0x11, "b", true)) }, false,
			""},
	} {
		m := folder(t)
		c.do(m)
		f, err := Read(Source{Dir: m.dir})
		if c.fatal {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.Contains(strings.Join(f.Notes, "\n"), c.want) {
			t.Errorf("%s: notes %q, want %q", c.name, f.Notes, c.want)
		}
		if c.name == "number put back" && f.CRLNumber.Int64() != 10 {
			t.Errorf("number %d", f.CRLNumber)
		}
	}
	empty := folder(t)
	for _, name := range []string{"newcerts", "crl", "last.crl", "crlnumber"} {
		if err := os.RemoveAll(filepath.Join(empty.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(Source{Dir: empty.dir})
	if err != nil || f.CRLNumber.Int64() != 1 || len(f.Issued) != 0 {
		t.Errorf("a folder without certificates and lists: %v", err)
	}
	if _, err := Read(Source{Dir: empty.dir, Config: "none"}); err == nil {
		t.Error("a configuration that is not there")
	}
}

// TestFT18_TheLastList: a list beside the folder crl/ is found, one elsewhere is given, and
// none at all is said: numbers would start anew.
func TestFT18_TheLastList(t *testing.T) {
	t.Parallel()
	m := folder(t)
	moved := filepath.Join(t.TempDir(), "published.der")
	list, err := os.ReadFile(filepath.Join(m.dir, "last.crl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(m.dir, "crl")), os.Remove(filepath.Join(m.dir, "last.crl")),
		os.Remove(filepath.Join(m.dir, "crlnumber")),
		os.WriteFile(moved, list, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := Read(Source{Dir: m.dir})
	if err != nil || f.CRL != nil || !strings.Contains(strings.Join(f.Notes, ";"), "no list of this CA was found") {
		t.Errorf("none: %v, %+v", err, f)
	}
	if f, err = Read(Source{Dir: m.dir, CRL: moved}); err != nil || f.CRLNumber.Int64() != 10 {
		t.Errorf("given: %v, %+v", err, f)
	}
	m.write("old-crl.pem", list)
	if f, err = Read(Source{Dir: m.dir}); err != nil || f.CRLNumber.Int64() != 10 {
		t.Errorf("beside: %v, %+v", err, f)
	}
	m.write("other.txt", []byte("x"))
	if _, err = Read(Source{Dir: m.dir, CRL: filepath.Join(m.dir, "other.txt")}); err == nil {
		t.Error("what was given is no list")
	}
}

// TestFT18_WeakIsSaidFirst: nobody is asked for the passphrase of a CA that is not taken.
func TestFT18_WeakIsSaidFirst(t *testing.T) {
	t.Parallel()
	m := folder(t)
	refused := errors.New("too weak")
	asked := func() ([]byte, error) { t.Error("the passphrase was asked for"); return nil, refused }
	_, err := Read(Source{Dir: m.dir, Secret: asked, Check: func([]*x509.Certificate) error { return refused }})
	if !errors.Is(err, refused) {
		t.Error(err)
	}
}
