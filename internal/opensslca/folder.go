// Package opensslca reads the folder of a CA that was run with openssl ca: its
// openssl.cnf, index.txt, serial, crlnumber, certificates, lists and key. The
// ceremony and the server take such a CA over and go on with its numbers.
//
// Read changes nothing in the folder and trusts nothing in it: the key must be
// the certificate's, certificates and lists must be signed by it, the index must
// have what the last list has. What does not fit is an error; what is only
// remarkable, such as a certificate that no index knows, is a note.
package opensslca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// Source says where a CA is and what opens its key.
type Source struct {
	Dir         string      // the CA's folder
	Config      string      // its openssl.cnf; default: openssl.cnf in the folder, if there is one
	Section     string      // the CA's section in it; default: what default_ca names
	Key         string      // the key's file, instead of what the configuration names
	Certificate string      // the certificate's file, likewise; those above may follow in it
	CRL         string      // the newest list that was published, wherever it is
	Secret      keys.Secret // passphrase; asked for only if the key is encrypted
	// Check says whether a CA of this chain may be taken over, before anybody is asked for
	// its passphrase; nil takes all.
	Check func(chain []*x509.Certificate) error
}

// Folder is what Read found.
type Folder struct {
	Chain     []*x509.Certificate // the CA's certificate, then those above it that its file has
	Key       crypto.Signer
	Encrypted bool                 // the key was encrypted
	Index     []Entry              // in its order
	Serial    *big.Int             // the next serial, nil if openssl made random ones
	CRLNumber *big.Int             // the number of the next list, higher than the last one's
	CRL       *x509.RevocationList // the newest list, nil if there is none
	Issued    []*x509.Certificate  // those in the folder that this CA has signed, and the index has
	Notes     []string             // what somebody should look at
}

// Limits of a folder.
const (
	maxFile   = 1 << 20
	maxIssued = 200_000
)

// Read reads a CA's folder.
func Read(from Source) (*Folder, error) {
	paths, err := from.paths()
	if err != nil {
		return nil, fmt.Errorf("read OpenSSL CA %s: %w", from.Dir, err)
	}
	f := &Folder{}
	for _, step := range []func(map[string]string) error{
		func(p map[string]string) error { return f.readCA(p, from) },
		f.readIndex, f.readNumbers, func(p map[string]string) error { return f.readCRL(p, from) }, f.readIssued,
	} {
		if err := step(paths); err != nil {
			return nil, fmt.Errorf("read OpenSSL CA %s: %w", from.Dir, err)
		}
	}
	return f, nil
}

// paths returns the CA's files by their names in openssl.cnf.
func (from Source) paths() (map[string]string, error) {
	var paths map[string]string
	path := from.Config
	if path == "" {
		path = filepath.Join(from.Dir, "openssl.cnf")
	}
	text, err := readFile(path, maxConfig)
	switch {
	case err == nil:
		c, err := parseConfig(text)
		if err != nil {
			return nil, err
		}
		if paths, err = c.locate(from.Dir, from.Section); err != nil {
			return nil, err
		}
	case from.Config != "" || !errors.Is(err, fs.ErrNotExist):
		return nil, err
	default:
		paths = easyRSA(from.Dir)
	}
	for name, given := range map[string]string{"private_key": from.Key, "certificate": from.Certificate} {
		if given != "" {
			paths[name] = given
		}
	}
	for name, usual := range map[string]string{
		"database": "index.txt", "serial": "serial", "crlnumber": "crlnumber", "new_certs_dir": "newcerts",
		"crl_dir": "crl",
	} {
		if paths[name] == "" {
			paths[name] = filepath.Join(from.Dir, usual)
		}
	}
	for _, name := range []string{"private_key", "certificate"} {
		if paths[name] == "" {
			return nil, fmt.Errorf("no openssl.cnf says where the CA's %s is: name the file",
				strings.ReplaceAll(name, "_", " "))
		}
	}
	return paths, nil
}

// easyRSA are the files of a folder that easy-rsa made, none if it did not.
func easyRSA(dir string) map[string]string {
	paths := map[string]string{}
	for name, file := range map[string]string{
		"certificate": "ca.crt", "private_key": "private/ca.key", "crl": "crl.pem", "new_certs_dir": "certs_by_serial",
	} {
		path := filepath.Join(dir, filepath.FromSlash(file))
		if _, err := os.Stat(path); err == nil {
			paths[name] = path
		}
	}
	if paths["certificate"] == "" || paths["private_key"] == "" {
		return map[string]string{}
	}
	return paths
}

// readCA reads certificate and key, and compares them.
func (f *Folder) readCA(paths map[string]string, from Source) error {
	text, err := readFile(paths["certificate"], maxFile)
	if err != nil {
		return err
	}
	if f.Chain, err = pki.ParseChain(text); err != nil {
		return fmt.Errorf("certificate %s: %w", paths["certificate"], err)
	}
	if ca := f.Chain[0]; !ca.BasicConstraintsValid || !ca.IsCA {
		return fmt.Errorf("certificate %s: %s is not a CA certificate", paths["certificate"], ca.Subject)
	}
	if from.Check != nil {
		if err := from.Check(f.Chain); err != nil {
			return fmt.Errorf("certificate %s: %w", paths["certificate"], err)
		}
	}
	if text, err = files.ReadSecret(paths["private_key"]); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	defer clear(text)
	if f.Key, f.Encrypted, err = keys.DecryptForeign(text, from.Secret); err != nil {
		return fmt.Errorf("key %s: %w", paths["private_key"], err)
	}
	if !pki.SameKey(f.Key.Public(), f.Chain[0].PublicKey) {
		return fmt.Errorf("key %s is not the key of the certificate %s", paths["private_key"], paths["certificate"])
	}
	if !f.Encrypted {
		f.note("the key %s was not encrypted: whoever had that disk or a copy of it has the key", paths["private_key"])
	}
	return nil
}

func (f *Folder) readIndex(paths map[string]string) error {
	text, err := readFile(paths["database"], maxIndex)
	if err != nil {
		return err
	}
	f.Index, err = ParseIndex(text)
	return err
}

// readNumbers reads the serial and the CRL number that come next.
func (f *Folder) readNumbers(paths map[string]string) error {
	var err error
	if f.Serial, err = readNumber(paths["serial"]); err != nil {
		return err
	}
	f.CRLNumber, err = readNumber(paths["crlnumber"])
	return err
}

// readNumber reads a hexadecimal number, nil if the file is not there.
func readNumber(path string) (*big.Int, error) {
	text, err := readFile(path, 1024)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, ok := new(big.Int).SetString(strings.TrimSpace(string(text)), 16)
	if !ok || n.Sign() < 0 || n.BitLen() > 159 {
		return nil, fmt.Errorf("%s: want one hexadecimal number of at most 159 bits", path)
	}
	return n, nil
}

// readCRL finds the newest list of this CA, and checks that the index has as
// revoked all that the list has: a list made from the index would otherwise take
// a revocation back.
func (f *Folder) readCRL(paths map[string]string, from Source) error {
	names, err := filesIn(paths["crl_dir"])
	if err != nil {
		return err
	}
	beside, err := filesIn(from.Dir)
	if err != nil {
		return err
	}
	for _, name := range append(beside, paths["crl"], from.CRL) {
		base := strings.ToLower(filepath.Base(name))
		looks := strings.HasSuffix(base, ".crl") || strings.Contains(base, "crl.") &&
			!strings.HasPrefix(base, "crlnumber")
		if name != "" && (looks || name == paths["crl"] || name == from.CRL) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		text, err := readFile(name, maxIndex)
		if errors.Is(err, fs.ErrNotExist) && name != from.CRL {
			continue // the configuration names a list that was not made yet
		}
		if err != nil {
			return err
		}
		list, err := f.list(text)
		if err != nil && name == from.CRL {
			return fmt.Errorf("list %s: %w", name, err)
		}
		if err != nil {
			f.note("the list %s does not count: %v", name, err)
			continue
		}
		if f.CRL == nil || list.ThisUpdate.After(f.CRL.ThisUpdate) || later(list.Number, f.CRL.Number) {
			f.CRL = list
		}
	}
	return f.follow()
}

// list reads a list of this CA.
func (f *Folder) list(text []byte) (*x509.RevocationList, error) {
	der, err := pki.Single(text, pki.Lists)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	if err := pki.ListedBy(list, f.Chain[0]); err != nil {
		return nil, fmt.Errorf("it is not signed by this CA: %w", err)
	}
	return list, nil
}

func later(a, b *big.Int) bool { return a != nil && (b == nil || a.Cmp(b) > 0) }

// follow makes the CRL number follow the last list's.
func (f *Folder) follow() error {
	if f.CRLNumber == nil {
		f.CRLNumber = big.NewInt(1)
	}
	if f.CRL == nil {
		f.note("no list of this CA was found, and the next one gets the number %X: if relying parties have one, name "+
			"its "+
			"file (--crl), or they may take the next for an old one", f.CRLNumber)
		return nil
	}
	if n := f.CRL.Number; n != nil && f.CRLNumber.Cmp(n) <= 0 {
		f.note("crlnumber says %X, but the last list has %X already: the next one gets %X", f.CRLNumber, n,
			new(big.Int).Add(n, big.NewInt(1)))
		f.CRLNumber.Add(n, big.NewInt(1))
	}
	revoked := make(map[pki.Serial]bool)
	for _, e := range f.Index {
		revoked[e.Serial] = e.Revoked != nil
	}
	for _, e := range f.CRL.RevokedCertificateEntries {
		if s := pki.SerialFromBig(e.SerialNumber); !revoked[s] {
			return fmt.Errorf("the last list has serial %s as revoked, the index has not: openssl ca -revoke it "+
				"first, or find out whose index this is", s)
		}
	}
	return nil
}

// readIssued reads the certificates that the CA has signed and kept. The index
// may know more than the folder has, but not less.
func (f *Folder) readIssued(paths map[string]string) error {
	names, err := filesIn(paths["new_certs_dir"])
	if err != nil {
		return err
	}
	if len(names) > maxIssued {
		return fmt.Errorf("%s has more than %d files", paths["new_certs_dir"], maxIssued)
	}
	known := make(map[pki.Serial]bool, len(f.Index))
	for _, e := range f.Index {
		known[e.Serial] = true
	}
	for _, name := range names {
		text, err := readFile(name, maxFile)
		if err != nil {
			return err
		}
		c, err := x509.ParseCertificate(pemOrDER(text, "CERTIFICATE"))
		if err != nil {
			f.note("%s is not a certificate that can be read: %v", name, err)
			continue
		}
		serial := pki.SerialFromBig(c.SerialNumber)
		switch err := f.signed(c); {
		case err != nil:
			f.note("the certificate %s is not signed by this CA: %v", name, err)
		case !known[serial]:
			f.note("the certificate %s, serial %s, is not in the index: find out who signed it", name, serial)
		default:
			f.Issued = append(f.Issued, c)
		}
	}
	if missing := len(f.Index) - len(f.Issued); missing > 0 {
		f.note("of %d certificates in the index, %d are not in the folder; they can be revoked all the same",
			len(f.Index), missing)
	}
	return nil
}

// signed reports why a certificate is not this CA's. A signature with SHA-1,
// which is not checked any more, is an error here too.
func (f *Folder) signed(c *x509.Certificate) error {
	if !bytes.Equal(c.RawIssuer, f.Chain[0].RawSubject) {
		return fmt.Errorf("it names the issuer %s", c.Issuer)
	}
	return pki.SignedBy(c, f.Chain[0])
}

func (f *Folder) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

// pemOrDER returns the DER of a file that may be either.
func pemOrDER(text []byte, kind string) []byte {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return text
		}
		if block.Type == kind {
			return block.Bytes
		}
	}
}

// filesIn returns the regular files of a folder, none if it is not there.
func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

func readFile(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is not a file of at most %d octets", path, most)
	}
	return os.ReadFile(path)
}
