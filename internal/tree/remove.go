package tree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Remove takes the record of a CA that never signed out of the database, so that its
// id is free again: one whose certificate turned out to be broken, say. It returns the
// record that was there. Conflict says why it has to stay: issuer_used (there are
// certificates, lists or CAs below it) or issuer_declared (the configuration would
// bring the certificate back); NotFound that there is none.
func (t *Tree) Remove(ctx context.Context, id string, who Actor) (*Installed, error) {
	rec, err := t.Store.Issuer(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound) && t.isDeclared(id):
		return nil, fault.New(fault.NotFound, "the database has no record of %s: the configuration declares it, "+
			"and is where it can be taken out", id).Because("issuer_unknown")
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.NotFound, "there is no CA %q here: look at `privyseal issuer list`", id).
			Because("issuer_unknown")
	case err != nil:
		return nil, err
	}
	for _, d := range t.Declared() {
		if d.ID == id && len(d.Initial) > 0 {
			return nil, fault.New(fault.Conflict, "the configuration has a certificate for %s and would install it "+
				"again: "+
				"take `certificate` out of its declaration, run `privyseal config reload`, and remove it then", id).
				Because("issuer_declared")
		}
	}
	detail, err := json.Marshal(map[string]any{
		"certificate_sha256": pki.Fingerprint(rec.Certificate), "subject": rec.Subject,
		"parent": rec.ParentID, "state": rec.State,
	})
	if err != nil {
		return nil, err
	}
	if err := t.Store.RemoveIssuer(ctx, id, rec.Certificate, t.event(who, "issuer.removed", id, detail)); err != nil {
		return nil, err
	}
	done := &Installed{Record: *rec}
	if err := t.Refresh(ctx); err != nil {
		done.Warnings = append(done.Warnings, fmt.Sprintf(
			"it is removed, and this node has not taken that in yet (%v): run `privyseal config reload`", err))
	}
	return done, nil
}
