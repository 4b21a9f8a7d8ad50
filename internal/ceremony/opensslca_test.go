package ceremony

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/opensslca"
	"github.com/privyseal/privyseal/internal/pki"
)

// guideConfig is an openssl.cnf as the guides to offline roots have it.
const guideConfig = `
[ ca ]
default_ca = CA_default

[ CA_default ]
dir               = %s    # the folder
certs             = $dir/certs
crl_dir           = $dir/crl
new_certs_dir     = $dir/newcerts
database          = $dir/index.txt
serial            = $dir/serial
private_key       = $dir/private/root-ca.key
certificate       = $dir/certs/root-ca.crt
crlnumber         = $dir/crlnumber
crl               = ${dir}/crl/root-ca.crl
crl_extensions    = crl_ext
default_crl_days  = 180
default_md        = sha384
default_days      = 7300
policy            = policy_strict
unique_subject    = no
name_opt          = ca_default
cert_opt          = ca_default

[ policy_strict ]
countryName             = match
stateOrProvinceName     = match
organizationName        = match
commonName              = supplied

[ req ]
distinguished_name  = req_distinguished_name
string_mask         = utf8only
default_md          = sha384
prompt              = no

[ req_distinguished_name ]
countryName = DE
stateOrProvinceName = Bremen
organizationName = Example
commonName = Example Root

[ v3_ca ]
subjectKeyIdentifier   = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints       = critical, CA:true
keyUsage               = critical, digitalSignature, cRLSign, keyCertSign

[ v3_intermediate_ca ]
subjectKeyIdentifier   = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints       = critical, CA:true, pathlen:0
keyUsage               = critical, digitalSignature, cRLSign, keyCertSign

[ crl_ext ]
authorityKeyIdentifier = keyid:always
`

// opensslRoot builds the guide's root and signs three issuing CAs, the last of
// which it revokes, with openssl's commands alone. The folder is then moved, as
// if it were on a stick that is mounted elsewhere.
func opensslRoot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	for _, d := range []string{"certs", "crl", "newcerts", "private", "csr"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"index.txt": "", "serial": "1000\n", "crlnumber": "1000\n", "openssl.cnf": fmt.Sprintf(guideConfig, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, key := filepath.Join(dir, "openssl.cnf"), filepath.Join(dir, "private/root-ca.key")
	pass := []string{"-passin", "pass:old"}
	openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-aes256", "-pass", "pass:old", "-out", key)
	openssl(t, append([]string{"req", "-config", config, "-key", key, "-new", "-x509", "-days", "7300", "-sha384",
		"-extensions", "v3_ca", "-out", filepath.Join(dir, "certs/root-ca.crt")}, pass...)...)
	for n := 1; n <= 3; n++ {
		csr := filepath.Join(dir, fmt.Sprintf("csr/issuing-%d.csr", n))
		openssl(t, "req", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-subj", fmt.Sprintf("/C=DE/ST=Bremen/O=Example/CN=Example Issuing CA %d", n),
			"-keyout", filepath.Join(t.TempDir(), "issuing.key"), "-out", csr)
		openssl(t, append([]string{"ca", "-batch", "-config", config, "-extensions", "v3_intermediate_ca", "-days", "3650", "-notext", "-md", "sha384",
			"-in", csr, "-out", filepath.Join(dir, fmt.Sprintf("certs/issuing-%d.crt", n))}, pass...)...)
	}
	openssl(t, append([]string{"ca", "-config", config, "-revoke", filepath.Join(dir, "newcerts/1002.pem"), "-crl_reason", "superseded"}, pass...)...)
	openssl(t, append([]string{"ca", "-config", config, "-gencrl", "-out", filepath.Join(dir, "crl/root-ca.crl")}, pass...)...)
	moved := filepath.Join(t.TempDir(), "stick")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	return moved
}

// A root that lived in OpenSSL goes on here: what it signed is revoked, its list
// has the next number and the old entry, a new CA is signed, openssl agrees.
func TestG2_25_ImportOpenSSLRoot(t *testing.T) {
	t.Parallel()
	from := opensslca.Source{Dir: opensslRoot(t), Secret: pass("old")}
	ca := newCA(t)
	ca.Now = time.Now
	f, err := ImportOpenSSL(t.Context(), ca, from)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Index) != 3 || len(f.Issued) != 3 || !f.Encrypted || len(f.Notes) != 0 {
		t.Errorf("%d in the index, %d certificates, encrypted %v, notes %q", len(f.Index), len(f.Issued), f.Encrypted, f.Notes)
	}
	for name, mode := range map[string]os.FileMode{keyFile: 0o400, "private": 0o700, certFile: 0o444} {
		if info, err := os.Stat(ca.path(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if _, err := keys.Open(t.Context(), ca.key(), pass("old"), keys.Config{}); !errors.Is(err, keys.ErrWrongPassphrase) {
		t.Errorf("the old passphrase: %v", err)
	}
	if err := Revoke(t.Context(), ca, Revocation{Serial: "1000", Reason: pki.CessationOfOperation}); err != nil {
		t.Fatal(err)
	}
	signCA(t, ca)
	list := makeCRL(t, ca)
	if len(list.RevokedCertificateEntries) != 2 || list.Number.Int64() != 0x1001 {
		t.Errorf("%d entries, number %X", len(list.RevokedCertificateEntries), list.Number)
	}
	root, crl := ca.path(certFile), ca.path(crlFile+".pem")
	for serial, good := range map[string]bool{"1000": false, "1001": true, "1002": false} {
		out, err := tryOpenSSL(t, "verify", "-crl_check", "-CAfile", root, "-CRLfile", crl, ca.path("newcerts/"+serial+".pem"))
		if (err == nil) != good {
			t.Errorf("%s: %s", serial, out)
		}
	}
	wants(t, "crl", openssl(t, "crl", "-in", crl, "-noout", "-text"), "Serial Number: 1000", "Cessation Of Operation", "Serial Number: 1002", "Superseded")
	serial, err := os.ReadFile(ca.path("serial"))
	if err != nil || strings.TrimSpace(string(serial)) != "1003" {
		t.Errorf("serial %q %v", serial, err)
	}
	if _, err := ImportOpenSSL(t.Context(), ca, from); fault.Of(err).Reason != "exists" {
		t.Errorf("a second time: %v", err)
	}
	testInterruptedImport(t, from)
}

// An import that stopped after the key was written is done again; another key in
// its place is not.
func testInterruptedImport(t *testing.T, from opensslca.Source) {
	t.Helper()
	ca := newCA(t)
	if err := ca.makeDirs(); err != nil {
		t.Fatal(err)
	}
	f, err := opensslca.Read(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.writeForeignKey(t.Context(), f.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportOpenSSL(t.Context(), ca, from); err != nil {
		t.Error(err)
	}
	other := newCA(t)
	if err := other.makeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := other.writeForeignKey(t.Context(), newKey(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportOpenSSL(t.Context(), other, from); fault.Of(err).Reason != "exists" {
		t.Errorf("another key is there: %v", err)
	}
	inToken := newCA(t)
	inToken.Key = "pkcs11:token=a;object=b"
	if _, err := ImportOpenSSL(t.Context(), inToken, from); fault.Of(err).Reason != "key_type" {
		t.Errorf("into a token: %v", err)
	}
	from.Secret = pass("wrong")
	wrong := newCA(t)
	if _, err := ImportOpenSSL(t.Context(), wrong, from); !errors.Is(err, keys.ErrWrongPassphrase) || exists(wrong.Dir) {
		t.Errorf("a wrong passphrase: %v", err)
	}
}
