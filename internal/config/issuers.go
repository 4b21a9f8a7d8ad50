package config

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// generation returns the name and the generation that an issuer has by its
// configuration: the name is the pool's.
func (f *File) Generation(id string) (name string, number int) {
	name, number = id, 1
	for at := id; number <= len(f.Issuers); number++ {
		i := slices.IndexFunc(f.Issuers, func(is Issuer) bool { return is.ID == at })
		if i < 0 {
			break
		}
		if f.Issuers[i].Pool != "" {
			name = f.Issuers[i].Pool
		}
		if at = f.Issuers[i].Succeeds; at == "" {
			break
		}
	}
	return name, number
}

// successor returns the issuer that succeeds another one, "" if none does.
func (f *File) Successor(id string) string {
	for _, is := range f.Issuers {
		if is.Succeeds == id && id != "" {
			return is.ID
		}
	}
	return ""
}

// service is the name under which an issuer is asked for certificates.
func (is *Issuer) Service() string {
	if is.Pool != "" {
		return is.Pool
	}
	return is.ID
}

// needs reports whether an endpoint or a listener depends on an issuer or pool.
func (f *File) Needs(name string) bool {
	return slices.ContainsFunc(f.Endpoints, func(e Endpoint) bool { return e.Issuer == name }) ||
		f.Listeners.HTTPS.TLS.Issuer == name || f.Listeners.EST.TLS.Issuer == name
}

// offlineID is the name of a CA above an issuer: as configured, or else derived
// from its certificate.
func (f *File) OfflineID(c *x509.Certificate) string {
	for _, o := range f.Offline {
		if o.Certificate == "" {
			continue
		}
		if chain, err := ReadChain(o.Certificate); err == nil && bytes.Equal(chain[0].Raw, c.Raw) {
			return o.ID
		}
	}
	return "ca-" + pki.Fingerprint(c.Raw)[:16]
}

// locations are the URLs that go into the certificates of an issuer.
func (f *File) Locations(id string) issuer.Locations {
	base, shards := f.PublicURLs.HTTP, 0
	for _, is := range f.Issuers {
		if is.ID == id {
			shards = is.CRL.Shards
		}
	}
	return issuer.Locations{CRL: base + "/crl/" + id + ".crl", Shards: shards, OCSP: base + "/ocsp/" + id, CAIssuers: base + "/issuers/" + id + ".cer"}
}
