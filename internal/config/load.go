package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// File is a configuration file that was read and checked: what it leaves out is
// filled in, and the paths of files that it names are absolute.
type File struct {
	Config
	Path string // of the file, as given
	Dir  string // its folder, absolute: where references to secrets start

	OneTier bool // a self-signed CA may issue, which only `privyseal dev` serves

	Warnings strictyaml.Problems // of what is allowed and perhaps not meant

	contents  contents
	known     pki.KeyList // of the lists of BlockedKeys
	knownFrom []string    // SHA-256 of each list, in hexadecimal
}

// Load reads and checks a configuration file. It touches nothing. Its error is
// Problems, which lists everything that is wrong, unless the file cannot be read.
func Load(path string) (*File, error) { return LoadDev(path, false) }

// Reload reads the same file again, by the same rules.
func (f *File) Reload() (*File, error) { return LoadDev(f.Path, f.OneTier) }

// LoadDev is Load for dev, which may serve a CA of one tier.
func LoadDev(path string, oneTier bool) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text, err := os.ReadFile(abs)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f := &File{Path: path, Dir: filepath.Dir(abs), OneTier: oneTier, Config: Default()}
	doc := strictyaml.Decode(path, text, &f.Config)
	if doc.Err() == nil {
		f.complete()
		f.check(doc)
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	f.Warnings = doc.Warnings()
	return f, nil
}

// Default is what holds where a file says nothing.
func Default() Config { return Config{Limits: limit.Defaults()} }

// complete fills in what the file may leave out, and makes paths absolute.
func (f *File) complete() {
	strictyaml.Resolve(f.Dir, &f.Config)
	f.State.Dir = cmp.Or(f.State.Dir, f.Dir)
	f.Listeners.Socket = cmp.Or(f.Listeners.Socket, filepath.Join(f.State.Dir, "privyseal.sock"))
	for i := range f.Issuers {
		f.Issuers[i].OCSP.complete()
		f.Issuers[i].CRL = f.Issuers[i].CRL.Complete()
	}
	for _, o := range f.Offline {
		if o.OCSP != nil {
			o.OCSP.complete()
		}
	}
	for i, e := range f.Endpoints {
		if e.DefaultProfile == "" && len(e.Profiles) > 0 {
			f.Endpoints[i].DefaultProfile = e.Profiles[0]
		}
		if e.ExternalAccount == "" && e.Protocol == ProtocolACME {
			f.Endpoints[i].ExternalAccount = "optional"
		}
	}
	for i, b := range f.BlockedKeys {
		f.BlockedKeys[i].Format = cmp.Or(b.Format, pki.KeyListSPKI)
	}
	f.completeTLS()
	f.ACME.Website = cmp.Or(f.ACME.Website, f.PublicURLs.HTTPS)
	f.ACME.TermsOfService = cmp.Or(f.ACME.TermsOfService, f.PublicURLs.HTTPS+"/terms")
}

// completeTLS chooses the profiles of the certificates that the listeners get
// from our issuers. Clients of EST that know nothing but the root recognise the
// server by the extended key usage cmcRA (rule E9).
func (f *File) completeTLS() {
	for _, t := range []*TLS{&f.Listeners.HTTPS.TLS, &f.Listeners.HTTPSAdmin.TLS} {
		t.Profile = cmp.Or(t.Profile, ServerProfile)
	}
	est := &f.Listeners.EST.TLS
	profiles, _ := f.CompileProfiles() // mistakes are reported by check
	if est.Profile == "" {
		est.Profile = ServerProfile
		if p := profiles[ESTServerProfile]; p != nil && f.nests(p, est.Issuer) == nil {
			est.Profile = ESTServerProfile
		}
	}
	for _, t := range []*TLS{&f.Listeners.HTTPS.TLS, &f.Listeners.HTTPSAdmin.TLS, est} {
		if t.Issuer == "" || len(t.Algorithms) > 0 {
			continue
		}
		t.Algorithms = []string{"ec-p256"}
		if p := profiles[t.Profile]; t == est && p != nil && p.TakesKey("rsa-2048") {
			t.Algorithms = append(t.Algorithms, "rsa-2048")
		}
	}
}

// public is what all nodes must agree on of an issuer.
func (is Issuer) public() Issuer {
	p := Issuer{ID: is.ID, Pool: is.Pool, Succeeds: is.Succeeds, OCSP: is.OCSP, CRL: is.CRL}
	p.OCSP.Key, p.OCSP.Passphrase = "", ""
	return p
}

// Digest identifies what all nodes on one database must agree on. Addresses,
// paths and references may differ from node to node.
func (f *File) Digest() string {
	c := f.Config
	c.State, c.Database, c.Listeners, c.Log, c.Audit = State{}, Database{}, Listeners{}, Log{}, Audit{}
	c.KeyEncryption = ""
	c.PKCS11 = PKCS11{}
	c.Issuers, c.Offline = nil, nil
	for _, i := range f.Issuers {
		c.Issuers = append(c.Issuers, i.public())
	}
	f.digestFiles(&c)
	c.Access.OIDC = slices.Clone(c.Access.OIDC)
	for i := range c.Access.OIDC {
		c.Access.OIDC[i].ClientSecret, c.Access.OIDC[i].CA = "", ""
	}
	c.Access.Certificates = slices.Clone(c.Access.Certificates)
	for i := range c.Access.Certificates {
		c.Access.Certificates[i].File, c.Access.Certificates[i].CRL = "", ""
	}
	c.Webhooks = slices.Clone(c.Webhooks)
	for i := range c.Webhooks {
		c.Webhooks[i].KeyRef, c.Webhooks[i].CA = "", ""
	}
	text, err := strictyaml.Canonical(c)
	if err != nil {
		return "" // a Config that was decoded encodes
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// digestFiles puts what is in the files that all nodes must agree on in place of their
// paths.
func (f *File) digestFiles(c *Config) {
	c.Endpoints = slices.Clone(c.Endpoints)
	for i := range c.Endpoints {
		for _, path := range []*string{&c.Endpoints[i].EST.Anchors, &c.Endpoints[i].EST.Rollover} {
			if text, err := f.file(*path); *path != "" && err == nil {
				sum := sha256.Sum256(text)
				*path = hex.EncodeToString(sum[:])
			}
		}
	}
	c.BlockedKeys = slices.Clone(c.BlockedKeys)
	for i, sum := range f.knownFrom {
		c.BlockedKeys[i].File = sum
	}
}

// OwnAddresses are the addresses that validation must never dial: ours.
func (f *File) OwnAddresses() []netip.AddrPort {
	var own []netip.AddrPort
	at := &f.Listeners
	for _, addr := range []string{at.HTTPS.Addr, at.EST.Addr, at.HTTPSAdmin.Addr, at.HTTP.Addr, at.Ops.Addr} {
		if strings.HasPrefix(addr, ":") {
			addr = "[::]" + addr
		}
		if a, err := netip.ParseAddrPort(strings.Replace(addr, "localhost", "127.0.0.1", 1)); err == nil {
			own = append(own, a)
		}
	}
	return own
}
