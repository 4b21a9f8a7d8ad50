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
		At: t.Now(), Action: action, Outcome: "success", Actor: who.Name, Subject: subject, RequestID: who.RequestID, Detail: detail,
	}
}

// declared returns the declaration of a name, or the fault that says how to make
// one.
func (t *Tree) declared(id string) (ca.Declaration, error) {
	all := t.Declared()
	if i := slices.IndexFunc(all, func(d ca.Declaration) bool { return d.ID == id }); i >= 0 {
		return all[i], nil
	}
	return ca.Declaration{}, fault.New(fault.NotFound, "the configuration declares no issuer %q; add it and run `privyseal config reload`:\n\n%s", id, IssuerYAML(id, "", false)).
		Because("issuer_undeclared")
}

// IssuerYAML returns the lines of a configuration that declare a CA.
func IssuerYAML(id, subject string, offline bool) string {
	if offline {
		return fmt.Sprintf("offline:\n  - id: %s\n", id)
	}
	if subject != "" {
		subject = fmt.Sprintf("    subject: %q\n", subject)
	}
	return fmt.Sprintf("issuers:\n  - id: %s\n%s    key: file:keys/%s.key # or pkcs11:token=…;object=%s\n    passphrase: file:secrets/%s\n", id, subject, id, id, id)
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
		return nil, nil, fmt.Errorf("issuer %s: read installed certificate: %w", id, err)
	}
	return rec, c, nil
}
