package ceremony

import (
	"crypto"
	"crypto/x509"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
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

// template is the root for a key; nil is one that is not made yet.
func (s RootSpec) template(pub crypto.PublicKey, now time.Time) (*profile.Template, error) {
	subject, err := calaw.ParseSubject(s.Subject)
	if err != nil {
		return nil, err
	}
	return calaw.Wanted{
		Subject: subject, PublicKey: pub, Algorithm: offlineAlgorithm(s.Algorithm), KeyIs: calaw.Offline,
		NotBefore: s.NotBefore, Years: s.Years, Override: s.Override, NameConstraints: s.NameConstraints,
	}.Template(nil, now)
}

// offlineAlgorithm is what a key's algorithm is where none is named.
func offlineAlgorithm(name string) string {
	if name == "" {
		return calaw.Algorithms(calaw.Offline)[0]
	}
	return name
}

// template is the CA that a request asks for below the given chain.
func (s CASpec) template(chain []*x509.Certificate, csr *pki.CSR, now time.Time) (*profile.Template, error) {
	w := s.wanted()
	w.CSR = csr
	if len(w.ExtKeyUsage) == 0 {
		w.ExtKeyUsage = calaw.IssuingUsages()
	}
	return w.Template(chain, now)
}

func (s CASpec) wanted() calaw.Wanted {
	return calaw.Wanted{
		NotBefore: s.NotBefore, Years: s.Years, PathLen: s.PathLen, ExtKeyUsage: s.ExtKeyUsage, Policies: s.Policies,
		NameConstraints: s.NameConstraints, Names: s.Names,
	}
}
