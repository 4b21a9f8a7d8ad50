package store

import (
	"context"
	"fmt"
	"time"
)

// Checkpoint is a signed statement of where all audit chains ended.
type Checkpoint struct {
	ID        string
	Node      string // that made it
	At        time.Time
	Heads     []Head
	KeyID     string // of the signing key
	Signature []byte
}

// PutCheckpoint stores a checkpoint.
func (s *Store) PutCheckpoint(ctx context.Context, c Checkpoint) error {
	return s.commit(ctx, &write{what: "put checkpoint",
		guards: []*stmt{must(`INSERT INTO audit_checkpoints (id, node, at, heads, key_id, signature)
		VALUES ($1, $2, $3, $4, $5, $6)`, c.ID, c.Node, c.At, asJSON(c.Heads), c.KeyID, notNull(c.Signature))}})
}

// Checkpoints returns up to limit checkpoints after the given id, in order of
// id. The empty id is the beginning.
func (s *Store) Checkpoints(ctx context.Context, after string, limit int) ([]Checkpoint, error) {
	return s.checkpoints(ctx, `WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
}

// LastCheckpoint returns the newest checkpoint.
func (s *Store) LastCheckpoint(ctx context.Context) (*Checkpoint, error) {
	found, err := s.checkpoints(ctx, `ORDER BY at DESC, id DESC LIMIT 1`)
	if err != nil {
		return nil, err
	}
	return one(found, "read checkpoint")
}

func (s *Store) checkpoints(ctx context.Context, where string, args ...any) ([]Checkpoint, error) {
	var found []Checkpoint
	err := s.query(ctx, "read checkpoints", `SELECT id, node, at, heads, key_id, signature
		FROM audit_checkpoints `+where, args, func(scan scanFunc) error {
		var c Checkpoint
		var heads []byte
		if err := scan(&c.ID, &c.Node, &c.At, &heads, &c.KeyID, &c.Signature); err != nil {
			return err
		}
		err := fromJSON(heads, &c.Heads)
		found = append(found, c)
		return err
	})
	return found, err
}

// DeleteCheckpointsBefore deletes checkpoints older than the given time, but
// never the newest.
func (s *Store) DeleteCheckpointsBefore(ctx context.Context, at time.Time) (int64, error) {
	return s.deleteBatches(ctx, "delete checkpoints", `DELETE FROM audit_checkpoints WHERE id IN
		(SELECT id FROM audit_checkpoints WHERE at < $1 AND at < (SELECT MAX(at) FROM audit_checkpoints) ORDER BY at
		LIMIT $2)`, at, purgeBatch)
}

// DeleteAuditBefore deletes a node's events with a lower sequence number than
// the given one, after they were exported. The last event of a chain always
// stays: the next one is chained to it.
func (s *Store) DeleteAuditBefore(ctx context.Context, node string, seq int64) (int64, error) {
	return s.deleteBatches(ctx, "delete audit events", `DELETE FROM audit_events WHERE node = $1 AND seq IN
		(SELECT seq FROM audit_events WHERE node = $1 AND seq < $2
			AND seq < (SELECT MAX(seq) FROM audit_events WHERE node = $1) ORDER BY seq LIMIT $3)`, node, seq,
		purgeBatch)
}

// deleteBatches repeats a DELETE that stops at purgeBatch rows until it finds
// nothing more, each time in a commit of its own.
func (s *Store) deleteBatches(ctx context.Context, what, sql string, args ...any) (int64, error) {
	total := int64(0)
	for {
		st := may(sql, args...)
		if err := s.commit(ctx, &write{what: what, guards: []*stmt{st}}); err != nil {
			return total, err
		}
		total += st.n
		if st.n < purgeBatch {
			return total, nil
		}
		if err := ctx.Err(); err != nil {
			return total, fmt.Errorf("%s: %w", what, err)
		}
	}
}
