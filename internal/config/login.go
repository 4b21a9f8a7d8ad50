package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/login"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// oidcTimeout bounds each call of a provider.
const oidcTimeout = 10 * time.Second

// checkLogin checks the ways in.
func (f *File) checkLogin(d *strictyaml.Document) {
	seen := map[string]bool{}
	for i, c := range f.Access.OIDC {
		key := fmt.Sprintf("access.oidc[%d]", i)
		if !plainName.MatchString(c.Name) {
			d.Report(key+".name", "%q: want lower-case letters, digits and hyphens", c.Name)
		}
		if seen[c.Name] {
			d.Report(key+".name", "%q is defined twice", c.Name)
		}
		seen[c.Name] = true
		d.Check(key, c.Check())
		if _, err := f.provider(c); err != nil {
			d.Report(key, "%v", err)
		}
	}
	f.checkAnchors(d)
	if len(f.Access.OIDC)+len(f.Access.Certificates) > 0 && f.Listeners.HTTPSAdmin.Addr == "" {
		d.Warn("access", "nobody can log in: listeners.https_admin is off")
	}
}

// checkAnchors checks the CAs whose certificates log in.
func (f *File) checkAnchors(d *strictyaml.Document) {
	seen := map[string]bool{}
	for i, c := range f.Access.Certificates {
		key := fmt.Sprintf("access.certificates[%d]", i)
		if !plainName.MatchString(c.Name) || seen[c.Name] {
			d.Report(key+".name", "%q: want lower-case letters, digits and hyphens, once", c.Name)
		}
		seen[c.Name] = true
		d.Check(key, c.Check())
		if c.Issuer != "" {
			d.Check(key, strictyaml.OneOf("issuer", c.Issuer, f.services()...))
			for j, p := range c.Profiles {
				d.Check(key, strictyaml.OneOf(fmt.Sprintf("profiles[%d]", j), p, f.profileNames()...))
			}
		}
		if _, err := f.anchor(c); err != nil {
			d.Report(key+".file", "%v", err)
		}
		if c.Revocation == "none" {
			d.Warn(key+".revocation", "certificates of %s log in although they were revoked", c.File)
		}
	}
	if n := len(f.Access.Certificates); n > 0 && f.Access.CertificateName == "" {
		d.Report("access.certificate_name", "required: the name under which client certificates are asked for")
	}
}

// Anchors reads what the configurations of anchors refer to.
func (f *File) Anchors() ([]*login.Anchor, error) {
	var all []*login.Anchor
	for _, c := range f.Access.Certificates {
		a, err := f.anchor(c)
		if err != nil {
			return nil, fmt.Errorf("anchor %s: %w", c.Name, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// LogsIn reports whether certificates of a profile log in at https-admin: those of the
// built-in one for that, which may be asked for before there is an anchor, and of anchors.
func (f *File) LogsIn(profile string) bool {
	return profile == login.OperatorProfile || slices.ContainsFunc(f.Access.Certificates, func(c login.AnchorConfig) bool {
		return slices.Contains(c.Profiles, profile)
	})
}

func (f *File) anchor(c login.AnchorConfig) (*login.Anchor, error) {
	a := &login.Anchor{AnchorConfig: c, Lists: func() ([]byte, error) { return os.ReadFile(c.CRL) }}
	if c.File == "" {
		return a, nil
	}
	var err error
	a.Roots, err = f.Chain(c.File)
	return a, err
}

// Providers reads what the configurations of OpenID providers refer to.
func (f *File) Providers() ([]*login.Provider, error) {
	var all []*login.Provider
	for _, c := range f.Access.OIDC {
		p, err := f.provider(c)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", c.Name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func (f *File) provider(c login.ProviderConfig) (*login.Provider, error) {
	p := &login.Provider{ProviderConfig: c}
	if c.ClientSecret != "" {
		secret, err := f.secret(Reference(c.ClientSecret))
		if err != nil {
			return nil, fmt.Errorf("client_secret: %w", err)
		}
		p.Secret = string(secret)
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		roots, err := f.Chain(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		trust.RootCAs = x509.NewCertPool()
		for _, c := range roots {
			trust.RootCAs.AddCert(c)
		}
	}
	p.Client = &http.Client{Timeout: oidcTimeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: 4,
	}}
	return p, nil
}
