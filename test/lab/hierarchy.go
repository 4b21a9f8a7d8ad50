package lab

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
)

// passphrase opens every key of a Hierarchy.
const passphrase = "correct horse battery staple"

// Hierarchy is a tree of CAs that ceremonies made: offline ones with folders of
// their own, a root first, and issuing CAs for a server. It writes what the
// server needs into the server's folder: privyseal.yaml, keys, chains and lists.
type Hierarchy struct {
	Dir     string // the server's folder
	Addr    Addresses
	offline []tier // root first
}

type tier struct {
	id string
	ca ceremony.CA
}

// NewHierarchy makes the offline CAs of the given ids, each certified by the one
// before, and the first list of each.
func NewHierarchy(ctx context.Context, dir string, addr Addresses, offline ...string) (*Hierarchy, error) {
	h := &Hierarchy{Dir: dir, Addr: addr}
	for _, folder := range []string{"", "keys", "secrets"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	for file, text := range map[string]string{"kek": seal.GenerateKEK(), "passphrase": passphrase} {
		if err := os.WriteFile(filepath.Join(dir, "secrets", file), []byte(text+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	for i, id := range offline {
		ca := ceremony.CA{Dir: filepath.Join(dir, "offline", id), Secret: secret, Now: time.Now}
		var err error
		if i == 0 {
			err = makeRoot(ctx, ca, id)
		} else {
			err = h.makeMiddle(ctx, ca, id, len(offline)-i)
		}
		if err != nil {
			return nil, fmt.Errorf("make CA %s: %w", id, err)
		}
		h.offline = append(h.offline, tier{id, ca})
		if _, err := h.List(ctx, id); err != nil {
			return nil, err
		}
	}
	return h, h.key("audit")
}

func secret() ([]byte, error) { return []byte(passphrase), nil }

func subject(id string) string { return "CN=Lab " + id + ",O=Lab" }

func makeRoot(ctx context.Context, ca ceremony.CA, id string) error {
	root, err := ceremony.Root(ctx, ca, ceremony.RootSpec{Subject: subject(id),
		NameConstraints: ceremony.PrivateNames()})
	if err != nil {
		return err
	}
	top := filepath.Dir(filepath.Dir(ca.Dir))
	return errors.Join(
		os.WriteFile(filepath.Join(top, id+".pem"), pki.EncodeChain(root.Raw), 0o600),
		os.WriteFile(filepath.Join(top, "root.pem"), pki.EncodeChain(root.Raw), 0o600),
	)
}

// makeMiddle makes an offline CA below the last one.
func (h *Hierarchy) makeMiddle(ctx context.Context, ca ceremony.CA, id string, pathLen int) error {
	if _, err := ceremony.Subordinate(ctx, h.lowest().ca, ca,
		ceremony.SubordinateSpec{Subject: subject(id), CASpec: h.spec(pathLen)}); err != nil {
		return err
	}
	chain, err := os.ReadFile(filepath.Join(ca.Dir, "certs", "ca.pem"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.Dir, id+".pem"), chain, 0o600)
}

func (h *Hierarchy) lowest() tier { return h.offline[len(h.offline)-1] }

// spec is what the lowest offline CA certifies.
func (h *Hierarchy) spec(pathLen int) ceremony.CASpec {
	above := h.lowest()
	return ceremony.CASpec{
		PathLen: pathLen, Years: 10 - len(h.offline),
		Locations: issuer.Locations{CRL: h.url("/crl/" + above.id + ".crl"),
			CAIssuers: h.url("/issuers/" + above.id + ".cer")},
	}
}

// certify makes a key and has it certified by the lowest offline CA. It returns
// the chain, root last, in PEM.
func (h *Hierarchy) certify(ctx context.Context, file, id string) ([]byte, error) {
	key, err := keys.Generate(keys.Ref("file:"+file), "ec-p256", secret)
	if err != nil {
		return nil, err
	}
	defer key.Close() //nolint:errcheck // a file's key has nothing to release
	csr, err := ceremony.NewRequest(key, subject(id))
	if err != nil {
		return nil, err
	}
	above := h.lowest()
	cert, err := ceremony.SignCA(ctx, above.ca, csr, h.spec(0))
	if err != nil {
		return nil, err
	}
	chain, err := above.ca.Chain()
	if err != nil {
		return nil, err
	}
	ders := [][]byte{cert.Raw}
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	return pki.EncodeChain(ders...), nil
}

func (h *Hierarchy) url(path string) string { return "http://localhost:" + Port(h.Addr.HTTP) + path }

func (h *Hierarchy) key(id string) error {
	key, err := keys.Generate(keys.Ref("file:"+filepath.Join(h.Dir, "keys", id+".key")), "ec-p256", secret)
	if err != nil {
		return err
	}
	return key.Close()
}

// Issuing makes an issuing CA below the lowest offline one.
func (h *Hierarchy) Issuing(ctx context.Context, id string) error {
	chain, err := h.certify(ctx, filepath.Join(h.Dir, "keys", id+".key"), id)
	if err != nil {
		return fmt.Errorf("make CA %s: %w", id, err)
	}
	return os.WriteFile(filepath.Join(h.Dir, id+".pem"), chain, 0o600)
}

// Certificate returns the certificate of a CA.
func (h *Hierarchy) Certificate(id string) (*x509.Certificate, error) {
	text, err := os.ReadFile(filepath.Join(h.Dir, id+".pem"))
	if err != nil {
		return nil, err
	}
	chain, err := pki.ParseChain(text)
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// Revoke enters the certificate of a CA as revoked at the offline CA above it.
func (h *Hierarchy) Revoke(ctx context.Context, above, id string, reason pki.Reason) error {
	cert, err := h.Certificate(id)
	if err != nil {
		return err
	}
	ca, err := h.find(above)
	if err != nil {
		return err
	}
	return ceremony.Revoke(ctx, ca, ceremony.Revocation{Serial: pki.SerialFromBig(cert.SerialNumber), Reason: reason})
}

// List has an offline CA sign a list, and returns the file that holds it.
func (h *Hierarchy) List(ctx context.Context, id string) (string, error) {
	ca, err := h.find(id)
	if err != nil {
		return "", err
	}
	list, err := ceremony.CRL(ctx, ca, ceremony.CRLSpec{})
	if err != nil {
		return "", fmt.Errorf("list of %s: %w", id, err)
	}
	file := filepath.Join(h.Dir, id+".crl")
	return file, os.WriteFile(file, list, 0o600)
}

func (h *Hierarchy) find(id string) (ceremony.CA, error) {
	for _, t := range h.offline {
		if t.id == id {
			return t.ca, nil
		}
	}
	return ceremony.CA{}, fmt.Errorf("there is no offline CA %s", id)
}

// Configure writes privyseal.yaml: the endpoint default and the server's own TLS
// certificate are the first issuer's.
func (h *Hierarchy) Configure(database, resolver string, issuers ...string) error {
	if database == "" {
		database = "sqlite:privyseal.db"
	}
	var b strings.Builder
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	say("public_urls: {https: 'https://localhost:%s', http: '%s'}", Port(h.Addr.HTTPS), h.url(""))
	say("database: {url: '%s', migrate: true}", database)
	say("key_encryption: file:secrets/kek")
	say("state: {passphrase: file:secrets/passphrase}")
	say("audit: {key: file:keys/audit.key, passphrase: file:secrets/passphrase}")
	say("issuers:")
	for _, id := range issuers {
		say("  - {id: %s, key: 'file:keys/%s.key', passphrase: file:secrets/passphrase, certificate: %s.pem}", id, id,
			id)
	}
	say("offline:")
	for _, t := range h.offline {
		say("  - {id: %s, certificate: %s.pem, crl: %s.crl}", t.id, t.id, t.id)
	}
	say("endpoints:\n  - {name: default, protocol: acme, issuer: %s, profiles: [tls-server]}", issuers[0])
	say("challenge: {resolver: '%s', http_port: %s, tls_port: %s, allow_cidrs: [127.0.0.0/8]}", resolver,
		Port(h.Addr.HTTP01), Port(h.Addr.ALPN))
	say("listeners:\n  https: {addr: '%s', tls: {issuer: %s, names: [localhost]}}", h.Addr.HTTPS, issuers[0])
	say("  http: {addr: '%s'}\n  ops: {addr: '%s'}", h.Addr.HTTP, h.Addr.Ops)
	return os.WriteFile(filepath.Join(h.Dir, "privyseal.yaml"), []byte(b.String()), 0o600)
}
