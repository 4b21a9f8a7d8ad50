package ceremony

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Years of validity, by the calendar: 20 times 365 days would be five short.
const (
	rootYears    = 20
	maxRootYears = 25 // G1-12
	caYears      = 10
)

// PrivateNames permits what never leaves an organisation's own machines: the
// special-use domains localhost, test and internal, and loopback, link-local and
// private addresses. Mailboxes, URIs and all other forms of names stay free.
func PrivateNames() *profile.NameConstraints {
	return &profile.NameConstraints{Permitted: profile.Subtrees{
		DNS: []string{"localhost", "test", "internal"},
		IP: []string{
			"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
			"::1/128", "fc00::/7", "fe80::/10",
		},
	}}
}

// check refuses what no key is made for.
func (s RootSpec) check() error {
	if s.Years < 0 {
		return refuse("validity", "validity: %d years", s.Years)
	}
	if s.Years > maxRootYears && !s.Override {
		return refuse("validity", "validity: %d years are more than the %d of a root; override to accept it", s.Years, maxRootYears)
	}
	return nil
}

// template is what the profile root-ca grants, for as long as the spec says.
func (s RootSpec) template(pub crypto.PublicKey, now time.Time) (*profile.Template, error) {
	subject, err := pki.ParseName(s.Subject)
	if err != nil {
		return nil, err
	}
	config := profile.BuiltIn()["root-ca"]
	config.Keys = []string{"ec-p384", "rsa-4096"} // G1-24, G1-50
	config.KeyUsage = authorityUsage()
	config.NameConstraints = s.NameConstraints
	p, err := profile.Compile("root-ca", config)
	if err != nil {
		return nil, err
	}
	t, err := p.Apply(profile.Request{PublicKey: pub, Subject: &subject}, now)
	if err != nil {
		return nil, err
	}
	start := s.NotBefore
	if start.IsZero() {
		start = now
	}
	period(t, start, s.Years, rootYears)
	return t, nil
}

// authorityUsage is G1-30 and G1-31.
func authorityUsage() []string { return []string{"digitalSignature", "keyCertSign", "cRLSign"} }

// period sets a validity of whole calendar years, both ends included.
func period(t *profile.Template, start time.Time, years, usual int) {
	if years == 0 {
		years = usual
	}
	t.NotBefore = start.UTC().Truncate(time.Second)
	t.NotAfter = t.NotBefore.AddDate(years, 0, 0).Add(-time.Second)
	t.ClampNotAfter = false
}

// template is what the profile issuing-ca, with the spec's bounds, grants to the
// request below the given chain.
func (s CASpec) template(chain []*x509.Certificate, csr *pki.CSR, now time.Time) (*profile.Template, error) {
	if err := checkRequest(csr); err != nil {
		return nil, err
	}
	signer, err := pki.ParseNameDER(chain[0].RawSubject)
	if err != nil {
		return nil, err
	}
	for _, above := range chain {
		// Two keys would speak, and sign lists, under one name.
		if name, err := pki.ParseNameDER(above.RawSubject); err == nil && name.EqualRFC5280(csr.Subject) {
			return nil, refuse("name_taken", "subject: %s is the name of a CA above: take another one", csr.Subject)
		}
	}
	names := s.Names
	if names.empty() {
		names = StrictNames()
	}
	if err := names.check(signer, csr.Subject); err != nil {
		return nil, err
	}
	config := authority(s.PathLen, s.Policies, s.NameConstraints)
	if len(s.ExtKeyUsage) > 0 {
		config.ExtKeyUsage = s.ExtKeyUsage
	}
	p, err := profile.Compile("issuing-ca", config)
	if err != nil {
		return nil, err
	}
	t, err := p.Apply(profile.Request{CSR: csr}, now)
	if err != nil {
		return nil, err
	}
	start := s.NotBefore
	if start.IsZero() {
		start = now
	}
	return bounded(t, chain, s.Years, start)
}

// authority is the profile issuing-ca with a ceremony's bounds.
func authority(pathLen int, policies []string, names *profile.NameConstraints) profile.Config {
	config := profile.BuiltIn()["issuing-ca"]
	config.KeyUsage = authorityUsage()
	config.PathLen = &pathLen
	config.Policies = policies
	config.NameConstraints = names
	return config
}

// bounded gives a CA's template its calendar years and holds it against the laws
// of the hierarchy.
func bounded(t *profile.Template, chain []*x509.Certificate, years int, start time.Time) (*profile.Template, error) {
	if years < 0 {
		return nil, refuse("validity", "validity: %d years", years)
	}
	period(t, start, years, caYears)
	if err := hierarchy.Check(chain, hierarchy.Child{
		CA: true, MaxPathLen: t.MaxPathLen, NotBefore: t.NotBefore, NotAfter: t.NotAfter,
		RawSubject: t.RawSubject, EKU: t.ExtKeyUsage,
	}); err != nil {
		return nil, fmt.Errorf("check hierarchy: %w", err)
	}
	return t, nil
}
