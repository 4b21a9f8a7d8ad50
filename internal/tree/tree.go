// Package tree keeps the CAs of a server in order: it makes the key and the
// request of an issuer that the configuration declares, puts the certificate that
// comes back in force, plans a hierarchy from one file, looks at the laws at rest,
// and takes over or hands on CAs with all that they have issued.
//
// It signs no certificate. Certificates of CAs are signed in ceremonies or by the
// server's own door; here they are checked, against the request that was made,
// the laws of the tree and the transcript of the ceremony, and installed. What
// the configuration does not declare is refused with the lines to add to it.
package tree

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// Deps is what a Tree stands on.
type Deps struct {
	Store *store.Store
	Now   func() time.Time
	// Declared returns what the configuration in force names.
	Declared func() []ca.Declaration
	// Refresh puts what was installed in force on this node.
	Refresh func(ctx context.Context) error
	// CAProfiles returns the names of the profiles that make CAs.
	CAProfiles func() []string
	// PublicHTTP returns the origin of lists and CA certificates.
	PublicHTTP func() string
}

// Tree keeps the CAs of one server.
type Tree struct{ Deps }

// New returns the tree over d, every field of which is required.
func New(d Deps) *Tree { return &Tree{d} }

// Actor is who does something, for the audit record.
type Actor struct{ Name, RequestID string }

func (t *Tree) event(who Actor, action, subject string, detail []byte) store.Event {
	return store.Event{
		At: t.Now(), Action: action, Outcome: "success", Actor: who.Name, Subject: subject, RequestID: who.RequestID,
		Detail: detail,
	}
}

// declared returns the declaration of a name, or the fault that says how to make
// one.
func (t *Tree) declared(id string) (ca.Declaration, error) {
	for _, d := range t.Declared() {
		if d.ID == id {
			return d, nil
		}
	}
	return ca.Declaration{}, fault.New(fault.NotFound,
		"the configuration declares no issuer %q; add it and run `privyseal config reload`:\n\n%s",
		id, IssuerYAML(id, "", false)).Because("issuer_undeclared")
}

func (t *Tree) isDeclared(id string) bool {
	return slices.ContainsFunc(t.Declared(), func(d ca.Declaration) bool { return d.ID == id })
}

// IssuerYAML returns the lines of a configuration that declare a CA.
func IssuerYAML(id, subject string, offline bool) string {
	if offline {
		return fmt.Sprintf("offline:\n  - id: %s\n", id)
	}
	if subject != "" {
		subject = fmt.Sprintf("    subject: %q\n", subject)
	}
	return fmt.Sprintf("issuers:\n  - id: %s\n%s    key: file:keys/%s.key # or pkcs11:token=…;object=%s\n    "+
		"passphrase: file:secrets/%s\n", id, subject, id, id, id)
}

// installed returns the CA of an id with its certificate; both are nil if it is
// not installed.
func (t *Tree) installed(ctx context.Context, id string) (*store.IssuerRecord, *x509.Certificate, error) {
	rec, err := t.Store.Issuer(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, nil, fault.New(fault.Conflict, "the certificate on record of %s cannot be read (%w): "+
			"take the record out with privyseal issuer remove %s", id, err, id).Because("issuer_unreadable")
	}
	return rec, c, nil
}

// fold leaves one record of a certificate whose key is elsewhere and that is installed
// under several ids: that of the id that the configuration knows. What is below the
// others is below it. as says by which id each one that goes is meant.
func (t *Tree) fold(records []store.IssuerRecord) (_ []store.IssuerRecord, as map[string]string) {
	offline := slices.DeleteFunc(slices.Clone(records), func(r store.IssuerRecord) bool {
		return r.State != ca.OfflineRow
	})
	as = map[string]string{}
	for _, r := range offline {
		if id := t.idOf(r.Certificate, offline); id != r.ID {
			as[r.ID] = id
		}
	}
	records = slices.DeleteFunc(slices.Clone(records), func(r store.IssuerRecord) bool { return as[r.ID] != "" })
	for other, id := range as {
		from, to := indexOf(offline, other), indexOf(records, id)
		records[to].LastCRLNumber = max(records[to].LastCRLNumber, offline[from].LastCRLNumber)
	}
	for i, r := range records {
		if id := as[r.ParentID]; id != "" {
			records[i].ParentID = id
		}
	}
	return records, as
}

func indexOf(records []store.IssuerRecord, id string) int {
	return slices.IndexFunc(records, func(r store.IssuerRecord) bool { return r.ID == id })
}
