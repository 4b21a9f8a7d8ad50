package store

import (
	"bytes"
	"context"
	"crypto/x509"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// IssuerRecord is an installed issuer: one CA key and name. Once it has signed
// anything, its id is never used again.
type IssuerRecord struct {
	ID, Name      string
	Generation    int
	State         string // "active", "draining", "retired" or "offline"
	ParentID      string // empty for a root
	Certificate   []byte // DER
	Subject       string
	NotAfter      time.Time
	RevocationSeq int64 // raised with every revocation
	LastCRLNumber int64
	CRLSeq        int64 // raised with every list that is published; set by the store
	CRLShards     int   // the highest number of shards that it ever had; see IssuerChange
	CreatedAt     time.Time
	Former        [][]byte // the certificates that it had before, DER, the last one first; set by the store
}

var issuers = table[IssuerRecord]{
	name: "issuers", alias: "i",
	columns: []column[IssuerRecord]{
		col("id", func(r *IssuerRecord) *string { return &r.ID }),
		col("name", func(r *IssuerRecord) *string { return &r.Name }),
		col("generation", func(r *IssuerRecord) *int { return &r.Generation }),
		col("state", func(r *IssuerRecord) *string { return &r.State }),
		col("parent_id", func(r *IssuerRecord) *string { return &r.ParentID }),
		col("certificate", func(r *IssuerRecord) *[]byte { return &r.Certificate }),
		col("subject", func(r *IssuerRecord) *string { return &r.Subject }),
		col("not_after", func(r *IssuerRecord) *time.Time { return &r.NotAfter }),
		col("revocation_seq", func(r *IssuerRecord) *int64 { return &r.RevocationSeq }),
		col("last_crl_number", func(r *IssuerRecord) *int64 { return &r.LastCRLNumber }),
		col("created_at", func(r *IssuerRecord) *time.Time { return &r.CreatedAt }),
		col("crl_shards", func(r *IssuerRecord) *int { return &r.CRLShards }),
		computed("i.crl_seq", func(r *IssuerRecord) *int64 { return &r.CRLSeq }),
	},
}.ready()

// PutIssuer installs an issuer that is new. It is fault.Conflict if the id is
// taken: what happened to an issuer since is not to be overwritten.
func (s *Store) PutIssuer(ctx context.Context, r IssuerRecord, events ...Event) error {
	return s.InstallIssuers(ctx, []Installation{{IssuerRecord: r}}, events...)
}

// IssuerChange is what becomes of an installed issuer: its pool, its generation and its
// state, if that is still From. Its shards only rise.
type IssuerChange struct {
	ID, Name   string
	Generation int
	Shards     int
	From, To   string
}

// MoveIssuer takes an issuer from one state to the next. Conflict says that it is
// in another one.
func (s *Store) MoveIssuer(ctx context.Context, id, from, to string, events ...Event) error {
	return s.commit(ctx, &write{
		what:   "move issuer",
		guards: []*stmt{must(`UPDATE issuers SET state = $1 WHERE id = $2 AND state = $3`, to, id, from)},
		lost:   func(int) error { return fault.New(fault.Conflict, "issuer %s is not %s", id, from) },
		events: events,
	})
}

// LastNotAfter returns when the last certificate of an issuer ends, those of CAs
// below it that a ceremony signed included; zero if it has none. Certificates of a
// profile that is left out do not count.
func (s *Store) LastNotAfter(ctx context.Context, issuerID, leftOut string) (time.Time, error) {
	var last *time.Time
	err := s.queryRow(ctx, "read last certificate", `SELECT MAX(ends) FROM (
		SELECT MAX(not_after) AS ends FROM certificates WHERE issuer_id = $1 AND profile <> $2 AND status <> 'abandoned'
		UNION ALL SELECT MAX(not_after) FROM issuers WHERE parent_id = $1) last`, []any{issuerID, leftOut}, &last)
	if err != nil || last == nil {
		return time.Time{}, err
	}
	return *last, nil
}

// Issuer returns an issuer by id.
func (s *Store) Issuer(ctx context.Context, id string) (*IssuerRecord, error) {
	found, err := s.issuers(ctx, `WHERE id = $1`, id)
	if err != nil {
		return nil, err
	}
	return one(found, "read issuer")
}

// Issuers returns all issuers by name and generation.
func (s *Store) Issuers(ctx context.Context) ([]IssuerRecord, error) {
	return s.issuers(ctx, `ORDER BY name, generation, id`)
}

// CAsBelow returns the serials of the certificates, former ones too, of the installed
// CAs that a CA has certified, and when they end. One that cannot be read is nobody's.
func (s *Store) CAsBelow(ctx context.Context, id string) (map[pki.Serial]time.Time, error) {
	rows, err := s.issuers(ctx, `WHERE parent_id = $1`, id)
	if err != nil {
		return nil, err
	}
	ends := make(map[pki.Serial]time.Time, len(rows))
	for _, r := range rows {
		inForce, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			continue
		}
		for _, der := range append(r.Former, r.Certificate) {
			c, err := x509.ParseCertificate(der)
			if err == nil && bytes.Equal(c.RawIssuer, inForce.RawIssuer) { // a former one may be by another CA
				ends[pki.SerialFromBig(c.SerialNumber)] = c.NotAfter
			}
		}
	}
	return ends, nil
}

func (s *Store) issuers(ctx context.Context, where string, args ...any) ([]IssuerRecord, error) {
	var found []IssuerRecord
	err := s.query(ctx, "read issuers", issuers.query+where, args, issuers.scan(&found))
	if err != nil {
		return nil, err
	}
	return found, s.former(ctx, found)
}

// former fills in the certificates that issuers had before.
func (s *Store) former(ctx context.Context, found []IssuerRecord) error {
	if len(found) == 0 {
		return nil
	}
	all := map[string][][]byte{}
	sql := `SELECT issuer_id, certificate FROM issuer_former ORDER BY replaced_at DESC, fingerprint`
	err := s.query(ctx, "read former certificates of issuers", sql, nil, func(scan scanFunc) error {
		var id string
		var der []byte
		err := scan(&id, &der)
		all[id] = append(all[id], der)
		return err
	})
	for i := range found {
		found[i].Former = all[found[i].ID]
	}
	return err
}

// NextCRLNumber takes the next CRL number of an issuer: one more than the last,
// or the time in Unix milliseconds if that is more. It is durable before the
// list is signed, so that numbers only rise, also over a restored backup. It is
// higher than known too: a number that was seen elsewhere than in the store.
func (s *Store) NextCRLNumber(ctx context.Context, issuerID string, now time.Time, known int64) (int64, error) {
	var number int64
	err := s.commit(ctx, &write{
		what: "take CRL number",
		guards: []*stmt{must(`UPDATE issuers SET last_crl_number =
			CASE WHEN last_crl_number < $1 THEN $1 ELSE last_crl_number + 1 END
			WHERE id = $2 RETURNING last_crl_number`, max(now.UnixMilli(), known+1), issuerID).returning(&number)},
		lost: func(int) error { return fault.New(fault.NotFound, "no such issuer") },
	})
	return number, err
}
