package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
)

// loaded is a configuration that was read and checked.
type loaded struct {
	Config
	file string // as given
	dir  string // the file's folder, absolute: where relative paths start

	oneTier bool // a self-signed CA may issue: see onetier.go
}

// load reads and checks a configuration file. It touches nothing, and its error
// lists everything that is wrong.
func load(file string) (*loaded, error) { return loadFor(file, false) }

// loadFor is load for dev, which may serve a CA of one tier.
func loadFor(file string, oneTier bool) (*loaded, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text, err := os.ReadFile(abs)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	l := &loaded{file: file, dir: filepath.Dir(abs), oneTier: oneTier, Config: Config{Limits: limit.Defaults()}}
	doc := decode(file, text, &l.Config)
	if len(doc.problems) == 0 {
		l.complete()
		l.check(doc)
	}
	if err := doc.err(); err != nil {
		return nil, err
	}
	return l, nil
}

// complete fills in what the file may leave out, and makes paths absolute.
func (l *loaded) complete() {
	l.State.Dir = under(l.dir, l.State.Dir)
	if l.Listeners.Socket == "" {
		l.Listeners.Socket = filepath.Join(l.State.Dir, "privyseal.sock")
	}
	l.Listeners.Socket = under(l.dir, l.Listeners.Socket)
	for i := range l.Issuers {
		l.Issuers[i].OCSP.complete()
		l.Issuers[i].Key = keyUnder(l.dir, l.Issuers[i].Key)
		if l.Issuers[i].Certificate != "" {
			l.Issuers[i].Certificate = under(l.dir, l.Issuers[i].Certificate)
		}
		for j, file := range l.Issuers[i].Chains {
			l.Issuers[i].Chains[j] = under(l.dir, file)
		}
		l.Issuers[i].CRL = l.Issuers[i].CRL.Complete()
	}
	for i, o := range l.Offline {
		if o.Certificate != "" {
			l.Offline[i].Certificate = under(l.dir, o.Certificate)
		}
		if o.CRL != "" {
			l.Offline[i].CRL = under(l.dir, o.CRL)
		}
		if o.OCSP != nil {
			l.Offline[i].OCSP = o.OCSP.complete(l.dir)
		}
	}
	for i, e := range l.Endpoints {
		if e.DefaultProfile == "" && len(e.Profiles) > 0 {
			l.Endpoints[i].DefaultProfile = e.Profiles[0]
		}
		if e.ExternalAccount == "" && e.Protocol == protocolACME {
			l.Endpoints[i].ExternalAccount = "optional"
		}
		for _, file := range []*string{&l.Endpoints[i].EST.Anchors, &l.Endpoints[i].EST.Rollover} {
			if *file != "" {
				*file = under(l.dir, *file)
			}
		}
	}
	for i, b := range l.BlockedKeys {
		l.BlockedKeys[i].File = under(l.dir, b.File)
		if b.Format == "" {
			l.BlockedKeys[i].Format = pki.KeyListSPKI
		}
	}
	for i, w := range l.Webhooks {
		if w.CA != "" {
			l.Webhooks[i].CA = under(l.dir, w.CA)
		}
	}
	l.completeFiles()
	l.completeTLS()
	if l.ACME.Website == "" {
		l.ACME.Website = l.PublicURLs.HTTPS
	}
	if l.ACME.TermsOfService == "" {
		l.ACME.TermsOfService = l.PublicURLs.HTTPS + "/terms"
	}
}

func (l *loaded) completeFiles() {
	l.Audit.Key = keyUnder(l.dir, l.Audit.Key)
	if l.Audit.Archive != "" {
		l.Audit.Archive = under(l.dir, l.Audit.Archive)
	}
	for _, t := range []*TLS{&l.Listeners.HTTPS.TLS, &l.Listeners.EST.TLS} {
		t.Key = keyUnder(l.dir, t.Key)
		if t.Certificate != "" {
			t.Certificate = under(l.dir, t.Certificate)
		}
	}
}

// completeTLS chooses the profiles of the certificates that the listeners get
// from our issuers. Clients of EST that know nothing but the root recognise the
// server by the extended key usage cmcRA (rule E9).
func (l *loaded) completeTLS() {
	if l.Listeners.HTTPS.TLS.Profile == "" {
		l.Listeners.HTTPS.TLS.Profile = serverProfile
	}
	est := &l.Listeners.EST.TLS
	if est.Profile != "" {
		return
	}
	est.Profile = serverProfile
	profiles, _ := l.compileProfiles() // mistakes are reported by check
	if p := profiles[estServerProfile]; p != nil && l.nests(p, est.Issuer) == nil {
		est.Profile = estServerProfile
	}
}

// public is what all nodes must agree on of an issuer.
func (is Issuer) public() Issuer {
	p := Issuer{ID: is.ID, Pool: is.Pool, Succeeds: is.Succeeds, OCSP: is.OCSP, CRL: is.CRL}
	p.OCSP.Key, p.OCSP.Passphrase = "", ""
	return p
}

// digest identifies what all nodes on one database must agree on. Addresses,
// paths and references may differ from node to node.
func (l *loaded) digest() string {
	c := l.Config
	c.State, c.Database, c.Listeners, c.Log, c.Audit, c.KeyEncryption = State{}, Database{}, Listeners{}, Log{}, Audit{}, ""
	c.PKCS11 = PKCS11{}
	c.Issuers, c.Offline = nil, nil
	for _, i := range l.Issuers {
		c.Issuers = append(c.Issuers, i.public())
	}
	c.Webhooks = slices.Clone(c.Webhooks)
	for i := range c.Webhooks {
		c.Webhooks[i].KeyRef, c.Webhooks[i].CA = "", ""
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return "" // a Config that was decoded encodes
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
