// Package inventory finds certificates for people: search with keyset pages, one
// certificate by id or serial, and exports as CSV, JSON lines or PEM that stream
// page by page, so that a million rows need the memory of one page.
//
// It reads the store and changes nothing. Record is the one place where a row
// becomes the certificate object of the operator API.
package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Page sizes.
const (
	DefaultPage = 100
	MaxPage     = 1000
	exportPage  = 500
)

// Inventory reads the certificates of one store.
type Inventory struct{ store *store.Store }

// New returns the inventory of st.
func New(st *store.Store) *Inventory { return &Inventory{store: st} }

// Search returns one page, newest first, and the cursor of the next one, which
// is empty on the last page. A limit of 0 is DefaultPage.
func (i *Inventory) Search(ctx context.Context, q store.Search) (found []store.Certificate, next string, err error) {
	if q.Limit == 0 {
		q.Limit = DefaultPage
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return nil, "", fault.New(fault.Malformed, "limit %d: want 1 to %d", q.Limit, MaxPage).Because("limit")
	}
	if q.Status != "" && !api.CertificateStatus(q.Status).Valid() {
		return nil, "", fault.New(fault.Malformed,
			"status %q is not one of reserved, issued, abandoned, void, imported, revoked", q.Status).Because("status")
	}
	return i.store.SearchCertificates(ctx, q)
}

// All walks every match, newest first. After an error it ends.
func (i *Inventory) All(ctx context.Context, q store.Search) iter.Seq2[store.Certificate, error] {
	return func(yield func(store.Certificate, error) bool) {
		q.Limit = exportPage
		for {
			found, next, err := i.Search(ctx, q)
			if err != nil {
				yield(store.Certificate{}, err)
				return
			}
			for _, c := range found {
				if !yield(c, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			q.After = next
		}
	}
}

// Find returns the certificate with the given id or serial. Serials are unique
// for an issuer only: when two have used one, issuerID has to say which.
func (i *Inventory) Find(ctx context.Context, ref, issuerID string) (*store.Certificate, error) {
	if isID(ref) {
		c, err := i.store.CertificateByID(ctx, ref)
		return known(c, err, ref)
	}
	serial, err := pki.ParseSerial(ref)
	if err != nil {
		return nil, fault.New(fault.Malformed, "%q is neither a certificate's id nor a serial in hexadecimal", ref).
			Because("certificate_reference")
	}
	if issuerID != "" {
		c, err := i.store.CertificateBySerial(ctx, issuerID, serial)
		return known(c, err, ref)
	}
	found, _, err := i.store.SearchCertificates(ctx, store.Search{Serial: serial, Limit: 2})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return known(nil, store.ErrNotFound, ref)
	case len(found) > 1:
		return nil, fault.New(fault.Conflict, "issuers %s and %s both used serial %s: say which issuer",
			found[0].IssuerID, found[1].IssuerID, serial).Because("ambiguous_serial")
	}
	return &found[0], nil
}

func known(c *store.Certificate, err error, ref string) (*store.Certificate, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "there is no certificate %s", ref).Because("certificate_unknown")
	}
	if err != nil {
		return nil, fmt.Errorf("find certificate: %w", err)
	}
	return c, nil
}

// isID tells an id (a UUID) from a serial, which has no dashes.
func isID(ref string) bool {
	return len(ref) == 36 && ref[8] == '-' && ref[13] == '-' && ref[18] == '-' && ref[23] == '-'
}

// Status returns what a person calls a row's status: an issued or imported
// certificate with a revocation is revoked.
func Status(c *store.Certificate) api.CertificateStatus {
	if c.Revocation != nil && (c.Status == string(api.StatusIssued) || c.Status == string(api.StatusImported)) {
		return api.StatusRevoked
	}
	return api.CertificateStatus(c.Status)
}

// Record returns the operator API's form of a row.
func Record(c *store.Certificate) api.Certificate {
	r := api.Certificate{
		ID: c.ID, Issuer: c.IssuerID, Serial: string(c.Serial), Status: Status(c),
		Profile: c.Profile, ProfileVersion: c.ProfileVersion, Protocol: c.Protocol, Endpoint: c.Endpoint,
		Requester: c.Requester, RequestID: c.RequestID, Subject: c.Subject, Names: Identifiers(c.Names),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), ReservedAt: c.ReservedAt.UTC(),
		KeyHash: hex.EncodeToString(c.KeyHash),
	}
	if len(c.DER) > 0 {
		sum := sha256.Sum256(c.DER)
		r.Fingerprint = hex.EncodeToString(sum[:])
	}
	if c.IssuedAt != nil {
		r.IssuedAt = c.IssuedAt.UTC()
	}
	if rev := c.Revocation; rev != nil {
		r.Revocation = api.Revocation{Reason: rev.Reason.String(), RevokedAt: rev.RevokedAt.UTC(),
			Requester: rev.Requester}
		if rev.InvalidityAt != nil {
			r.Revocation.InvalidityAt = rev.InvalidityAt.UTC()
		}
	}
	return r
}

// Identifiers returns the operator API's form of names, never nil.
func Identifiers(names []pki.Identifier) []api.Identifier {
	out := slices.Grow([]api.Identifier{}, len(names))
	for _, n := range names {
		out = append(out, api.Identifier{Type: string(n.Type), Value: n.Value})
	}
	return out
}
