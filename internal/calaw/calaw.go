// Package calaw holds the laws of CA certificates, once for all who apply them.
//
// What we sign is judged by our laws: Wanted says what CA certificate is asked
// for, Wanted.Template what would be signed, and Check decides. The plan of a
// hierarchy, the ceremony and the door all end in Check, so that none of them
// accepts what another one refuses.
//
// What exists already (installed, adopted, imported) is judged by RFC 5280:
// Foreign says what path validation makes of a chain, and apart from that what
// such a CA may still do here.
//
// The package is pure: no file, no socket, no clock.
package calaw

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Years of validity, by the calendar: 20 times 365 days would be five short.
const (
	RootYears = 20 // of a root, unless it says otherwise
	CAYears   = 10 // of other CAs
	MaxYears  = 25 // of any CA (G1-12)

	maxOverride = 1000 // more than anybody means, and far from the end of what a date can say
)

// refuse is the fault of what a law forbids.
func refuse(reason, format string, args ...any) error {
	return fault.New(fault.Denied, format, args...).Because(reason)
}

// Key says where the private key of a CA is, which decides on its algorithm.
type Key int

// Where keys are.
const (
	Online  Key = iota // on a server, or with whoever made the request
	Offline            // with the custodians of a ceremony
)

// Algorithms returns the algorithms that a CA's key may have, the usual one first
// (G1-24, G1-50).
func Algorithms(where Key) []string {
	if where == Offline {
		return []string{"ec-p384", "rsa-4096"}
	}
	return []string{"ec-p256", "ec-p384", "ec-p521", "rsa-3072", "rsa-4096"}
}

// CheckAlgorithm refuses an algorithm that no CA's key has, with the reason
// key_type. The name is as pki.KeyAlgorithm has it.
func CheckAlgorithm(name string, where Key) error {
	all := Algorithms(where)
	if slices.Contains(all, name) {
		return nil
	}
	word := "a CA"
	if where == Offline {
		word = "an offline CA"
	}
	return refuse("key_type",
		"the key of %s is %s, not %s: make a key of one of these kinds", word, strings.Join(all, ", "), name)
}

// CheckRequest refuses what is no certificate request of a CA, with the reason
// not_a_ca, and a key that no CA has.
func CheckRequest(csr *pki.CSR) error {
	isCA, said, err := AsksForCA(csr)
	switch {
	case err != nil:
		return err
	case said && !isCA:
		return refuse("not_a_ca", "the request asks for CA:FALSE: only CAs are signed here")
	case len(csr.Names) > 0:
		return refuse("not_a_ca",
			"the request asks for the alternative name %s, which no CA has: make it without", csr.Names[0].Value)
	}
	if err := csr.Subject.Check(); err != nil { // nothing of a CA's name is dropped
		return fault.New(fault.BadCSR, "certificate request: its subject: %v", err).Because("subject")
	}
	return CheckAlgorithm(pki.KeyAlgorithm(csr.PublicKey), Online)
}

var oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}

// AsksForCA returns the basic constraints of a request; said is false where it has
// none.
func AsksForCA(csr *pki.CSR) (isCA, said bool, err error) {
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidBasicConstraints) {
			continue
		}
		var basic struct {
			CA      bool `asn1:"optional"`
			PathLen int  `asn1:"optional,default:-1"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &basic); err != nil || len(rest) != 0 || said && basic.CA != isCA {
			return false, true, refuse("not_a_ca",
				"the request's basic constraints cannot be read, or contradict themselves")
		}
		isCA, said = basic.CA, true
	}
	return isCA, said, nil
}

// Wanted is a CA certificate that is asked for.
type Wanted struct {
	// CSR is the request; without one Subject and PublicKey say for whom.
	CSR     *pki.CSR
	Subject pki.Name
	// RawSubject, instead of Subject, is the DER name of a CA that exists: it stays as
	// it is, and no name policy binds it.
	RawSubject []byte
	// PublicKey is nil where the key is not made yet: Algorithm says what it will be.
	PublicKey crypto.PublicKey
	Algorithm string
	KeyIs     Key

	NotBefore time.Time // zero is now
	Years     int       // by the calendar; 0 is RootYears or CAYears
	Override  bool      // the custodians accept a root of more than MaxYears
	PathLen   int       // CAs that may follow below it; a root has no limit
	// ExtKeyUsage bounds what the CA and all below it may be used for; none leaves
	// it free within what those above it may.
	ExtKeyUsage     []string
	Policies        []string
	NameConstraints *profile.NameConstraints
	Names           NamePolicy
}

// IssuingUsages are the extended key usages of a CA that says nothing of them:
// what the built-in profiles need.
func IssuingUsages() []string { return profile.BuiltIn()["issuing-ca"].ExtKeyUsage }

// Template returns what would be signed below a chain (issuer first, root last),
// or as a root where the chain is empty. Its faults are those of Check, and
// key_type, subject, validity, ca_terms (usages, policies or constraints that
// cannot be read) and those of profile.Apply.
func (w Wanted) Template(above []*x509.Certificate, now time.Time) (*profile.Template, error) {
	if err := w.checkKey(); err != nil {
		return nil, err
	}
	if w.Years < 0 || w.Years > maxOverride {
		return nil, refuse("validity",
			"validity: %d years: want a number of calendar years, or none for the usual", w.Years)
	}
	if len(above) > 0 && w.PathLen < 0 {
		return nil, refuse("path_length", "path length %d: want how many CAs may follow below", w.PathLen)
	}
	p, err := w.profile(len(above) == 0)
	if err != nil {
		return nil, err
	}
	t, err := p.Apply(w.request(), now)
	if err != nil {
		return nil, err
	}
	if w.RawSubject != nil {
		name, err := pki.ParseNameDER(w.RawSubject)
		if err != nil {
			return nil, fault.New(fault.Malformed, "subject: %w", err).Because("subject")
		}
		t.RawSubject, t.Subject = w.RawSubject, name.String()
	}
	w.period(t, len(above) == 0, now)
	return t, check(above, t, w.Names, w.RawSubject != nil, w.Override && len(above) == 0)
}

// request is what a profile is asked for.
func (w Wanted) request() profile.Request {
	r := profile.Request{CSR: w.CSR, PublicKey: w.PublicKey}
	switch {
	case w.CSR != nil:
		return r
	case w.RawSubject != nil:
		name := pki.CommonNameOnly("name") // a profile could not write every name that exists
		r.Subject = &name
	default:
		r.Subject = &w.Subject
	}
	if r.PublicKey == nil {
		r.PublicKey = standIn()
	}
	return r
}

func (w Wanted) checkKey() error {
	switch {
	case w.CSR != nil:
		return CheckRequest(w.CSR)
	case w.PublicKey != nil:
		return CheckAlgorithm(pki.KeyAlgorithm(w.PublicKey), w.KeyIs)
	}
	return CheckAlgorithm(w.Algorithm, w.KeyIs)
}

// profile is root-ca or issuing-ca with the bounds that are wanted.
func (w Wanted) profile(root bool) (*profile.Profile, error) {
	name := "issuing-ca"
	if root {
		name = "root-ca"
	}
	config := profile.BuiltIn()[name]
	config.Keys = Algorithms(Online)                                         // checkKey has said which
	config.KeyUsage = []string{"digitalSignature", "keyCertSign", "cRLSign"} // G1-30, G1-31
	config.ExtKeyUsage, config.Policies, config.NameConstraints = w.ExtKeyUsage, w.Policies, w.NameConstraints
	if !root {
		config.PathLen = &w.PathLen
	}
	p, err := profile.Compile(name, config)
	if err != nil {
		return nil, fault.New(fault.Malformed, "what the CA may do: %w", err).Because("ca_terms")
	}
	return p, nil
}

// period sets a validity of whole calendar years, both ends included (RFC 5280,
// section 4.1.2.5).
func (w Wanted) period(t *profile.Template, root bool, now time.Time) {
	start, years := w.NotBefore, w.Years
	if start.IsZero() {
		start = now
	}
	switch {
	case years > 0:
	case root:
		years = RootYears
	default:
		years = CAYears
	}
	t.NotBefore = start.UTC().Truncate(time.Second)
	t.NotAfter = t.NotBefore.AddDate(years, 0, 0).Add(-time.Second)
	t.ClampNotAfter = false
}

// Check decides whether a chain (issuer first, root last) may sign the template of
// a CA; no chain is for a root. The zero NamePolicy is StrictNames, of a root
// RootNames. Its faults are Denied with the reason name_taken, name_policy,
// key_usage, path_length or validity, and those of hierarchy.Check.
func Check(above []*x509.Certificate, t *profile.Template, names NamePolicy) error {
	return check(above, t, names, false, false)
}

const caUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign

func check(above []*x509.Certificate, t *profile.Template, names NamePolicy, anyName, anyLength bool) error {
	if !t.CA {
		return errors.New("check CA: the template is not a CA's")
	}
	if err := CheckAlgorithm(pki.KeyAlgorithm(t.PublicKey), Online); err != nil {
		return err
	}
	// The day is for beginnings that a profile has set back.
	longest := t.NotBefore.AddDate(MaxYears, 0, 1)
	switch {
	case t.KeyUsage&^x509.KeyUsageDigitalSignature != caUsage:
		return refuse("key_usage",
			"key usage: a CA has keyCertSign and cRLSign, may have digitalSignature, and has no other")
	case len(above) > 0 && t.MaxPathLen < 0:
		return refuse("path_length", "a CA below another one needs a path length")
	case t.NotAfter.After(longest) && !anyLength:
		return refuse("validity", "validity: %d years are more than the %d that a CA lives at most (until %s); "+
			"for a root, the custodians of a ceremony may override that",
			t.NotAfter.Add(time.Second).Year()-t.NotBefore.Year(), MaxYears, t.NotAfter.Format(time.DateOnly))
	}
	if len(above) > 0 {
		err := hierarchy.Check(above, hierarchy.Child{
			CA: true, MaxPathLen: t.MaxPathLen, NotBefore: t.NotBefore, NotAfter: t.NotAfter,
			Names: t.Names, RawSubject: t.RawSubject, EKU: t.ExtKeyUsage,
		})
		if err != nil {
			return err
		}
	}
	return checkName(above, t.RawSubject, names, anyName)
}

// standIn stands for a key that is not made yet: the base point of P-256.
func standIn() crypto.PublicKey {
	p := elliptic.P256().Params()
	point := append([]byte{4}, p.Gx.FillBytes(make([]byte, 32))...) // SEC 1, section 2.3.3: not compressed
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(point, p.Gy.FillBytes(make([]byte, 32))...))
	if err != nil {
		panic(err) // a constant of the curve
	}
	return key
}
