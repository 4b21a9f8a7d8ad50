package store

import (
	"context"
	"time"

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

// insertRevocation revokes a certificate, or upgrades the reason of a revoked
// one to keyCompromise. A list that holds the old reason no longer counts.
func insertRevocation(certID string, r Revocation) *stmt {
	return must(`INSERT INTO revocations (certificate_id, issuer_id, serial, shard, not_after, reason, revoked_at, invalidity_at, seq, requester, listed_in)
		SELECT c.id, c.issuer_id, c.serial, c.shard, c.not_after, CAST($1 AS bigint), CAST($2 AS timestamptz), CAST($3 AS timestamptz), 0, CAST($4 AS text), NULL
		FROM certificates c WHERE c.id = $5 AND c.status IN ('issued', 'imported', 'void')
		ON CONFLICT (certificate_id) DO UPDATE SET reason = excluded.reason, listed_in = NULL, requester = excluded.requester,
			invalidity_at = COALESCE(excluded.invalidity_at, revocations.invalidity_at)
			WHERE excluded.reason = 1 AND revocations.reason <> 1`,
		r.Reason, r.RevokedAt, r.InvalidityAt, r.Requester, certID)
}

// raiseSequence raises the sequence of the certificate's issuer and stamps the
// revocation with it.
func raiseSequence(certID string) []*stmt {
	return []*stmt{
		may(`UPDATE issuers SET revocation_seq = revocation_seq + 1 WHERE id = (SELECT issuer_id FROM certificates WHERE id = $1)`, certID),
		may(`UPDATE revocations SET seq = COALESCE((SELECT i.revocation_seq FROM issuers i WHERE i.id = revocations.issuer_id), 0)
			WHERE certificate_id = $1`, certID),
	}
}

// BlockedKey reports whether a public key is on the block list.
func (s *Store) BlockedKey(ctx context.Context, key pki.KeyHash) (bool, error) {
	blocked := false
	err := s.query(ctx, "read blocked key", `SELECT 1 FROM blocked_keys WHERE key_hash = $1`, []any{key[:]}, once(&blocked))
	return blocked, err
}
