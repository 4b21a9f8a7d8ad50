package store

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Recovered is a revocation that is taken over from a list that was published
// here once, because the store has lost it.
type Recovered struct {
	// CertificateID is the certificate's; of one that is not on record any more, the
	// id under which it is entered, and Enter is set.
	CertificateID string
	Enter         bool
	Serial        pki.Serial
	Shard         int
	NotAfter      time.Time // until when an entered one stays on lists
	Revocation
}

// RecoverRevocations enters lost revocations of an issuer in one transaction.
// Certificates that are not on record are entered as imported, without their
// DER. It is fault.Conflict, and nothing is written, if one of them is on record
// otherwise by now.
func (s *Store) RecoverRevocations(ctx context.Context, issuerID string, all []Recovered, events []Event) error {
	w := &write{
		what: "recover revocations", events: events,
		lost: func(int) error {
			return fault.New(fault.Conflict, "one of the certificates was changed in the meantime: the same command "+
				"goes on")
		},
	}
	for _, r := range all {
		if r.Enter {
			w.guards = append(w.guards, s.enter(issuerID, r))
		}
		w.guards = append(w.guards, insertRevocation(r.CertificateID, r.Revocation))
		w.effects = append(w.effects, raiseSequence(r.CertificateID)...)
		if r.Reason == pki.KeyCompromise && !r.Enter {
			w.effects = append(w.effects, blockKeyOf(r.CertificateID, r.RevokedAt))
		}
	}
	return s.commit(ctx, w)
}

// enter records a certificate of which only the revocation is known. Its key is
// not: what stands for the hash is nobody's, so that no two share it.
func (s *Store) enter(issuerID string, r Recovered) *stmt {
	key := sha256.Sum256([]byte("the key of this certificate is not known: " + r.CertificateID))
	sql, args := certificates.add(&Certificate{
		ID: r.CertificateID, IssuerID: issuerID, Serial: r.Serial, Status: "imported", Node: s.cfg.Node,
		Protocol:  "recovered",
		Requester: r.Requester, KeyHash: key[:], NotBefore: r.RevokedAt, NotAfter: r.NotAfter, Shard: r.Shard,
		Origin: "recovered:" + r.CertificateID, ReservedAt: s.cfg.Now(),
	}, `ON CONFLICT (serial, issuer_id) DO NOTHING`)
	return must(sql, args...)
}
