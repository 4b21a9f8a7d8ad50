package ceremony

import (
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Act is one of the nine things that an offline CA does. Exactly one is set.
type Act struct {
	Root         *RootAct         `yaml:"root,omitempty"`
	SignCA       *SignCAAct       `yaml:"sign-ca,omitempty"`
	CrossSign    *CrossSignAct    `yaml:"cross-sign,omitempty"`
	ReplaceCA    *ReplaceCAAct    `yaml:"replace-ca,omitempty"`
	CRL          *CRLAct          `yaml:"crl,omitempty"`
	Revoke       *RevokeAct       `yaml:"revoke,omitempty"`
	Responder    *ResponderAct    `yaml:"sign-ocsp-responder,omitempty"`
	ChangeQuorum *ChangeQuorumAct `yaml:"change-quorum,omitempty"`
	Destroy      *DestroyAct      `yaml:"destroy,omitempty"`
}

// ActNames are the acts, as a file names them.
var ActNames = []string{"root", "sign-ca", "cross-sign", "replace-ca", "crl", "revoke", "sign-ocsp-responder",
	"change-quorum", "destroy"}

// RootAct makes a self-signed CA and its key.
type RootAct struct {
	CA        string `yaml:"ca"`
	Subject   string `yaml:"subject"`             // RFC 4514: "CN=Example Root,O=Example,ST=Bremen,C=DE"
	Algorithm string `yaml:"algorithm,omitempty"` // ec-p384 (default) or rsa-4096
	Years     int    `yaml:"years,omitempty"`     // calendar years; default 20
	Override  bool   `yaml:"override,omitempty"`  // accept more than 25 years
	UseKey    bool   `yaml:"use_key,omitempty"`   // take the key that the token holds under this name already
	// NameConstraints bounds every name below.
	NameConstraints *profile.NameConstraints `yaml:"name_constraints,omitempty"`
}

// SignCAAct signs a CA certificate: for a request, or for an offline CA that
// comes into being by it.
type SignCAAct struct {
	CA string `yaml:"ca"`
	// CSR is the request's file.
	CSR string `yaml:"csr,omitempty"`
	// New, instead of csr, is the offline CA to make, with its subject and
	// algorithm (ec-p384, the default, or rsa-4096).
	New       string `yaml:"new,omitempty"`
	Subject   string `yaml:"subject,omitempty"`
	Algorithm string `yaml:"algorithm,omitempty"`
	UseKey    bool   `yaml:"use_key,omitempty"`
	Terms     `yaml:",inline"`
}

// Terms are what a CA certificate says beside name and key.
type Terms struct {
	Years       int      `yaml:"years,omitempty"`         // calendar years; default 10
	PathLen     int      `yaml:"path_len,omitempty"`      // CAs that may follow below; default 0
	ExtKeyUsage []string `yaml:"ext_key_usage,omitempty"` // default: all that the server's profiles need
	Policies    []string `yaml:"policies,omitempty"`      // certificate policy OIDs
	// NameConstraints bounds every name below.
	NameConstraints *profile.NameConstraints `yaml:"name_constraints,omitempty"`
}

func (t Terms) spec(a *Authority) CASpec {
	return CASpec{
		Years: t.Years, PathLen: t.PathLen, ExtKeyUsage: t.ExtKeyUsage, Policies: t.Policies,
		NameConstraints: t.NameConstraints,
		Names:           a.NamePolicy, Locations: a.locations(),
	}
}

// CrossSignAct signs a second certificate for a CA that exists elsewhere.
type CrossSignAct struct {
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`   // the other CA's: self-signed, or with a request of its key
	CSR         string `yaml:"csr,omitempty"` // proof that the key is held, where the certificate is none
	Terms       `yaml:",inline"`
}

// ReplaceCAAct signs the successor of a CA. The predecessor drains, or is revoked
// where revoke says why; a list must follow then.
type ReplaceCAAct struct {
	CA       string `yaml:"ca"`
	Replaces string `yaml:"replaces"` // the predecessor's certificate file, or its serial
	CSR      string `yaml:"csr"`      // of the successor's new key
	Revoke   string `yaml:"revoke,omitempty"`
	Terms    `yaml:",inline"`
}

// CRLAct signs the list of all that is revoked.
type CRLAct struct {
	CA     string `yaml:"ca"`
	Days   int    `yaml:"days,omitempty"`    // until the next one; default 180, at most 400
	OnlyCA bool   `yaml:"only_ca,omitempty"` // say that it covers CA certificates only
	// Published is the file of the list that the server publishes now, DER or PEM. It
	// is a witness of what this folder may have lost: every entry of it has to be on
	// the next list, whose number is higher.
	Published string `yaml:"published,omitempty"`
}

// RevokeAct enters a certificate as revoked. It holds from the next list on.
type RevokeAct struct {
	CA          string `yaml:"ca"`
	Certificate string `yaml:"certificate"`      // its file, or its serial
	Reason      string `yaml:"reason,omitempty"` // keyCompromise, cACompromise, superseded, …
	Since       string `yaml:"since,omitempty"`  // of a compromise: 2026-11-21 or 2026-11-21T12:00:00Z
}

// ResponderAct signs the certificate of an OCSP responder whose key is online.
type ResponderAct struct {
	CA   string `yaml:"ca"`
	CSR  string `yaml:"csr"`
	Days int    `yaml:"days,omitempty"` // of life; default 180
}

// ChangeQuorumAct divides the key's secret anew: the old shares open nothing
// from then on, but old copies of the key file.
type ChangeQuorumAct struct {
	CA     string `yaml:"ca"`
	Quorum Quorum `yaml:"quorum"`
}

// DestroyAct destroys a CA's key file for good. It is the last act of its CA.
type DestroyAct struct {
	CA       string `yaml:"ca"`
	Override bool   `yaml:"override,omitempty"` // although certificates of it are still valid
}

// name returns what a file calls the act, and the CA that performs it.
func (a Act) name() (act, ca string) {
	switch {
	case a.Root != nil:
		return "root", a.Root.CA
	case a.SignCA != nil:
		return "sign-ca", a.SignCA.CA
	case a.CrossSign != nil:
		return "cross-sign", a.CrossSign.CA
	case a.ReplaceCA != nil:
		return "replace-ca", a.ReplaceCA.CA
	case a.CRL != nil:
		return "crl", a.CRL.CA
	case a.Revoke != nil:
		return "revoke", a.Revoke.CA
	case a.Responder != nil:
		return "sign-ocsp-responder", a.Responder.CA
	case a.ChangeQuorum != nil:
		return "change-quorum", a.ChangeQuorum.CA
	case a.Destroy != nil:
		return "destroy", a.Destroy.CA
	}
	return "", ""
}

func (a Act) count() int {
	n := 0
	for _, is := range []bool{
		a.Root != nil, a.SignCA != nil, a.CrossSign != nil, a.ReplaceCA != nil, a.CRL != nil,
		a.Revoke != nil, a.Responder != nil, a.ChangeQuorum != nil, a.Destroy != nil,
	} {
		if is {
			n++
		}
	}
	return n
}

// checkAct finds what makes an act impossible or useless.
func (f *File) checkAct(n int, act Act) error {
	name, ca := act.name()
	a, err := f.authority(ca)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch {
	case a.Key != "" && (act.ChangeQuorum != nil || act.Destroy != nil):
		err = fmt.Errorf("the key of %s is in a token: who may use it is the token's own affair, and so is its end", ca)
	case act.SignCA != nil:
		err = act.SignCA.check(f)
	case act.ReplaceCA != nil && act.ReplaceCA.Revoke != "":
		if _, err = pki.ParseReason(act.ReplaceCA.Revoke); err == nil {
			err = f.listFollows(n, ca)
		}
	case act.Revoke != nil:
		err = f.listFollows(n, ca)
	case act.ChangeQuorum != nil:
		err = act.ChangeQuorum.Quorum.check()
	case act.Destroy != nil:
		err = f.lastOf(n, ca)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (a *SignCAAct) check(f *File) error {
	switch {
	case (a.CSR == "") == (a.New == ""):
		return errors.New("want either csr, or new for an offline CA of this ceremony")
	case a.CSR != "" && (a.Subject != "" || a.Algorithm != "" || a.UseKey):
		return errors.New("subject, algorithm and use_key go with new; a request brings its own")
	case a.CSR != "":
		return nil
	}
	_, err := f.authority(a.New)
	return err
}

// listFollows demands a list after a revocation, which nobody learns of else.
func (f *File) listFollows(n int, ca string) error {
	for _, later := range f.Acts[n+1:] {
		if later.CRL != nil && later.CRL.CA == ca {
			return nil
		}
	}
	return fmt.Errorf("a revocation takes effect with the next list: add \"- crl: {ca: %s}\" after it", ca)
}

func (f *File) lastOf(n int, ca string) error {
	for _, later := range f.Acts[n+1:] {
		if _, by := later.name(); by == ca {
			return errors.New("it must be the last act of its CA")
		}
	}
	return nil
}
