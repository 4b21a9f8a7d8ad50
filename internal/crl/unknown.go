package crl

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// RevokeUnknown revokes a certificate of an issuer that is not on record, as one that
// was issued after the backup from which the database was restored: it is entered
// by its serial alone, and stays on the lists until the issuer ends. It returns the
// row's id. Faults: NotFound; Conflict if the serial is on record, or the key is not
// here; BadRevocationReason.
func (p *Publisher) RevokeUnknown(ctx context.Context, id string, e issuer.Revoked, o Options) (string, error) {
	a, err := p.authority(id)
	if err != nil {
		return "", err
	}
	switch {
	case a.Issuer() == nil:
		return "", fault.New(fault.Conflict, "the key of %s is not here: revoke it where the key is, and import the "+
			"list",
			id).Because("crl_offline")
	case !e.Reason.Valid() || e.Reason == pki.RemoveFromCRL || e.Reason == pki.AACompromise ||
		e.Reason == pki.CACompromise:
		return "", fault.New(fault.BadRevocationReason, "reason %s cannot be given for a certificate that is not on "+
			"record", e.Reason)
	}
	e.At = p.Now()
	j := recovery{p: p, a: a, Recovery: Recovery{Options: o}}
	row := j.lost(e, 0, false)
	row.CertificateID = store.NewID()
	detail, err := json.Marshal(map[string]any{
		"issuer": a.ID, "serial": e.Serial, "reason": e.Reason.String(), "was_on_record": false,
	})
	if err != nil {
		return "", fmt.Errorf("revoke unknown certificate: %w", err)
	}
	err = p.Store.RecoverRevocations(ctx, a.ID, []store.Recovered{row}, []store.Event{{
		At: e.At, Action: "certificate.revoked", Outcome: "success", Actor: o.Actor, Subject: row.CertificateID,
		RequestID: o.RequestID, Detail: detail,
	}})
	return row.CertificateID, err
}
