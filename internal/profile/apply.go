package profile

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Request is what Apply judges. Either CSR or PublicKey is set; if both are,
// they must agree.
type Request struct {
	CSR       *pki.CSR
	PublicKey crypto.PublicKey
	// Subject replaces the subject of the CSR; nil takes the CSR's.
	Subject *pki.Name
	// RawSubject, in DER, is in place of Subject. Where the profile leaves it as it
	// is, the certificate has the same octets.
	RawSubject []byte
	// Names are the names that the requester has proved or was granted; every
	// name of the CSR must be among them. Nil takes the names of the CSR.
	Names []pki.Identifier
	// NotBefore and NotAfter are zero where the profile decides. Explicit times
	// outside the profile's bounds are refused, not moved.
	NotBefore, NotAfter time.Time
}

// Apply returns the certificate that the profile grants to the request, or the
// fault that says why none: BadPublicKey, BadCSR, RejectedIdentifier (with one
// Sub for each name) or Malformed, each with a stable Reason.
func (p *Profile) Apply(r Request, now time.Time) (*Template, error) {
	pub, err := p.key(r)
	if err != nil {
		return nil, err
	}
	t := &Template{
		Profile: p.name, ProfileVersion: p.version, PublicKey: pub,
		KeyUsage: usageFor(p.usage, pub), ExtKeyUsage: slices.Clone(p.ekus), Policies: slices.Clone(p.policies),
		CA: p.ca, MaxPathLen: p.pathLen, NoRevAvail: p.noRevAvail, OCSPNoCheck: p.ocspNoCheck,
		Approval: p.approval, Extra: slices.Clone(p.fixedExtra),
	}
	if t.KeyUsage == 0 {
		return nil, fault.New(fault.BadPublicKey, "public key %s: it can do nothing that the profile %s is for",
			pki.KeyAlgorithm(pub), p.name).Because("key_type")
	}
	subject, fixed, err := p.applySubject(r)
	if err != nil {
		return nil, err
	}
	t.Asked = subject[fixed:]
	if t.Names, err = p.applyNames(r, subject); err != nil {
		return nil, err
	}
	if p.cnInSAN {
		if subject, err = p.matchCommonName(subject, t.Names); err != nil {
			return nil, err
		}
	}
	if len(subject) == 0 && (len(t.Names) == 0 || p.ca) {
		return nil, refuseCSR("no_name", "it names nobody: neither a subject nor an alternative name")
	}
	if t.RawSubject, err = subject.DER(); err != nil {
		return nil, refuseCSR("subject", "%v", err)
	}
	if asked, err := pki.ParseNameDER(r.RawSubject); err == nil && reflect.DeepEqual(asked, subject) {
		t.RawSubject = r.RawSubject
	}
	t.Subject = subject.String()
	if err := p.applyExtensions(r, t); err != nil {
		return nil, err
	}
	if err := p.applyValidity(r, t, now); err != nil {
		return nil, err
	}
	return t, nil
}

// refuseCSR is the fault of a request that asks for what the profile does not give.
func refuseCSR(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.BadCSR, "certificate request: "+format, args...).Because(reason)
}

// key returns the key to certify, checked.
func (p *Profile) key(r Request) (crypto.PublicKey, error) {
	pub := r.PublicKey
	if r.CSR != nil {
		if pub != nil {
			same, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
			if !ok || !same.Equal(r.CSR.PublicKey) {
				return nil, refuseCSR("key_mismatch", "its key is not the key that was agreed on")
			}
		}
		pub = r.CSR.PublicKey
	}
	if pub == nil {
		return nil, fault.New(fault.Malformed, "neither a certificate request nor a public key").Because("no_key")
	}
	if err := pki.CheckKey(pub, p.keys.policy); err != nil {
		return nil, err
	}
	if k, ok := pub.(*rsa.PublicKey); ok && !p.keys.takesSize(k.N.BitLen()) {
		return nil, fault.New(fault.BadPublicKey, "public key rsa: %d bits is not one of the sizes that the profile "+
			"%s takes",
			k.N.BitLen(), p.name).Because("key_size")
	}
	return pub, nil
}

// applyExtensions copies the listed extensions of the request and judges the rest.
func (p *Profile) applyExtensions(r Request, t *Template) error {
	if r.CSR == nil {
		return nil
	}
	var copied []asn1.ObjectIdentifier
	for _, e := range r.CSR.Extensions {
		switch {
		case p.mustStaple && e.Id.Equal(oidTLSFeature) && string(e.Value) == statusRequest:
			t.MustStaple = true // rule O15
		case p.mustStaple && e.Id.Equal(oidTLSFeature) && !p.dropExts:
			return refuseCSR("extension", "it asks for a TLS feature other than status_request")
		case has(p.copied, e.Id):
			if err := checkCopied(e); err != nil {
				return refuseCSR("extension", "%v", err)
			}
			if has(copied, e.Id) {
				return refuseCSR("extension", "it asks for the extension %s twice", e.Id)
			}
			copied = append(copied, e.Id)
			t.Extra = append(t.Extra, pkix.Extension{Id: slices.Clone(e.Id), Value: slices.Clone(e.Value)})
		case p.dropExts || has(harmless, e.Id):
		default:
			return refuseCSR("extension", "it asks for the extension %s, which the profile %s does not give", e.Id,
				p.name)
		}
	}
	return nil
}

// badTime is the fault of a validity that the profile does not give.
func badTime(format string, args ...any) error {
	return fault.New(fault.Malformed, "validity: "+format, args...).Because("validity")
}

// maxYear keeps times within what a certificate can say.
const maxYear = 9999

func (p *Profile) applyValidity(r Request, t *Template, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	earliest := now.Add(-p.life.backdate)
	before, after := r.NotBefore.UTC(), r.NotAfter.UTC()
	if (!r.NotBefore.IsZero() && before.Year() > maxYear) || (!r.NotAfter.IsZero() && after.Year() > maxYear) {
		return badTime("a year beyond %d", maxYear)
	}
	if !r.NotBefore.IsZero() {
		before = before.Truncate(time.Second)
		if before.Before(earliest) {
			return badTime("notBefore is more than %s in the past", Duration(p.life.backdate))
		}
		if before.After(now.Add(p.life.postdate)) {
			return badTime("notBefore is more than %s ahead", Duration(p.life.postdate))
		}
		t.askedBefore = before
	}
	if r.NotAfter.IsZero() {
		if r.NotBefore.IsZero() {
			before = earliest
		}
		// Both ends count, so the last second is one less (RFC 5280, 4.1.2.5).
		after = before.Add(p.life.usual - time.Second)
		t.nominal = p.life.usual
		t.ClampNotAfter = p.life.clamp
	} else {
		after = after.Truncate(time.Second)
		if r.NotBefore.IsZero() {
			// The usual backdating, as far as the longest life leaves room.
			before = earliest
			if late := after.Add(-p.life.max); late.After(before) {
				before = late
			}
			if before.After(now) {
				before = now
			}
		}
		t.askedAfter = after
	}
	switch {
	case !after.After(before) || !after.After(now):
		return badTime("notAfter is not after notBefore and now")
	case after.Sub(before) > p.life.max:
		return badTime("longer than %s, which is the most that the profile %s gives", Duration(p.life.max), p.name)
	}
	t.NotBefore, t.NotAfter = before, after
	return nil
}

// keyUsageNames lists the usages of a template in words, for people.
func keyUsageNames(usage x509.KeyUsage) []string {
	var names []string
	for _, u := range keyUsages {
		if usage&u.bit != 0 && u.name != "nonRepudiation" {
			names = append(names, u.name)
		}
	}
	return names
}

// KeyUsageNames returns the template's key usages by their RFC 5280 names.
func (t *Template) KeyUsageNames() []string { return keyUsageNames(t.KeyUsage) }
