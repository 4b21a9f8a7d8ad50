// Package ca is what a server knows of its certification authorities.
//
// A CA is a name and a key. It has one or more certificates (renewed,
// cross-signed), and whatever holds for the name and the key holds for all of
// them: a list, a revocation, a suspension. Its facts stand in fields of their
// own: its Stage, where its key is, and its Trust; MaySign joins them.
//
// A Set is all CAs at one moment. Build makes it of the configuration's
// declarations, the rows of the database and the keys that are open; it is
// immutable and is swapped as a whole, so that nobody knows of one change and
// not of another. Watch reads the lists of the CAs above and makes of a Set the
// next one. The package writes nothing and listens to nobody.
package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Stage is where a CA stands in its life.
type Stage string

// The stages.
const (
	Declared Stage = "declared" // the configuration names it; it has no certificate yet
	Active   Stage = "active"
	Draining Stage = "draining" // it has a successor; its certificates still live
	Retired  Stage = "retired"  // the last of them has expired
)

// KeyState says where a CA's private key is.
type KeyState string

// The places of a key.
const (
	KeyHere      KeyState = "here"
	KeyElsewhere KeyState = "elsewhere" // offline, or another program's
	KeyLost      KeyState = "lost"      // it should be here and cannot be used
)

// TrustState says what relying parties make of a CA's signatures.
type TrustState string

// The states of trust.
const (
	Good    TrustState = "good"
	Revoked TrustState = "revoked" // by a CA above
	Expired TrustState = "expired" // it, or a CA above
)

// Trust is a state with its reason. Why and Since are empty where all is well.
type Trust struct {
	State TrustState
	Why   string
	Since time.Time
}

// Declaration is what the configuration says of one CA.
type Declaration struct {
	ID      string
	Offline bool // its key is elsewhere: it is published, and signs nothing here
	// Pool is the name that it shares with those that stand in for it; Succeeds the
	// id of the generation before it.
	Pool, Succeeds     string
	Subject, Algorithm string // RFC 4514, and of a key to be made; both may be empty
	MaxChildren        int    // CAs that it may have below it; 0 is any number
	Locations          issuer.Locations
	// Key says where its key is, and Secret and KeyConfig open it.
	Key       keys.Ref
	Secret    keys.Secret
	KeyConfig keys.Config
	// Initial is the chain to install at the first start, this CA first; Cross are
	// chains by other certificates of the same name and key, or of a CA above.
	Initial []*x509.Certificate
	Cross   [][]*x509.Certificate
}

// CA is one name and key. Nothing in it is changed once it is in a Set.
type CA struct {
	Declaration
	Configured bool     // the configuration names it
	Aliases    []string // further ids under which a certificate of it is installed
	Generation int
	Parent     *CA // nil of a root, and of one without a certificate
	Stage      Stage
	// Pending is why a certificate that is there is not taken in; nil otherwise.
	Pending error
	// Lost is why its key cannot be opened; nil otherwise.
	Lost error
	// Weak is why it signs nothing new although its lists and answers go on.
	Weak error

	chains   [][]*x509.Certificate // in force first, then the others
	former   []*x509.Certificate   // that it had before
	signer   *issuer.Issuer        // nil where the key is not open
	revoked  Trust
	above    bool // a CA is below it
	declared bool // Pending is what its declaration brings, not what is installed
	oneTier  bool // a root that may sign leaves: `privyseal dev --tiers 1`
	replaced bool // a successor can sign
}

// Of returns the CA of an open issuer, with chains by other certificates, for whom
// there is neither a configuration nor a database.
func Of(i *issuer.Issuer, cross ...[]*x509.Certificate) *CA {
	return &CA{
		Declaration: Declaration{ID: i.ID(), Locations: i.Locations()}, Configured: true, Generation: 1, Stage: Active,
		chains: append([][]*x509.Certificate{i.Chain()}, cross...), signer: i,
	}
}

// Installed reports whether it has a certificate that is in force.
func (c *CA) Installed() bool { return len(c.chains) > 0 && c.Pending == nil }

// Certificate returns the certificate in force; nil of one that is declared only.
func (c *CA) Certificate() *x509.Certificate {
	if len(c.chains) == 0 {
		return nil
	}
	return c.chains[0][0]
}

// Chain returns the certificates from this CA up to its root; nil of one that is
// declared only.
func (c *CA) Chain() []*x509.Certificate {
	if len(c.chains) == 0 {
		return nil
	}
	return c.chains[0]
}

// Chains returns the chain in force, then those by other certificates.
func (c *CA) Chains() [][]*x509.Certificate { return c.chains }

// Certificates returns every certificate of the name and key that is or was here: the
// one in force first, those that it had before last. Former ones are in no chain that
// clients get.
func (c *CA) Certificates() []*x509.Certificate {
	all := c.InForce()
	for _, cert := range c.former {
		if !slices.ContainsFunc(all, cert.Equal) {
			all = append(all, cert)
		}
	}
	return all
}

// InForce returns the certificates that begin a chain of it, the one in force first.
func (c *CA) InForce() []*x509.Certificate {
	var all []*x509.Certificate
	for _, chain := range c.chains {
		if !slices.ContainsFunc(all, chain[0].Equal) {
			all = append(all, chain[0])
		}
	}
	return all
}

// Issuer returns what signs; nil where the key is not here or cannot be used.
func (c *CA) Issuer() *issuer.Issuer { return c.signer }

// Service is the name under which certificates are asked for: its pool, or its id.
func (c *CA) Service() string {
	if c.Pool != "" {
		return c.Pool
	}
	return c.ID
}

// IDs returns its id and its aliases.
func (c *CA) IDs() []string { return append([]string{c.ID}, c.Aliases...) }

// Root reports whether it is self-signed.
func (c *CA) Root() bool { return len(c.chains) > 0 && len(c.chains[0]) == 1 }

// Former reports whether it has a successor: it signs what its own certificates
// need (responders, lists) and nothing else.
func (c *CA) Former() bool { return c.Stage == Draining || c.Stage == Retired || c.replaced }

// KeyState returns where the key is, and why it is lost.
func (c *CA) KeyState() (KeyState, error) {
	switch {
	case c.Offline || !c.Configured:
		return KeyElsewhere, nil
	case c.Lost != nil:
		return KeyLost, c.Lost
	case c.signer != nil && c.signer.Healthy() != nil:
		return KeyLost, c.signer.Healthy()
	}
	return KeyHere, nil
}

// Trust returns what relying parties make of it at a time.
func (c *CA) Trust(now time.Time) Trust {
	if c.revoked.State != "" {
		return c.revoked
	}
	for i, up := range c.Chain() {
		if !now.After(up.NotAfter) {
			continue
		}
		what := "its certificate"
		if i > 0 {
			what = "the certificate of " + up.Subject.String() + ", above it,"
		}
		return Trust{Expired, what + " has expired", up.NotAfter}
	}
	return Trust{State: Good}
}

// retryKey is when a client may ask again for a key that was lost.
const retryKey = 10 * time.Second

// Barred returns why it signs no new certificates, whatever its key and the clock
// say; nil if nothing forbids it.
func (c *CA) Barred() error {
	switch {
	case c.Pending != nil:
		return fault.New(fault.Unavailable, "the certificate of issuer %q is not taken in: %s", c.ID,
			fault.Text(c.Pending)).
			Because("issuer_pending")
	case len(c.chains) == 0:
		return fault.New(fault.Unavailable, "issuer %q has no certificate yet", c.ID).Because("no_issuer").
			After(retryKey)
	case c.Offline || !c.Configured:
		return fault.New(fault.NotFound, "the key of CA %q is not on this server: it signs in a ceremony", c.ID).
			Because("issuer_without_key")
	case c.revoked.State != "":
		return fault.New(fault.Unavailable, "issuer %q signs no more certificates: %s", c.ID, c.revoked.Why).
			Because("issuer_revoked")
	case c.Former():
		return fault.New(fault.Denied, "issuer %q has a successor and signs no more certificates", c.ID).
			Because("issuer_replaced")
	case c.Weak != nil:
		return fault.Wrap(fault.Unavailable, c.Weak,
			fmt.Sprintf("issuer %q signs no new certificates: ask its operators", c.ID)).Because("issuer_barred")
	case c.signer == nil:
		return fault.New(fault.Unavailable, "issuer %q has no CA that can sign now", c.ID).
			Because("no_issuer").After(retryKey)
	}
	return nil
}

// Ailing returns why a signature would hardly come about at a time: its key failed
// when it was used last, or it is not valid then. It may be tried where nobody else
// is there.
func (c *CA) Ailing(now time.Time) error {
	switch cert := c.Certificate(); {
	case now.After(cert.NotAfter):
		return fault.New(fault.Unavailable, "its certificate has expired on %s",
			cert.NotAfter.UTC().Format(time.RFC3339)).Because("issuer_expired")
	case now.Before(cert.NotBefore):
		return fault.New(fault.Unavailable, "its certificate is not valid before %s; check the clock",
			cert.NotBefore.UTC().Format(time.RFC3339)).Because("issuer_not_yet_valid")
	}
	return c.signer.Healthy()
}

// MaySign returns why it signs no new certificates at a time; nil if it does.
func (c *CA) MaySign(now time.Time) error {
	if err := c.Barred(); err != nil {
		return err
	}
	return c.Ailing(now)
}

// oidOCSPSigning is of RFC 6960, section 4.2.2.2.
var oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}

// Responder reports whether a profile is for OCSP responders.
func Responder(p *profile.Profile) bool {
	return p != nil && slices.EqualFunc(p.EKUs(), []asn1.ObjectIdentifier{oidOCSPSigning}, asn1.ObjectIdentifier.Equal)
}

// MayIssue applies the rules of a profile that depend on who signs: an operator's
// CA below a CA, leaves below a CA that has none below it, nothing below a root but
// in a ceremony. responder says that the certificate is an OCSP responder's.
func (c *CA) MayIssue(t *profile.Template, operator, responder bool) error {
	self := pki.SelfIssued(c.Certificate())
	deny := func(reason, format string, args ...any) error {
		return fault.New(fault.Denied, format, args...).Because(reason)
	}
	switch {
	case t.CA && !operator:
		return deny("ca_issuance_forbidden", "certificates of CAs are for operators to ask for")
	case t.CA && self:
		return deny("root_issuance_forbidden", "a self-signed CA signs other CAs in a ceremony only")
	case !t.CA && self && !c.oneTier:
		return deny("root_issuance_forbidden", "a self-signed CA issues no end-entity certificates")
	case !t.CA && !self && (c.Certificate().MaxPathLen > 0 || c.above) && !responder:
		return deny("middle_ca_issuance_forbidden",
			"%s is there to certify other CAs and issues no end-entity certificates", c.ID)
	}
	return nil
}
