package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/privyseal/privyseal/internal/pki"
)

// Change says that an issuer's revocation sequence was raised. Without an issuer
// it says that any of them may have been.
type Change struct {
	IssuerID string
	Seq      int64 // 0 where it is not told
}

// Changes calls each for revocations that are committed, until ctx ends. What
// this process commits is told at once. On PostgreSQL other nodes' commits come
// by NOTIFY, one for each batch and issuer. Changes may be missed, while the
// connection is down above all, and may be told twice: whoever must know polls
// RevocationSequences beside it. each must not block.
func (s *Store) Changes(ctx context.Context, each func(Change)) {
	defer s.watchers.add(each)()
	if e, ok := s.engine.(*postgres); ok {
		e.listen(ctx, each)
	}
	<-ctx.Done()
}

// watchers are the calls of Changes that are under way.
type watchers struct {
	mu   sync.Mutex
	next int
	each map[int]func(Change)
}

func (w *watchers) add(each func(Change)) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.each == nil {
		w.each = map[int]func(Change){}
	}
	id := w.next
	w.next++
	w.each[id] = each
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.each, id)
	}
}

func (w *watchers) tell(c Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, each := range w.each {
		each(c)
	}
}

// raisesSequence reports whether one of the writes raises the revocation
// sequence of an issuer, by the text of its statements: it is the same wherever
// that happens.
func raisesSequence(writes []*write) bool {
	const raise = "revocation_seq = revocation_seq + 1"
	for _, w := range writes {
		for _, stmts := range [][]*stmt{w.guards, w.effects} {
			for _, st := range stmts {
				if strings.Contains(st.sql, raise) {
					return true
				}
			}
		}
	}
	return false
}

// channel is where PostgreSQL carries revocations from node to node.
const channel = "privyseal_revocations"

// announcement notifies the other nodes of every issuer whose row this
// transaction has changed. It takes effect with the commit.
func (*postgres) announcement() *stmt {
	return may(`SELECT pg_notify('` + channel + `', id || ' ' || CAST(revocation_seq AS text)) FROM issuers
		WHERE xmin = CAST(pg_current_xact_id() AS xid)`)
}

// announcement is nothing: one process has a SQLite database for itself.
func (*sqlite) announcement() *stmt { return nil }

// How long the listener waits before it connects again.
const (
	relistenMin = 100 * time.Millisecond
	relistenMax = 5 * time.Second
)

// listen takes notifications on a connection of its own, and connects again
// whenever it is lost.
func (p *postgres) listen(ctx context.Context, each func(Change)) {
	wait := relistenMin
	for ctx.Err() == nil {
		if p.listenOnce(ctx, each) {
			wait = relistenMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, relistenMax)
	}
}

// listenOnce returns when the connection is lost; true if there was one.
func (p *postgres) listenOnce(ctx context.Context, each func(Change)) bool {
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
	if err != nil {
		return false // reads say so too, and their callers are told
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(closing) // it is lost, or not needed any more
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return false
	}
	each(Change{}) // what was missed
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return true
		}
		each(parseChange(n.Payload))
	}
}

func parseChange(payload string) Change {
	id, number, _ := strings.Cut(payload, " ")
	seq, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return Change{}
	}
	return Change{IssuerID: id, Seq: seq}
}

// Sequences are an issuer's counters.
type Sequences struct {
	Revocation int64 // raised with every revocation and every release
	CRLNumber  int64 // raised with every list that is published
}

// RevocationSequences returns the counters of all issuers.
func (s *Store) RevocationSequences(ctx context.Context) (map[string]Sequences, error) {
	all := map[string]Sequences{}
	err := s.query(ctx, "read revocation sequences", `SELECT id, revocation_seq, crl_seq FROM issuers`, nil,
		func(scan scanFunc) error {
			var id string
			var q Sequences
			err := scan(&id, &q.Revocation, &q.CRLNumber)
			all[id] = q
			return err
		})
	return all, err
}

// Stamp is a change of one certificate's revocation.
type Stamp struct {
	Serial    pki.Serial
	Seq       int64
	RevokedAt time.Time
}

// ChangedSince returns the certificates of an issuer whose revocation was changed
// under a sequence above after, at most limit of them, lowest sequence first. A
// sequence that no row bears (any more) means that some change cannot be told.
func (s *Store) ChangedSince(ctx context.Context, issuerID string, after int64, limit int) ([]Stamp, error) {
	var found []Stamp
	err := s.query(ctx, "read changed revocations", `SELECT serial, seq, revoked_at FROM revocations
		WHERE issuer_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`, []any{issuerID, after, limit},
		func(scan scanFunc) error {
			var st Stamp
			var serial string
			err := scan(&serial, &st.Seq, &st.RevokedAt)
			st.Serial = pki.Serial(serial)
			found = append(found, st)
			return err
		})
	return found, err
}

// Standing is what the records say of one serial.
type Standing struct {
	Status     string // as in Certificate
	NotAfter   time.Time
	Revocation *Revocation // nil if it is not revoked
}

// Standings is StandingsOnRecord where the witness does not know better. A
// certificate that only the witness knows counts as an imported one.
func (s *Store) Standings(
	ctx context.Context, issuerID string, serials []pki.Serial,
) (map[pki.Serial]Standing, int64, error) {
	found, seq, err := s.StandingsOnRecord(ctx, issuerID, serials)
	if err != nil {
		return nil, 0, err
	}
	for _, serial := range serials {
		if _, ok := s.Witnessed(issuerID, serial); ok {
			st := found[serial]
			if st.Status != "issued" && st.Status != "void" {
				st.Status = "imported"
			}
			st.Revocation = s.stricter(issuerID, serial, st.Revocation)
			found[serial] = st
		}
	}
	return found, seq, nil
}

// StandingsOnRecord returns what the records say of serials of an issuer, and the
// issuer's revocation sequence, as of one moment. Serials without a record are
// left out. It is ErrNotFound for an issuer that is not installed.
func (s *Store) StandingsOnRecord(
	ctx context.Context, issuerID string, serials []pki.Serial,
) (map[pki.Serial]Standing, int64, error) {
	in, args := list([]any{issuerID}, serials)
	found, seq, installed := map[pki.Serial]Standing{}, int64(0), false
	err := s.query(ctx, "read standings", `SELECT i.revocation_seq, COALESCE(c.serial, ''), COALESCE(c.status, ''),
		c.not_after, COALESCE(r.reason, -1), r.revoked_at
		FROM issuers i LEFT JOIN certificates c ON c.issuer_id = i.id AND c.serial IN `+in+`
		LEFT JOIN revocations r ON r.certificate_id = c.id AND r.released_at IS NULL WHERE i.id = $1`, args,
		func(scan scanFunc) error {
			var serial string
			var st Standing
			var r Revocation
			var revokedAt *time.Time
			var reason int64
			if err := scan(&seq, &serial, &st.Status, &st.NotAfter, &reason, &revokedAt); err != nil {
				return err
			}
			installed = true
			if revokedAt != nil {
				r.Reason, r.RevokedAt = pki.Reason(reason), *revokedAt
				st.Revocation = &r
			}
			if serial != "" {
				found[pki.Serial(serial)] = st
			}
			return nil
		})
	if err == nil && !installed {
		err = fmt.Errorf("read standings of issuer %s: %w", issuerID, ErrNotFound)
	}
	return found, seq, err
}
