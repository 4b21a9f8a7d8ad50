package calaw

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/hierarchy"
	"github.com/privyseal/privyseal/internal/pki"
)

// Finding is one thing about a CA that exists.
type Finding struct {
	Reason string // stable code in snake case, such as "weak_key"
	Detail string // what, why, and what can be done, for the operator
}

// Verdict is what becomes of a CA that exists. The zero value is a CA that may do
// everything.
type Verdict struct {
	// Refused says why path validation accepts nothing below the CA, whatever is
	// done here: it cannot be taken in. Nothing else is filled in then.
	Refused *Finding
	// NoSigning says why the CA signs nothing new here. It may stand, and publish
	// lists and OCSP for what it has signed.
	NoSigning []Finding
	// NotNow says why it signs nothing at this time: the chain has expired, or has not
	// begun.
	NotNow []Finding
	// NoLists says why the CA cannot publish lists either.
	NoLists []Finding
	// Warnings are what is allowed and still worth a look.
	Warnings []Finding
}

// Err returns why the CA cannot be taken in, or nil: Denied, with the finding's
// reason.
func (v Verdict) Err() error {
	if v.Refused == nil {
		return nil
	}
	return refuse(v.Refused.Reason, "%s", v.Refused.Detail)
}

// MaySign returns why the CA signs nothing new, or nil: Denied, with the reason of
// the first finding.
func (v Verdict) MaySign() error { return v.first(append(slices.Clone(v.NoSigning), v.NotNow...)) }

// MayList returns why the CA signs no lists, or nil, as MaySign does.
func (v Verdict) MayList() error { return v.first(v.NoLists) }

func (v Verdict) first(list []Finding) error {
	if err := v.Err(); err != nil || len(list) == 0 {
		return err
	}
	return refuse(list[0].Reason, "%s", list[0].Detail)
}

// shortLife is when a CA is said to end soon: half a year, in which a new one can
// be asked for, signed and installed.
const shortLife = 182 * 24 * time.Hour

// Foreign judges a CA that exists by its chain (this CA first, self-signed root
// last) as path validation does (RFC 5280, section 6). That a CA begins before or
// ends after the one above it is no fault there, and none here.
func Foreign(chain []*x509.Certificate, now time.Time) Verdict {
	if f := validate(chain); f != nil {
		return Verdict{Refused: f}
	}
	j := &judged{chain: chain, now: now}
	for i, c := range chain {
		j.times(i, c)
		j.strength(i, c)
		j.form(i, c)
	}
	j.usage()
	j.policies()
	j.constraints()
	return j.Verdict
}

// judged is a verdict in the making.
type judged struct {
	Verdict
	chain []*x509.Certificate
	now   time.Time
}

func add(list *[]Finding, reason, format string, args ...any) {
	*list = append(*list, Finding{reason, fmt.Sprintf(format, args...)})
}

func (j *judged) root(i int) bool { return i == len(j.chain)-1 }

func (j *judged) times(i int, c *x509.Certificate) {
	switch {
	case j.now.After(c.NotAfter):
		add(&j.NotNow, "expired",
			"%s expired on %s: nothing below it is accepted any more; have it renewed with the same key, "+
				"or put a successor in its place", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
	case j.now.Before(c.NotBefore):
		add(&j.NotNow, "not_yet_valid", "%s is not valid before %s: wait, or look at the clock of this server",
			c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	case i == 0 && c.NotAfter.Sub(j.now) < shortLife:
		add(&j.Warnings, "short_life",
			"%s ends on %s, and what it signs ends no later: have it renewed, or its successor made",
			c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
	}
}

// caKeys is what a CA signs with here. Of RSA, 2048 bits are too few for what is to
// hold for years (G1-50).
func caKeys() pki.KeyPolicy {
	return pki.KeyPolicy{RSAMin: 3072, RSAMax: 8192, Curves: []string{"P-256", "P-384", "P-521"}, Ed25519: true}
}

// minRSAAbove is what a CA above must have: less can be broken, and with it all
// that is below.
const minRSAAbove = 2048

func (j *judged) strength(i int, c *x509.Certificate) {
	if i == 0 {
		if err := pki.CheckKey(c.PublicKey, caKeys()); err != nil {
			add(&j.NoSigning, "weak_key",
				"the key of %s (%s) is too weak to sign anything new (%s): replace the CA by one with a new key",
				c.Subject, pki.KeyAlgorithm(c.PublicKey), detail(err))
		}
	} else if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < minRSAAbove {
		add(&j.NoSigning, "weak_key",
			"the key of %s, above this CA, has %d bits: whoever breaks it makes CAs of their own, "+
				"and verifiers refuse it; have this CA certified by a root with a stronger key",
			c.Subject, k.N.BitLen())
	}
	// Nobody relies on a root's signature on itself.
	if weakHash(c.SignatureAlgorithm) && !j.root(i) {
		add(&j.NoSigning, "weak_signature",
			"%s is signed with %s, for which collisions are made: verifiers refuse it and all below; "+
				"have it signed again with SHA-256 or better for the same key", c.Subject, c.SignatureAlgorithm)
	}
}

func weakHash(a x509.SignatureAlgorithm) bool {
	return slices.Contains([]x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1}, a)
}

// form finds what verifiers overlook and a CA of ours would not have.
func (j *judged) form(i int, c *x509.Certificate) {
	root := j.root(i)
	if len(c.SubjectKeyId) == 0 {
		add(&j.Warnings, "no_key_identifier",
			"%s has no subject key identifier: verifiers find it by its name alone, which fails them "+
				"when it is renewed with another key; a renewed certificate should have one", c.Subject)
	}
	if !root && len(c.AuthorityKeyId) == 0 {
		add(&j.Warnings, "no_authority_key_identifier",
			"%s has no authority key identifier: verifiers have to guess which of several "+
				"certificates of %s is above it; a renewed certificate should have one", c.Subject, c.Issuer)
	}
	if _, said := pki.Extension(c.Extensions, oidKeyUsage); !said {
		add(&j.Warnings, "no_key_usage",
			"%s has no key usage, as openssl req -x509 makes it: RFC 5280 takes its use as not restricted, "+
				"some verifiers refuse it; a renewed certificate should have a critical one with "+
				"keyCertSign and cRLSign",
			c.Subject)
	}
	for _, e := range c.Extensions {
		word := ""
		switch {
		case e.Critical:
		case e.Id.Equal(oidBasicConstraints):
			word = "basic constraints"
		case e.Id.Equal(oidNameConstraints):
			word = "name constraints"
		}
		if word != "" {
			add(&j.Warnings, "not_critical",
				"%s has %s that are not marked critical, as RFC 5280 demands: verifiers that do not "+
					"know them pass over them; a renewed certificate should mark them", c.Subject, word)
		}
	}
	if _, said := pki.Extension(c.Extensions, oidBasicConstraints); !said { // validate lets only a root pass without
		add(&j.Warnings, "no_basic_constraints",
			"the root %s has no basic constraints (X.509 version %d): verifiers accept it only because "+
				"they trust it already; have the CAs below certified by a root of version 3", c.Subject, c.Version)
		if i == 0 {
			add(&j.NoSigning, "not_a_ca",
				"%s does not say that it is a CA: replace it by a root of version 3", c.Subject)
		}
	}
}

// usage looks at what the CA's own key may sign. No key usage is every one.
func (j *judged) usage() {
	c := j.chain[0]
	if _, said := pki.Extension(c.Extensions, oidKeyUsage); !said {
		return
	}
	if c.KeyUsage&x509.KeyUsageCertSign == 0 {
		add(&j.NoSigning, "key_usage",
			"the key usage of %s lacks keyCertSign: verifiers refuse every certificate that it signs; "+
				"have it certified anew with keyCertSign and cRLSign", c.Subject)
	}
	if c.KeyUsage&x509.KeyUsageCRLSign == 0 {
		add(&j.NoLists, "key_usage", "the key usage of %s lacks cRLSign: verifiers refuse its revocation lists; "+
			"have it certified anew with keyCertSign and cRLSign", c.Subject)
		add(&j.NoSigning, "key_usage",
			"the key usage of %s lacks cRLSign: what it signed could never be revoked by a list; "+
				"have it certified anew with keyCertSign and cRLSign", c.Subject)
	}
}

// constraints says what directory name constraints mean for this server.
func (j *judged) constraints() {
	for _, c := range j.chain {
		value, ok := pki.Extension(c.Extensions, oidNameConstraints)
		if !ok {
			continue
		}
		nc, err := pki.ParseNameConstraints(value)
		if err != nil {
			continue // validate has refused it
		}
		if slices.ContainsFunc(slices.Concat(nc.Permitted, nc.Excluded), isDirectory) {
			own := "this server's own certificates below it (OCSP responder, RA) take their names from the CA's"
			if _, err := OwnName(j.chain, "x"); err != nil {
				own = "and no name for this server's own certificates (OCSP responder, RA) fits: " +
					"let the CA's own key sign OCSP"
			}
			add(&j.Warnings, "directory_constraints",
				"%s bounds the directory names below it: a request with a subject outside of them "+
					"is refused; %s", c.Subject, own)
		}
	}
}

func isDirectory(t pki.Subtree) bool { return t.Type == pki.DirName }

// OwnName returns the name of a certificate of the server's own below a chain
// (issuer first): the CA's own name with another CN, or with one more where the
// name constraints above hold the whole name. Its fault is hierarchy.Check's.
func OwnName(chain []*x509.Certificate, cn string) (pki.Name, error) {
	ca, err := pki.ParseNameDER(chain[0].RawSubject)
	if err != nil {
		return nil, fmt.Errorf("name of %s: %w", chain[0].Subject, err)
	}
	own := pki.CommonNameOnly(cn)
	var last error
	for _, name := range []pki.Name{own, append(withoutCN(ca), own...), append(slices.Clone(ca), own...)} {
		der, err := name.DER()
		if err != nil {
			last = refuse("subject", "%v", err)
			continue
		}
		if last = hierarchy.CheckNames(chain, hierarchy.Child{RawSubject: der}); last == nil {
			return name, nil
		}
	}
	return nil, last
}

func withoutCN(name pki.Name) pki.Name {
	return slices.DeleteFunc(slices.Clone(name), func(r pki.RDN) bool {
		return len(r) == 1 && r[0].OID.Equal(pki.OIDCommonName)
	})
}

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// Signed checks a CA certificate that was signed here (it first, root last): what
// path validation makes of it, and our laws.
func Signed(chain []*x509.Certificate) error {
	if f := validate(chain); f != nil {
		return Verdict{Refused: f}.Err()
	}
	if len(chain) == 1 {
		return nil
	}
	child, err := hierarchy.Describe(chain[0])
	if err != nil {
		return err
	}
	return hierarchy.Check(chain[1:], child)
}
