package issuance

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// protocolOperator is the protocol of the operator API.
const protocolOperator = "operator"

// Rules are what the configuration says may exist. A reload swaps them whole.
type Rules struct {
	Profiles map[string]*profile.Profile
	// Issuers are the CAs whose keys are here, by issuer id and by pool name,
	// preferred first. A name without one waits for its certificate or its key; a
	// name that is missing does not exist, or is a CA whose key is elsewhere.
	Issuers map[string][]*issuer.Issuer
	// Former are the ids of issuers that have a successor: they sign what their own
	// certificates need (responders, lists) and nothing else.
	Former map[string]bool
	// Members are the ids that belong to the name of a pool, whether they can sign
	// or not; a name without an entry is an id.
	Members map[string][]string
	// Above are the ids of issuers that have a CA below them in this server.
	Above map[string]bool
	// ByIssuer are the chains of every CA that is installed, by its id: the one in
	// force first, then those by other certificates of the same key. Where there is
	// no entry, the issuer's own is the only one.
	ByIssuer map[string][][]*x509.Certificate
	// KnownKeys are public keys that get no certificate and no account.
	KnownKeys pki.KeyList
	// OneTier lets a self-signed CA sign leaves: `privyseal dev --tiers 1`.
	OneTier bool
}

// IDs returns the ids of the issuers behind a name, former ones included.
func (r *Rules) IDs(name string) []string {
	if ids, ok := r.Members[name]; ok {
		return ids
	}
	var ids []string
	for _, ca := range r.Issuers[name] {
		ids = append(ids, ca.ID())
	}
	return ids
}

// Chains returns the chains, root last, of the issuers behind a name, those of
// the preferred issuer first.
func (r *Rules) Chains(name string) [][]*x509.Certificate {
	if chains, ok := r.ByIssuer[name]; ok {
		return chains
	}
	var all [][]*x509.Certificate
	for _, id := range r.IDs(name) {
		if chains, ok := r.ByIssuer[id]; ok {
			all = append(all, chains...)
			continue
		}
		for _, ca := range r.Issuers[id] {
			all = append(all, ca.Chain())
		}
	}
	return all
}

// Authorities returns the certificates in force of all CAs, by issuer id.
func (r *Rules) Authorities() map[string]*x509.Certificate {
	all := map[string]*x509.Certificate{}
	for _, cas := range r.Issuers {
		for _, ca := range cas {
			all[ca.ID()] = ca.Certificate()
		}
	}
	for id, chains := range r.ByIssuer {
		all[id] = chains[0][0]
	}
	return all
}

// Signing returns the issuers behind a name that sign new certificates, preferred
// first: former generations are left out.
func (r *Rules) Signing(name string) []*issuer.Issuer {
	return slices.DeleteFunc(slices.Clone(r.Issuers[name]), func(ca *issuer.Issuer) bool { return r.Former[ca.ID()] })
}

// middle reports whether a CA is there for other CAs: its path length says so, or
// without one the CA below it.
func (r *Rules) middle(ca *issuer.Issuer) bool {
	return ca.Certificate().MaxPathLen > 0 || r.Above[ca.ID()]
}

// responder reports whether a profile is for OCSP responders.
func (r *Rules) responder(name string) bool {
	p := r.Profiles[name]
	return p != nil && slices.EqualFunc(p.EKUs(), []asn1.ObjectIdentifier{oidOCSPSigning}, asn1.ObjectIdentifier.Equal)
}

var oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9} // RFC 6960, section 4.2.2.2

// issuers returns the candidates for a name, preferred first.
func (r *Rules) issuers(name string) ([]*issuer.Issuer, error) {
	cas, known := r.Issuers[name]
	switch {
	case len(cas) > 0:
		return cas, nil
	case known:
		return nil, fault.New(fault.Unavailable, "issuer %q has no CA that can sign now", name).Because("no_issuer").After(retryKey)
	case len(r.ByIssuer[name]) > 0:
		return nil, fault.New(fault.NotFound, "the key of CA %q is not on this server: it signs in a ceremony", name).Because("issuer_without_key")
	}
	return nil, fault.New(fault.NotFound, "there is no issuer %q", name).Because("issuer_unknown")
}

// retryKey is when a client may ask again for a key that was lost.
const retryKey = 10 * time.Second

// candidates returns the issuers that may sign for a request, in the order in
// which they are tried: those whose key answers come before those whose key
// failed last time, or that are not valid now.
func (p *Pipeline) candidates(rules *Rules, r Request) ([]*issuer.Issuer, error) {
	all, err := rules.issuers(r.Issuer)
	if err != nil || rules.responder(r.Profile) {
		return all, err
	}
	suspended, now := *p.suspended.Load(), p.now()
	var able, ill []*issuer.Issuer
	why := ""
	for _, ca := range all {
		cert := ca.Certificate()
		switch {
		case suspended[ca.ID()] != "":
			why = suspended[ca.ID()]
		case rules.Former[ca.ID()]:
		case now.Before(cert.NotBefore), now.After(cert.NotAfter), ca.Healthy() != nil:
			ill = append(ill, ca)
		default:
			able = append(able, ca)
		}
	}
	switch able = append(able, ill...); {
	case len(able) > 0:
		return able, nil
	case why != "":
		return nil, fault.New(fault.Unavailable, "issuer %q signs no more certificates: %s", r.Issuer, why).Because("issuer_revoked")
	}
	if _, pool := rules.Members[r.Issuer]; pool { // this node has not heard of the successor yet
		return nil, fault.New(fault.Unavailable, "pool %q has no issuer that can sign now", r.Issuer).Because("no_issuer").After(retryKey)
	}
	return nil, fault.New(fault.Denied, "issuer %q has a successor and signs no more certificates", r.Issuer).Because("issuer_replaced")
}
