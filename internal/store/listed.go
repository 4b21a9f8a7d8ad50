package store

import (
	"context"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// CRLEntry is a revocation as a list needs it.
type CRLEntry struct {
	Serial       pki.Serial
	RevokedAt    time.Time
	Reason       pki.Reason
	InvalidityAt *time.Time
	Seq          int64 // the issuer's revocation sequence of its last change
	Listed       bool  // a list of its shard has it already
}

// CRLEntries streams the revocations that belong on a list from one consistent
// read, in the order of their serials as numbers, and returns the revocation
// sequence of the issuer that they cover. Shard 0 is all revocations of the
// issuer, another shard its own. Entries stay until a list was made after they
// expired (RFC 5280, section 3.3): last is the date of the last list, and what
// expired by then is left out unless no list has had it yet.
func (s *Store) CRLEntries(
	ctx context.Context, issuerID string, shard int, last time.Time, each func(CRLEntry) error,
) (int64, error) {
	var seq int64
	installed := false
	where, args := `issuer_id = $1 AND (not_after > $2 OR listed_in IS NULL) AND released_at IS NULL`,
		[]any{issuerID, last}
	if shard != 0 {
		where, args = where+` AND shard = $3`, append(args, shard)
	}
	var refused error
	err := s.engine.snapshot(ctx,
		query{`SELECT revocation_seq FROM issuers WHERE id = $1`, []any{issuerID}, func(scan scanFunc) error {
			installed = true
			return scan(&seq)
		}},
		query{`SELECT serial, revoked_at, reason, invalidity_at, seq, CASE WHEN listed_in IS NULL THEN 0 ELSE 1 END
			FROM revocations
			WHERE ` + where + ` ORDER BY length(serial), serial`, args, func(scan scanFunc) error {
			var e CRLEntry
			var serial string
			var reason, listed int64
			if err := scan(&serial, &e.RevokedAt, &reason, &e.InvalidityAt, &e.Seq, &listed); err != nil {
				return err
			}
			e.Serial, e.Reason, e.Listed = pki.Serial(serial), pki.Reason(reason), listed != 0
			refused = each(e)
			return refused
		}})
	switch {
	case refused != nil:
		return 0, refused
	case err != nil:
		return 0, failed("read revocations", err)
	case !installed:
		return 0, fault.New(fault.NotFound, "no such issuer")
	}
	return seq, nil
}

// markBatch is how many revocations one commit marks as listed.
const markBatch = 2000

// MarkListed notes that the revocations of a shard up to the sequence seq are on
// the list with the given number. Those that were on an earlier one keep it.
func (s *Store) MarkListed(ctx context.Context, issuerID string, shard int, seq, number int64) error {
	for {
		st := may(`UPDATE revocations SET listed_in = $1 WHERE listed_in IS NULL
			AND certificate_id IN (SELECT certificate_id FROM revocations
			WHERE issuer_id = $2 AND shard = $3 AND seq <= $4 AND listed_in IS NULL ORDER BY seq LIMIT $5)`,
			number, issuerID, shard, seq, markBatch)
		if err := s.commit(ctx, &write{what: "mark listed revocations", effects: []*stmt{st}}); err != nil {
			return err
		}
		if st.n < markBatch {
			return nil
		}
	}
}

// Unlisted returns the shards in which a revocation of the issuer that came after
// the given sequence, for one of the given reasons, is not on a list yet.
func (s *Store) Unlisted(ctx context.Context, issuerID string, after int64, reasons []pki.Reason) ([]int, error) {
	if len(reasons) == 0 {
		return nil, nil
	}
	in, args := list([]any{issuerID, after}, reasons)
	var shards []int
	err := s.query(ctx, "read unlisted revocations",
		`SELECT DISTINCT shard FROM revocations WHERE issuer_id = $1 AND seq > $2 AND listed_in IS NULL
			AND reason IN `+in,
		args, func(scan scanFunc) error {
			var shard int
			err := scan(&shard)
			shards = append(shards, shard)
			return err
		})
	return shards, err
}
