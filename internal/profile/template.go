package profile

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Template is what will be signed, but for serial number and issuer.
type Template struct {
	Profile, ProfileVersion string

	PublicKey  crypto.PublicKey
	RawSubject []byte // DER; the empty sequence where there is none
	Subject    string // the same in RFC 4514 form
	Names      []pki.Identifier
	// Asked is what the subject has of the request's, without what the profile fixes.
	Asked pki.Name `json:"-"`

	// NotBefore and NotAfter are whole seconds in UTC, both inclusive.
	NotBefore, NotAfter time.Time
	// ClampNotAfter asks the issuer's side to cut NotAfter to the issuer's own
	// instead of refusing.
	ClampNotAfter bool

	KeyUsage    x509.KeyUsage
	ExtKeyUsage []asn1.ObjectIdentifier
	Policies    []asn1.ObjectIdentifier
	CA          bool
	MaxPathLen  int // -1 is none
	// Extra are ready extensions: copied from the request, or the name
	// constraints of a CA.
	Extra       []pkix.Extension
	NoRevAvail  bool
	OCSPNoCheck bool
	// MustStaple asks clients to insist on a stapled OCSP response (RFC 7633).
	MustStaple bool `json:",omitempty"`

	Approval bool

	// askedBefore and askedAfter are the bounds that the request named itself.
	askedBefore, askedAfter time.Time
	// nominal is the length that the profile gave, before any fitting.
	nominal time.Duration
}

// Fit returns the template moved into the life of an issuer: a beginning that
// only backdating made is raised to the issuer's, an end that may be clamped is
// cut to the issuer's (rule X3). Bounds that the request named stay, for the
// laws of hierarchy to refuse.
func (t *Template) Fit(notBefore, notAfter time.Time) *Template {
	c := *t
	if c.askedBefore.IsZero() && c.NotBefore.Before(notBefore) {
		c.NotBefore = notBefore.UTC()
	}
	if c.ClampNotAfter && c.NotAfter.After(notAfter) {
		c.NotAfter = notAfter.UTC()
	}
	return &c
}

// Digest returns a stable digest of everything that will be signed except
// serial and issuer. Of a validity that the request did not name, only the
// length counts: the same request made again later, as after an approval, has
// the same digest.
func (t *Template) Digest() [32]byte {
	spki, err := x509.MarshalPKIXPublicKey(t.PublicKey)
	if err != nil {
		spki = nil // Apply refuses such keys; a template made by hand gets the digest of none
	}
	c := *t
	c.PublicKey = nil
	c.NotBefore, c.NotAfter = t.askedBefore.UTC(), t.askedAfter.UTC()
	text, err := json.Marshal(struct {
		Template
		SPKI   []byte
		Length time.Duration
	}{c, spki, t.nominal})
	if err != nil {
		// Nothing in a Template can fail to marshal, except years beyond 9999,
		// which a request cannot ask for.
		return [32]byte{}
	}
	return sha256.Sum256(text)
}
