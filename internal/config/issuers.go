package config

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
)

// Declarations are the CAs that the configuration names. observe returns the
// observer of a CA's key.
func (f *File) Declarations(observe func(id string) func(keys.Event), now func() time.Time) ([]ca.Declaration, error) {
	var all []ca.Declaration
	for _, is := range f.Issuers {
		use := f.PKCS11.Keys()
		use.Observe, use.Now = observe(is.ID), now
		d := ca.Declaration{
			ID: is.ID, Pool: is.Pool, Succeeds: is.Succeeds,
			Subject: is.Subject, Algorithm: is.Algorithm, MaxChildren: is.MaxChildren,
			Locations: f.Locations(is.ID), Key: is.Key, Secret: is.Passphrase.Secret(f.Dir),
			KeyConfig: use,
		}
		var err error
		if d.Initial, err = f.chainIf(is.Certificate); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", is.ID, err)
		}
		for _, file := range is.Chains {
			chain, err := f.Chain(file)
			if err != nil {
				return nil, fmt.Errorf("issuer %s: %w", is.ID, err)
			}
			d.Cross = append(d.Cross, chain)
		}
		all = append(all, d)
	}
	for _, o := range f.Offline {
		d := ca.Declaration{ID: o.ID, Offline: true, MaxChildren: o.MaxChildren, Locations: f.Locations(o.ID)}
		var err error
		if d.Initial, err = f.chainIf(o.Certificate); err != nil {
			return nil, fmt.Errorf("offline CA %s: %w", o.ID, err)
		}
		all = append(all, d)
	}
	return all, nil
}

func (f *File) chainIf(path string) ([]*x509.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	return f.Chain(path)
}

// Lists are how the issuers publish their lists, by id.
func (f *File) Lists() map[string]crl.Config {
	all := map[string]crl.Config{}
	for _, is := range f.Issuers {
		all[is.ID] = is.CRL
	}
	return all
}

// Successor returns the issuer that succeeds another one, "" if none does.
func (f *File) Successor(id string) string {
	for _, is := range f.Issuers {
		if is.Succeeds == id && id != "" {
			return is.ID
		}
	}
	return ""
}

// Service is the name under which an issuer is asked for certificates.
func (is *Issuer) Service() string {
	if is.Pool != "" {
		return is.Pool
	}
	return is.ID
}

// Needs reports whether an endpoint or a listener depends on an issuer or pool.
func (f *File) Needs(name string) bool {
	return slices.ContainsFunc(f.Endpoints, func(e Endpoint) bool { return e.Issuer == name }) ||
		f.Listeners.HTTPS.TLS.Issuer == name || f.Listeners.EST.TLS.Issuer == name ||
		f.Listeners.HTTPSAdmin.TLS.Issuer == name
}

// Locations are the URLs that go into the certificates of an issuer.
func (f *File) Locations(id string) issuer.Locations {
	base, shards := f.PublicURLs.HTTP, 0
	for _, is := range f.Issuers {
		if is.ID == id {
			shards = is.CRL.Shards
		}
	}
	return issuer.Locations{
		CRL: base + "/crl/" + id + ".crl", Shards: shards,
		OCSP: base + "/ocsp/" + id, CAIssuers: base + "/issuers/" + id + ".cer",
	}
}
