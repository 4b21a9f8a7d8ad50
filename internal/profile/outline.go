package profile

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/pki"
)

// Outline is what a profile expects of a request, as far as a client can be told
// before it makes one (RFC 9908). It promises nothing: Apply judges.
type Outline struct {
	Subject []OutlineField
	// SANRequired tells that there must be an alternative name, SAN of which types.
	SANRequired bool
	SAN         []pki.IdentifierType
	// Key is the one kind of key that is accepted, in the words of
	// pki.KeyAlgorithm; empty if there are several. Of RSA it is the least size.
	Key string
	// EKUs are the extended key usages of every certificate of the profile.
	EKUs []asn1.ObjectIdentifier
}

// OutlineField is an attribute of the subject that has to be there.
type OutlineField struct {
	OID   asn1.ObjectIdentifier
	Value string // that every certificate gets; empty is the client's to say
}

// Outline returns what the profile expects.
func (p *Profile) Outline() Outline {
	o := Outline{SANRequired: p.minSAN > 0, Key: p.keys.only(), EKUs: slices.Clone(p.ekus)}
	for _, f := range p.fields {
		if f.fixed != "" || f.required {
			o.Subject = append(o.Subject, OutlineField{OID: f.oid, Value: f.fixed})
		}
	}
	for t, r := range p.san {
		o.SAN = append(o.SAN, t)
		o.SANRequired = o.SANRequired || r.min > 0
	}
	slices.SortFunc(o.SAN, func(a, b pki.IdentifierType) int { return strings.Compare(string(a), string(b)) })
	return o
}

// Taken returns the attributes of the subject beside the common name that the
// profile takes from a request.
func (p *Profile) Taken() []string {
	var all []string
	for _, f := range p.fields {
		if f.fixed == "" && !f.forbidden && !f.oid.Equal(pki.OIDCommonName) {
			all = append(all, pki.AttributeName(f.oid))
		}
	}
	return all
}

// TakesKey reports whether the profile certifies keys of a kind, in the words of
// pki.KeyAlgorithm.
func (p *Profile) TakesKey(algorithm string) bool {
	if size, isRSA := strings.CutPrefix(algorithm, "rsa-"); isRSA {
		bits, err := strconv.Atoi(size)
		return err == nil && p.keys.policy.RSAMin <= bits && bits <= p.keys.policy.RSAMax && p.keys.takesSize(bits)
	}
	return algorithm == "ed25519" && p.keys.policy.Ed25519 ||
		slices.ContainsFunc(p.keys.policy.Curves, func(c string) bool { return algorithm == curve(c) })
}

func curve(name string) string { return "ec-" + strings.ReplaceAll(strings.ToLower(name), "-", "") }

// only returns the one kind of key that the rules take, "" if there are several.
func (k keyRules) only() string {
	var kinds []string
	for _, c := range k.policy.Curves {
		kinds = append(kinds, curve(c))
	}
	if k.policy.Ed25519 {
		kinds = append(kinds, "ed25519")
	}
	if k.policy.RSAMin > 0 {
		kinds = append(kinds, fmt.Sprintf("rsa-%d", k.policy.RSAMin))
	}
	if len(kinds) != 1 {
		return ""
	}
	return kinds[0]
}
