package store

import (
	"context"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// IssuerRequest is the newest certificate request of an issuer.
type IssuerRequest struct {
	IssuerID    string
	CSR         []byte // DER
	RequestedBy string
	CreatedAt   time.Time
}

// PutIssuerRequest keeps an issuer's request in place of the one before.
func (s *Store) PutIssuerRequest(ctx context.Context, r IssuerRequest, ev Event) error {
	return s.commit(ctx, &write{
		what: "put request of an issuer",
		guards: []*stmt{must(`INSERT INTO issuer_requests (issuer_id, csr, requested_by, created_at) VALUES ($1, $2,
			$3, $4)
			ON CONFLICT (issuer_id) DO UPDATE SET csr = excluded.csr, requested_by = excluded.requested_by,
			created_at = excluded.created_at`,
			r.IssuerID, r.CSR, r.RequestedBy, r.CreatedAt)},
		events: []Event{ev},
	})
}

// IssuerRequest returns the newest request of an issuer.
func (s *Store) IssuerRequest(ctx context.Context, issuerID string) (*IssuerRequest, error) {
	r := IssuerRequest{IssuerID: issuerID}
	err := s.queryRow(ctx, "read request of an issuer",
		`SELECT csr, requested_by, created_at FROM issuer_requests WHERE issuer_id = $1`,
		[]any{issuerID}, &r.CSR, &r.RequestedBy, &r.CreatedAt)
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// Installation is a CA certificate that is put in force.
type Installation struct {
	IssuerRecord
	// Replaces is the certificate of the same key that was in force until now, and is
	// remembered from then on; nil if the CA is new here.
	Replaces   []byte
	ReplacedAt time.Time
	// Siblings are the ids of the CA above, and Room how many CAs may be below them,
	// this one included; 0 is any number.
	Siblings []string
	Room     int
}

// room returns the guards that a CA finds room below the one above. Its rows are locked
// first, so that two nodes do not count at once.
func (i *Installation) room() []*stmt {
	in, args := list(nil, i.Siblings)
	lock := may(`UPDATE issuers SET state = state WHERE id IN `+in, args...)
	in, args = list([]any{i.Room}, i.Siblings)
	return []*stmt{lock, must(`SELECT 1 WHERE `+countChildren(in)+` < $1`, args...).reads(new(int64))}
}

// countChildren is the number of the CAs below some ids that are not retired.
func countChildren(in string) string {
	return `(SELECT COUNT(*) FROM issuers WHERE state <> 'retired' AND parent_id IN ` + in + `)`
}

// InstallIssuers puts certificates of CAs in force, all or none. It is
// fault.Conflict if one of them is not (any more) as it says, and fault.Denied, with the
// reason max_children, if there is no room below the CA above.
func (s *Store) InstallIssuers(ctx context.Context, all []Installation, events ...Event) error {
	return s.ChangeIssuers(ctx, all, nil, events...)
}

// ChangeIssuers is InstallIssuers that also does what a configuration asks of issuers
// that are installed, in the same transaction.
func (s *Store) ChangeIssuers(
	ctx context.Context, install []Installation, changes []IssuerChange, events ...Event,
) error {
	w := &write{what: "change issuers", events: events}
	w.lost = func(guard int) error {
		if w.guards[guard].read {
			return fault.New(fault.Denied, "the CA above has as many CAs below it as max_children allows").
				Because("max_children")
		}
		return fault.New(fault.Conflict, "the issuers were changed in the meantime: look at `privyseal issuer list`").
			Because("issuer_changed")
	}
	for _, r := range install {
		r.install(w)
	}
	for _, c := range changes {
		w.guards = append(w.guards, must(`UPDATE issuers SET name = $1, generation = $2, state = $3,
			crl_shards = CASE WHEN crl_shards < $4 THEN $4 ELSE crl_shards END WHERE id = $5 AND state = $6`,
			c.Name, c.Generation, c.To, c.Shards, c.ID, c.From))
	}
	return s.commit(ctx, w)
}

// install adds to a write what puts one certificate in force.
func (i *Installation) install(w *write) {
	if i.Room > 0 {
		w.guards = append(w.guards, i.room()...)
	}
	if i.Replaces == nil {
		sql, args := issuers.add(&i.IssuerRecord, `ON CONFLICT (id) DO NOTHING`)
		w.guards = append(w.guards, must(sql, args...))
		return
	}
	w.guards = append(w.guards, must(`UPDATE issuers SET certificate = $1, subject = $2, not_after = $3, parent_id = $4
		WHERE id = $5 AND certificate = $6`, i.Certificate, i.Subject, i.NotAfter, i.ParentID, i.ID, i.Replaces))
	w.effects = append(w.effects, may(`INSERT INTO issuer_former (issuer_id, fingerprint, certificate, replaced_at)
		VALUES ($1, $2, $3, $4) ON CONFLICT (issuer_id, fingerprint) DO UPDATE SET replaced_at = excluded.replaced_at`,
		i.ID, pki.Fingerprint(i.Replaces), i.Replaces, i.ReplacedAt))
}

// The conditions under which a CA has signed something, by what the refusal says of
// it, in the order in which they are asked.
var signedBefore = []struct{ what, sql string }{
	{"has signed revocation lists, or some were imported",
		`SELECT COUNT(*) FROM issuers WHERE id = $1 AND last_crl_number > 0`},
	{"has revocation lists", `SELECT COUNT(*) FROM crls WHERE issuer_id = $1`},
	{"has certificates on record", `SELECT COUNT(*) FROM certificates WHERE issuer_id = $1`},
	{"has CAs below it", `SELECT COUNT(*) FROM issuers WHERE parent_id = $1`},
}

// RemoveIssuer takes the record of an issuer that never signed out of the database,
// with its former certificates. certificate is the one in force: fault.Conflict, with
// the reason issuer_changed, if it is another one by now, and with issuer_used if it
// has signed a certificate or a list, or a CA is below it. Its request stays: a
// mended certificate may come for it.
func (s *Store) RemoveIssuer(ctx context.Context, id string, certificate []byte, events ...Event) error {
	unused := ""
	for _, c := range signedBefore {
		unused += ` AND (` + c.sql + `) = 0`
	}
	err := s.commit(ctx, &write{
		what: "remove issuer", events: events,
		guards:  []*stmt{must(`DELETE FROM issuers WHERE id = $1 AND certificate = $2`+unused, id, certificate)},
		effects: []*stmt{may(`DELETE FROM issuer_former WHERE issuer_id = $1`, id)},
		lost: func(int) error {
			return fault.New(fault.Conflict, "%s was changed in the meantime: look at `privyseal issuer list`", id).
				Because("issuer_changed")
		},
	})
	if !fault.Is(err, fault.Conflict) {
		return err
	}
	for _, c := range signedBefore {
		var n int64
		if err := s.queryRow(ctx, "read issuer", c.sql, []any{id}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Conflict, "%s %s: who relies on it needs its record; to stop it, have it revoked "+
				"by "+
				"the CA above, or declare a successor and take it out of the configuration once it is retired", id,
				c.what).
				Because("issuer_used")
		}
	}
	return err
}

// ImportCertificates enters certificates that another program issued, each with
// the status "imported" and its revocation, if it has one, under the sequence 1:
// that of an issuer that is installed after them. Those whose serial is on record
// stay as they are. It returns how many are new.
func (s *Store) ImportCertificates(ctx context.Context, certs []Certificate, ev Event) (int, error) {
	w := &write{what: "import certificates", events: []Event{ev}}
	for _, c := range certs {
		c.Status, c.TBS = "imported", nil
		sql, args := certificates.add(&c, `ON CONFLICT (serial, issuer_id) DO NOTHING`)
		w.guards = append(w.guards, may(sql, args...))
		w.effects = append(w.effects, importNames(c)...)
		if r := c.Revocation; r != nil {
			w.effects = append(w.effects, may(intoRevocations+`
				SELECT c.id, c.issuer_id, c.serial, c.shard, c.not_after, CAST($1 AS bigint),
				CAST($2 AS timestamptz), CAST($3 AS timestamptz), 1, CAST($4 AS text), NULL
				FROM certificates c WHERE c.id = $5 ON CONFLICT (certificate_id) DO NOTHING`,
				r.Reason, r.RevokedAt, r.InvalidityAt, r.Requester, c.ID))
			if r.Reason == pki.KeyCompromise && len(c.DER) > 0 {
				w.effects = append(w.effects, may(`INSERT INTO blocked_keys (key_hash, certificate_id, blocked_at)
					SELECT key_hash, id, CAST($1 AS timestamptz) FROM certificates WHERE id = $2
					ON CONFLICT (key_hash) DO NOTHING`, r.RevokedAt, c.ID))
			}
		}
	}
	if err := s.commit(ctx, w); err != nil {
		return 0, err
	}
	fresh := 0
	for _, st := range w.guards {
		fresh += int(st.n)
	}
	return fresh, nil
}

// importNames inserts the names of a certificate if its own row was.
func importNames(c Certificate) []*stmt {
	stmts := make([]*stmt, len(c.Names))
	for i, n := range c.Names {
		value := strings.ToLower(n.Value)
		stmts[i] = may(`INSERT INTO certificate_names (certificate_id, position, type, value, reversed)
			SELECT id, CAST($1 AS bigint), CAST($2 AS text), CAST($3 AS text), CAST($4 AS text) FROM certificates
			WHERE id = $5`,
			i, n.Type, value, reversed(value), c.ID)
	}
	return stmts
}

// LiveCertificates counts the certificates of each CA that have not expired at a
// time.
func (s *Store) LiveCertificates(ctx context.Context, at time.Time) (map[string]int64, error) {
	live := map[string]int64{}
	err := s.query(ctx, "count certificates", `SELECT issuer_id, COUNT(*) FROM certificates
		WHERE not_after > $1 AND status IN ('issued', 'imported') GROUP BY issuer_id`, []any{at},
		func(scan scanFunc) error {
			var id string
			var n int64
			err := scan(&id, &n)
			live[id] = n
			return err
		})
	return live, err
}

// CertificatesByProfile returns the certificates that were issued, or imported,
// under one of the profiles: there are few of those it is for.
func (s *Store) CertificatesByProfile(ctx context.Context, profiles []string) ([]Certificate, error) {
	in, args := list(nil, profiles)
	return s.certificates(ctx, `WHERE c.profile IN `+in+` AND c.status IN ('issued', 'imported') ORDER BY c.id`,
		args...)
}

// Children counts the CAs that a CA has here below it, under any of its ids, apart from
// those that are retired.
func (s *Store) Children(ctx context.Context, ids ...string) (int, error) {
	n := int64(0)
	in, args := list(nil, ids)
	err := s.queryRow(ctx, "count issuers", `SELECT `+countChildren(in), args, &n)
	return int(n), err
}
