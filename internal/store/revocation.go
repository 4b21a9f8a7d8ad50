package store

import (
	"context"
	"errors"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Revocation says when and why a certificate was revoked.
type Revocation struct {
	Reason       pki.Reason
	RevokedAt    time.Time
	InvalidityAt *time.Time
	Seq          int64 // the issuer's revocation sequence after it; set by the store
	Requester    string
}

// A row of revocations is a revocation in force, or, with released_at set, a
// hold that was released: the row stays until a base list was made without it,
// so that a delta list can take the certificate off (removeFromCRL).
//
// What a row may become: a hold may be released or become final, whatever was
// released may be revoked again, and any reason may be upgraded to
// keyCompromise. Nothing else is ever taken back. A hold that becomes final
// keeps the date of the hold. Each change raises the issuer's sequence, stamps
// the row with it and clears listed_in: no list so far tells the new state.
const (
	intoRevocations = `INSERT INTO revocations (certificate_id, issuer_id, serial, shard, not_after, reason,
		revoked_at, invalidity_at, seq, requester, listed_in) `

	onRevoked = ` ON CONFLICT (certificate_id) DO UPDATE SET reason = excluded.reason, listed_in = NULL,
		requester = excluded.requester, seq = excluded.seq,
			released_at = NULL,
			revoked_at = CASE WHEN revocations.released_at IS NULL THEN revocations.revoked_at
				ELSE excluded.revoked_at END,
			invalidity_at = CASE WHEN revocations.released_at IS NULL
				THEN COALESCE(excluded.invalidity_at, revocations.invalidity_at) ELSE excluded.invalidity_at END
			WHERE revocations.released_at IS NOT NULL OR (revocations.reason = 6 AND excluded.reason <> 6)
				OR (revocations.reason <> 1 AND excluded.reason = 1)`
)

// insertRevocation revokes a certificate, or changes its revocation as far as
// that is allowed. raiseSequence has to follow.
func insertRevocation(certID string, r Revocation) *stmt {
	return must(intoRevocations+`
		SELECT c.id, c.issuer_id, c.serial, c.shard, c.not_after, CAST($1 AS bigint), CAST($2 AS timestamptz),
		CAST($3 AS timestamptz), 0, CAST($4 AS text), NULL
		FROM certificates c WHERE c.id = $5 AND c.status IN ('issued', 'imported', 'void')`+onRevoked,
		r.Reason, r.RevokedAt, r.InvalidityAt, r.Requester, certID)
}

// raiseSequence raises the sequence of the certificate's issuer and stamps the
// revocation with it.
func raiseSequence(certID string) []*stmt {
	return []*stmt{
		may(`UPDATE issuers SET revocation_seq = revocation_seq + 1 WHERE id = (SELECT issuer_id FROM certificates
			WHERE id = $1)`, certID),
		may(`UPDATE revocations SET seq = COALESCE((SELECT i.revocation_seq FROM issuers i
			WHERE i.id = revocations.issuer_id), 0)
			WHERE certificate_id = $1`, certID),
	}
}

var errLost = errors.New("not revoked")

// Revoke revokes an issued or imported certificate and raises its issuer's
// sequence. blockKey puts the public key on the block list. It is
// fault.AlreadyRevoked for a revoked one, except where the change is allowed: a
// hold to a final reason, any reason to keyCompromise. The time of revocation then
// stays.
func (s *Store) Revoke(ctx context.Context, certID string, r Revocation, blockKey bool, ev Event) error {
	w := &write{
		what:    "revoke certificate",
		guards:  []*stmt{insertRevocation(certID, r)},
		effects: raiseSequence(certID),
		events:  []Event{ev},
		lost:    func(int) error { return errLost },
	}
	if blockKey {
		w.effects = append(w.effects, blockKeyOf(certID, r.RevokedAt))
	}
	if err := s.commit(ctx, w); !errors.Is(err, errLost) {
		return err
	}
	c, err := s.CertificateByID(ctx, certID)
	switch {
	case err != nil:
		return err
	case c.Revocation != nil:
		return fault.New(fault.AlreadyRevoked, "the certificate is revoked since %s for %s",
			c.Revocation.RevokedAt.Format(time.RFC3339), c.Revocation.Reason)
	default:
		return fault.New(fault.Conflict, "a certificate that is %s cannot be revoked", c.Status)
	}
}

// BlockKey puts the public key of a certificate on the block list. It writes
// nothing, and no event, if the key is there already.
func (s *Store) BlockKey(ctx context.Context, certID string, at time.Time, ev Event) error {
	st := blockKeyOf(certID, at)
	st.need = 1
	err := s.commit(ctx, &write{
		what: "block key", guards: []*stmt{st}, events: []Event{ev},
		lost: func(int) error { return errLost },
	})
	if errors.Is(err, errLost) {
		return nil
	}
	return err
}

// Release takes back a hold. It is fault.Conflict with the reason "not_on_hold"
// for a certificate that is not revoked, or for good.
func (s *Store) Release(ctx context.Context, certID string, at time.Time, ev Event) error {
	err := s.commit(ctx, &write{
		what: "release hold",
		guards: []*stmt{must(`UPDATE revocations SET released_at = $1, listed_in = NULL
			WHERE certificate_id = $2 AND reason = 6 AND released_at IS NULL`, at, certID)},
		effects: raiseSequence(certID),
		events:  []Event{ev},
		lost:    func(int) error { return errLost },
	})
	if !errors.Is(err, errLost) {
		return err
	}
	c, err := s.CertificateByID(ctx, certID)
	switch {
	case err != nil:
		return err
	case c.Revocation != nil:
		return fault.New(fault.Conflict, "the certificate is revoked since %s for %s, which is final",
			c.Revocation.RevokedAt.Format(time.RFC3339), c.Revocation.Reason).Because("not_on_hold")
	default:
		return fault.New(fault.Conflict, "the certificate is not on hold").Because("not_on_hold")
	}
}

// ForgetReleased deletes the released holds of an issuer whose change had at most
// the given sequence: a base list made from that state no longer needs them.
func (s *Store) ForgetReleased(ctx context.Context, issuerID string, seq int64) error {
	return s.commit(ctx, &write{what: "forget released holds", effects: []*stmt{
		may(`DELETE FROM revocations WHERE issuer_id = $1 AND seq <= $2 AND released_at IS NOT NULL`, issuerID, seq),
	}})
}

// RevokeAll revokes certificates in one transaction that raises the sequence of
// each issuer once: their rows share it. It is fault.Conflict, and nothing is
// revoked, if one of them cannot be (any more). An invalidity date before a
// certificate's time becomes its notBefore. blockKey is as for Revoke.
func (s *Store) RevokeAll(ctx context.Context, certs []Revocable, r Revocation, blockKey bool, events []Event) error {
	if len(certs) == 0 {
		return nil
	}
	w := &write{
		what:   "revoke certificates",
		events: events,
		lost: func(int) error {
			return fault.New(fault.Conflict, "one of the certificates was changed in the meantime")
		},
	}
	in, args := list(nil, issuersOf(certs))
	// First, so that the rows can take the new sequence. If the write loses after
	// all, this makes a loss with part of it done, which is rolled back.
	w.guards = append(w.guards, may(`UPDATE issuers SET revocation_seq = revocation_seq + 1 WHERE id IN `+in, args...))
	for size := 64; size > 0; size /= 2 {
		for len(certs) >= size {
			w.guards = append(w.guards, insertRevocations(certs[:size], r))
			if blockKey {
				w.effects = append(w.effects, blockKeys(certs[:size], r.RevokedAt))
			}
			certs = certs[size:]
		}
	}
	return s.commit(ctx, w)
}

func insertRevocations(certs []Revocable, r Revocation) *stmt {
	in, args := list([]any{r.Reason, r.RevokedAt, r.InvalidityAt, r.Requester}, idsOf(certs))
	st := must(intoRevocations+`
		SELECT c.id, c.issuer_id, c.serial, c.shard, c.not_after, CAST($1 AS bigint), CAST($2 AS timestamptz),
			CASE WHEN c.not_before > CAST($3 AS timestamptz) THEN c.not_before ELSE CAST($3 AS timestamptz) END,
			COALESCE((SELECT i.revocation_seq FROM issuers i WHERE i.id = c.issuer_id), 0), CAST($4 AS text), NULL
		FROM certificates c WHERE c.id IN `+in+` AND c.status IN ('issued', 'imported') ORDER BY c.id`+onRevoked,
		args...)
	st.need = int64(len(certs))
	return st
}

func blockKeyOf(certID string, at time.Time) *stmt {
	return may(`INSERT INTO blocked_keys (key_hash, certificate_id, blocked_at)
		SELECT key_hash, id, CAST($1 AS timestamptz) FROM certificates WHERE id = $2 ON CONFLICT (key_hash)
		DO NOTHING`, at, certID)
}

func blockKeys(certs []Revocable, at time.Time) *stmt {
	in, args := list([]any{at}, idsOf(certs))
	return may(`INSERT INTO blocked_keys (key_hash, certificate_id, blocked_at)
		SELECT c.key_hash, MIN(c.id), CAST($1 AS timestamptz) FROM certificates c WHERE c.id IN `+in+`
		GROUP BY c.key_hash ORDER BY c.key_hash ON CONFLICT (key_hash) DO NOTHING`, args...)
}

func idsOf(certs []Revocable) []string {
	ids := make([]string, len(certs))
	for i, c := range certs {
		ids[i] = c.ID
	}
	return ids
}

// issuersOf returns the issuers in the order of their first certificate.
func issuersOf(certs []Revocable) []string {
	var ids []string
	seen := map[string]bool{}
	for _, c := range certs {
		if !seen[c.IssuerID] {
			seen[c.IssuerID] = true
			ids = append(ids, c.IssuerID)
		}
	}
	return ids
}

const selectBlocked = `SELECT 1 FROM blocked_keys WHERE key_hash = $1`

// BlockedKey reports whether a public key is on the block list.
func (s *Store) BlockedKey(ctx context.Context, key pki.KeyHash) (bool, error) {
	blocked := false
	err := s.query(ctx, "read blocked key", selectBlocked, []any{key[:]}, once(&blocked))
	if err != nil || blocked {
		return blocked, err
	}
	return s.blockedByWitness(ctx, key)
}
