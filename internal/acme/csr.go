package acme

import (
	"context"
	"strings"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// checkCSR checks what RFC 8555 says of a CSR: exactly the order's names, no
// account's key, nothing that was not ordered. Then the profile has its say, so
// that a CSR that cannot be granted costs the client no order.
func (s *Server) checkCSR(ctx context.Context, c *call, o *store.Order, csr *pki.CSR) error {
	if err := sameNames(csr, o.Identifiers); err != nil {
		return err
	}
	key, err := newPublicKey(csr.PublicKey)
	if err == nil { // a key of a type without thumbprint is nobody's account key
		if err := s.notAccountKey(ctx, c, key.thumbprint); err != nil {
			return err
		}
	}
	prof := s.Pipeline.Rules().Profiles[o.Profile]
	if prof == nil {
		return fault.New(fault.InvalidProfile, "profile %q does not exist any more", o.Profile)
	}
	_, err = prof.Apply(profile.Request{
		CSR: csr, Subject: proved(csr), Names: o.Identifiers, NotBefore: value(o.NotBefore),
		NotAfter: value(o.NotAfter),
	}, s.Now())
	if err != nil {
		return err
	}
	bound, err := s.EAB.Bound(ctx, c.account.EABKID)
	if err != nil {
		return err
	}
	return bound.Check(o.Profile, proved(csr), o.Identifiers)
}

// proved returns what an order proves of a subject: the common name that sameNames
// has compared. Whatever else a CSR has there is the client's word alone.
func proved(csr *pki.CSR) *pki.Name {
	subject := pki.Name{}
	if cn := csr.Subject.CommonName(); cn != "" {
		subject = pki.SingleName(pki.Attribute{OID: pki.OIDCommonName, Value: cn})
	}
	return &subject
}

// badCSR says a fault of the key to be certified in ACME's words: badPublicKey
// is for the key that signs a message (RFC 8555, section 6.7).
func badCSR(err error) error {
	if !fault.Is(err, fault.BadPublicKey) {
		return err
	}
	f := *fault.Of(err)
	f.Kind = fault.BadCSR
	return &f
}

// notAccountKey refuses a certificate for a key that signs for an account, this
// or another, here or at another endpoint (RFC 8555, section 11.1).
func (s *Server) notAccountKey(ctx context.Context, c *call, thumbprint string) error {
	used := thumbprint == c.account.Thumbprint
	if !used {
		var err error
		if used, err = s.Store.AccountKeyUsed(ctx, thumbprint); err != nil {
			return err
		}
	}
	if used {
		return fault.New(fault.BadCSR, "the CSR's key is an account's key; a certificate needs a key of its own").
			Because("account_key")
	}
	return nil
}

// sameNames compares the names of a CSR, SAN and CN together, with the order's
// (RFC 8555, section 7.4). A CN alone will do for one DNS name.
func sameNames(csr *pki.CSR, ordered []pki.Identifier) error {
	want := make(map[pki.Identifier]bool, len(ordered)) // true once seen
	for _, id := range ordered {
		want[id] = false
	}
	var bad []*fault.Error
	for _, id := range csr.Names {
		if _, ok := want[id]; !ok {
			bad = append(bad, fault.New(fault.BadCSR, "the CSR names %s %s, which the order does not", id.Type,
				id.Value).
				About(string(id.Type), id.Value))
			continue
		}
		want[id] = true
	}
	if cn := csr.Subject.CommonName(); cn != "" {
		id, ok := commonName(cn, want)
		if !ok {
			bad = append(bad, fault.New(fault.BadCSR, "the CSR's common name %q is no identifier of the order", cn))
		} else if id.Type == pki.DNS {
			want[id] = true
		}
	}
	for _, id := range ordered {
		if !want[id] {
			bad = append(bad, fault.New(fault.BadCSR, "the CSR lacks %s %s, which the order has", id.Type, id.Value).
				About(string(id.Type), id.Value))
		}
	}
	return combine(bad)
}

// commonName finds the identifier that a CN spells: a DNS name in any case, or
// an address, which then stands in the SAN as well (RFC 8738, section 3).
func commonName(cn string, names map[pki.Identifier]bool) (pki.Identifier, bool) {
	id := pki.Identifier{Type: pki.DNS, Value: strings.ToLower(cn)}
	if _, ok := names[id]; ok {
		return id, true
	}
	if ip, err := pki.CanonicalIP(cn); err == nil {
		id = pki.Identifier{Type: pki.IP, Value: ip}
		_, ok := names[id]
		return id, ok
	}
	return id, false
}
