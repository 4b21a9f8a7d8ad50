package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
)

// CRLRecord describes a signed list.
type CRLRecord struct {
	IssuerID               string
	Shard                  int  // 0 is the full list
	Delta                  bool // a delta list of that shard
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	SHA256                 []byte
	Size, Entries          int64
	RevocationSeq          int64 // the issuer's revocation sequence that the list covers
	LossesAccepted         int64 // highest number up to Number of a list whose losses an operator accepted; 0 for none
}

// row is the value of the column shard: delta lists stand below zero.
func (r CRLRecord) row() int {
	if r.Delta {
		return -1 - r.Shard
	}
	return r.Shard
}

// chunkSize cuts a list into rows that neither engine minds, and is all of a
// list that is in memory at a time.
const chunkSize = 1 << 20

// PutCRL stores a signed list, which counts from the moment that the last of it
// is stored. after is the number of the list that this one was compared with and
// takes over from, 0 for none: PutCRL is fault.Conflict if there is a list of the
// same shard with a higher number than that by now, or with this number. It is
// fault.NotFound if the issuer is not installed.
func (s *Store) PutCRL(ctx context.Context, r CRLRecord, after int64, content io.Reader, events ...Event) error {
	chunk := make([]byte, chunkSize)
	n, err := io.ReadFull(content, chunk)
	if err := s.commit(ctx, s.openCRL(r, chunk[:n])); err != nil {
		return err
	}
	for position := 1; err == nil; position++ {
		if n, err = io.ReadFull(content, chunk); n == 0 {
			break
		}
		w := &write{what: "put CRL", effects: []*stmt{r.insert(position, chunk[:n])}}
		if err := s.commit(ctx, w); err != nil {
			return err
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("put CRL: read it: %w", err)
	}
	return s.commit(ctx, s.closeCRL(r, after, events))
}

func (r CRLRecord) insert(position int, chunk []byte) *stmt {
	return may(`INSERT INTO crl_chunks (issuer_id, shard, number, position, data) VALUES ($1, $2, $3, $4, $5)`,
		r.IssuerID, r.row(), r.Number, position, chunk)
}

// openCRL enters a list that is not complete yet, with its first chunk.
func (s *Store) openCRL(r CRLRecord, first []byte) *write {
	return &write{
		what: "put CRL",
		guards: []*stmt{
			must(`UPDATE issuers SET last_crl_number = CASE WHEN last_crl_number < $1 THEN $1 ELSE last_crl_number
				END WHERE id = $2`, r.Number, r.IssuerID),
			must(`INSERT INTO crls (issuer_id, shard, number, this_update, next_update, sha256, size, entries,
				revocation_seq, losses_accepted, complete)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
				r.IssuerID, r.row(), r.Number, r.ThisUpdate, r.NextUpdate, r.SHA256, r.Size, r.Entries, r.RevocationSeq,
				r.LossesAccepted, false),
		},
		effects: []*stmt{r.insert(0, first)},
		lost: func(guard int) error {
			if guard == 0 {
				return fault.New(fault.NotFound, "no such issuer")
			}
			return fault.New(fault.Conflict, "a list with number %d is stored", r.Number).Because("crl_number")
		},
	}
}

// keptDays is how long the record of a list outlives it; its content goes when
// two newer ones are there.
const keptDays = 90

// closeCRL makes a list count, and clears away what it makes superfluous.
func (s *Store) closeCRL(r CRLRecord, after int64, events []Event) *write {
	return &write{
		what: "put CRL",
		guards: []*stmt{
			// The issuer's row makes writers of one issuer wait for each other.
			must(`UPDATE issuers SET crl_seq = crl_seq + 1 WHERE id = $1`, r.IssuerID),
			must(`UPDATE crls SET complete = $1 WHERE issuer_id = $2 AND shard = $3 AND number = $4 AND complete = $5
				AND NOT EXISTS (SELECT 1 FROM crls o WHERE o.issuer_id = $2 AND o.shard = $3 AND o.complete = $1
				AND (o.number > $6 OR o.number >= $4))`,
				true, r.IssuerID, r.row(), r.Number, false, after),
		},
		effects: []*stmt{
			may(`DELETE FROM crl_chunks WHERE issuer_id = $1 AND shard = $2 AND number < $3`, r.IssuerID, r.row(),
				min(after, r.Number)),
			// What a crash left unfinished has a lower number, for numbers only rise.
			may(`DELETE FROM crls WHERE issuer_id = $1 AND shard = $2 AND number < $3 AND complete = $4`, r.IssuerID,
				r.row(), r.Number, false),
			may(`DELETE FROM crls WHERE issuer_id = $1 AND shard = $2 AND number < $3 AND next_update < $4`,
				r.IssuerID, r.row(), min(after, r.Number), s.cfg.Now().AddDate(0, 0, -keptDays)),
		},
		events: events,
		lost: func(int) error {
			return fault.New(fault.Conflict, "another list of issuer %s was published in the meantime", r.IssuerID).
				Because("crl_number")
		},
	}
}

const selectCRL = `SELECT c.issuer_id, c.shard, c.number, c.this_update, c.next_update, c.sha256, c.size, c.entries,
	c.revocation_seq, c.losses_accepted FROM crls c `

func scanCRLs(into *[]CRLRecord) func(scanFunc) error {
	return func(scan scanFunc) error {
		var r CRLRecord
		err := scan(&r.IssuerID, &r.Shard, &r.Number, &r.ThisUpdate, &r.NextUpdate, &r.SHA256, &r.Size, &r.Entries,
			&r.RevocationSeq, &r.LossesAccepted)
		if r.Shard < 0 {
			r.Shard, r.Delta = -1-r.Shard, true
		}
		*into = append(*into, r)
		return err
	}
}

// CRLs returns what is known of the newest list of each shard of an issuer,
// delta lists included.
func (s *Store) CRLs(ctx context.Context, issuerID string) ([]CRLRecord, error) {
	var found []CRLRecord
	err := s.query(ctx, "read CRLs", selectCRL+`WHERE c.issuer_id = $1 AND c.complete = $2 AND c.number =
		(SELECT MAX(o.number) FROM crls o WHERE o.issuer_id = c.issuer_id AND o.shard = c.shard AND o.complete = $2)
		ORDER BY c.shard`,
		[]any{issuerID, true}, scanCRLs(&found))
	return found, err
}

// CRLHistory returns the records of the lists of one shard that are kept, newest
// first.
func (s *Store) CRLHistory(ctx context.Context, issuerID string, shard int, delta bool) ([]CRLRecord, error) {
	var found []CRLRecord
	key := CRLRecord{Shard: shard, Delta: delta}
	err := s.query(ctx, "read CRLs", selectCRL+`WHERE c.issuer_id = $1 AND c.shard = $2 AND c.complete = $3
		ORDER BY c.number DESC`,
		[]any{issuerID, key.row(), true}, scanCRLs(&found))
	return found, err
}

// CopyCRL writes a stored list to w, chunk by chunk. It is ErrNotFound when the
// list is not, or no longer, stored as a whole.
func (s *Store) CopyCRL(ctx context.Context, r CRLRecord, w io.Writer) error {
	for done, position := int64(0), 0; done < r.Size; position++ {
		var chunk []byte
		err := s.queryRow(ctx, "read CRL", `SELECT data FROM crl_chunks WHERE issuer_id = $1 AND shard = $2
			AND number = $3 AND position = $4`,
			[]any{r.IssuerID, r.row(), r.Number, position}, &chunk)
		if err != nil {
			return err
		}
		n, err := w.Write(chunk)
		if err != nil {
			return fmt.Errorf("read CRL: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("read CRL: chunk %d of list %d is empty", position, r.Number)
		}
		done += int64(n)
	}
	return nil
}

// LatestCRL returns the full or sharded list with the highest number, as a whole
// in memory.
func (s *Store) LatestCRL(ctx context.Context, issuerID string, shard int) (*CRLRecord, []byte, error) {
	var records []CRLRecord
	err := s.query(ctx, "read CRL", selectCRL+`WHERE c.issuer_id = $1 AND c.shard = $2 AND c.complete = $3
		ORDER BY c.number DESC LIMIT 1`,
		[]any{issuerID, shard, true}, scanCRLs(&records))
	if err != nil {
		return nil, nil, err
	}
	r, err := one(records, "read CRL")
	if err != nil {
		return nil, nil, err
	}
	var der bytes.Buffer
	err = s.CopyCRL(ctx, *r, &der)
	return r, der.Bytes(), err
}
