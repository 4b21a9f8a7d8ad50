package store

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// CRLRecord describes a signed list.
type CRLRecord struct {
	IssuerID               string
	Shard                  int
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	SHA256                 []byte
	Size                   int64
}

// chunkSize cuts a list into rows that neither engine minds.
const chunkSize = 1 << 20

// PutCRL stores a signed list. It is fault.Conflict if its number is not higher
// than that of every list of the same issuer and shard, fault.NotFound if the
// issuer is not installed.
func (s *Store) PutCRL(ctx context.Context, r CRLRecord, der []byte) error {
	w := &write{
		what: "put CRL",
		guards: []*stmt{
			// The issuer's row also makes writers of one issuer wait for each other.
			must(`UPDATE issuers SET last_crl_number = CASE WHEN last_crl_number < $1 THEN $1 ELSE last_crl_number END WHERE id = $2`, r.Number, r.IssuerID),
			must(`INSERT INTO crls (issuer_id, shard, number, this_update, next_update, sha256, size)
				SELECT CAST($1 AS text), CAST($2 AS bigint), CAST($3 AS bigint), CAST($4 AS timestamptz), CAST($5 AS timestamptz), $6, CAST($7 AS bigint)
				WHERE NOT EXISTS (SELECT 1 FROM crls WHERE issuer_id = $1 AND shard = $2 AND number >= $3)
				ON CONFLICT DO NOTHING`, r.IssuerID, r.Shard, r.Number, r.ThisUpdate, r.NextUpdate, r.SHA256, int64(len(der))),
		},
		lost: func(guard int) error {
			if guard == 0 {
				return fault.New(fault.NotFound, "no such issuer")
			}
			return fault.New(fault.Conflict, "a list with number %d or higher is stored", r.Number)
		},
	}
	position := 0
	for chunk := range slices.Chunk(der, chunkSize) {
		w.effects = append(w.effects, may(`INSERT INTO crl_chunks (issuer_id, shard, number, position, data) VALUES ($1, $2, $3, $4, $5)`,
			r.IssuerID, r.Shard, r.Number, position, chunk))
		position++
	}
	return s.commit(ctx, w)
}

// LatestCRL returns the list with the highest number of an issuer's shard.
func (s *Store) LatestCRL(ctx context.Context, issuerID string, shard int) (*CRLRecord, []byte, error) {
	var records []CRLRecord
	var der bytes.Buffer
	err := s.engine.read(ctx,
		query{`SELECT issuer_id, shard, number, this_update, next_update, sha256, size FROM crls
			WHERE issuer_id = $1 AND shard = $2 ORDER BY number DESC LIMIT 1`, []any{issuerID, shard}, func(scan scanFunc) error {
			var r CRLRecord
			err := scan(&r.IssuerID, &r.Shard, &r.Number, &r.ThisUpdate, &r.NextUpdate, &r.SHA256, &r.Size)
			records = append(records, r)
			return err
		}})
	if err != nil {
		return nil, nil, unavailable("read CRL", err)
	}
	r, err := one(records, "read CRL")
	if err != nil {
		return nil, nil, err
	}
	err = s.query(ctx, "read CRL", `SELECT data FROM crl_chunks WHERE issuer_id = $1 AND shard = $2 AND number = $3 ORDER BY position`,
		[]any{issuerID, shard, r.Number}, func(scan scanFunc) error {
			var chunk []byte
			err := scan(&chunk)
			der.Write(chunk)
			return err
		})
	return r, der.Bytes(), err
}
