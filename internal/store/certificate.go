package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// Certificate is a certificate from the moment its serial is reserved.
type Certificate struct {
	ID, IssuerID         string
	Serial               pki.Serial // unique for the issuer
	Status               string     // "reserved", "issued", "abandoned", "void" or "imported"
	Node                 string     // that reserved it
	Profile              string
	ProfileVersion       string
	Protocol, Endpoint   string
	Requester, RequestID string
	KeyHash              []byte // SHA-256 of the SubjectPublicKeyInfo
	Subject              string // RFC 4514
	Names                []pki.Identifier
	NotBefore, NotAfter  time.Time
	TBS                  []byte // while reserved, abandoned or void; an issued certificate's is in DER
	DER                  []byte // once issued
	Shard                int
	Lineage              string // id of the first certificate of its line; see issuance.Request
	Origin               string // "order:<id>" or "request:<id>"
	ReservedAt           time.Time
	IssuedAt             *time.Time
	Revocation           *Revocation // nil if not revoked

	Claims []Claim // that its reservation took; only written, Abandon reads them
}

var certificates = table[Certificate]{
	name: "certificates", alias: "c",
	columns: []column[Certificate]{
		col("id", func(r *Certificate) *string { return &r.ID }),
		col("issuer_id", func(r *Certificate) *string { return &r.IssuerID }),
		col("serial", func(r *Certificate) *pki.Serial { return &r.Serial }),
		col("status", func(r *Certificate) *string { return &r.Status }),
		col("node", func(r *Certificate) *string { return &r.Node }),
		col("profile", func(r *Certificate) *string { return &r.Profile }),
		col("profile_version", func(r *Certificate) *string { return &r.ProfileVersion }),
		col("protocol", func(r *Certificate) *string { return &r.Protocol }),
		col("endpoint", func(r *Certificate) *string { return &r.Endpoint }),
		col("requester", func(r *Certificate) *string { return &r.Requester }),
		col("request_id", func(r *Certificate) *string { return &r.RequestID }),
		{name: "key_hash", of: func(r *Certificate) any { return notNull(r.KeyHash) },
			to: func(r *Certificate) any { return &r.KeyHash }},
		col("subject", func(r *Certificate) *string { return &r.Subject }),
		listCol("names", func(r *Certificate) *[]pki.Identifier { return &r.Names }),
		col("not_before", func(r *Certificate) *time.Time { return &r.NotBefore }),
		col("not_after", func(r *Certificate) *time.Time { return &r.NotAfter }),
		col("tbs", func(r *Certificate) *[]byte { return &r.TBS }),
		col("der", func(r *Certificate) *[]byte { return &r.DER }),
		col("shard", func(r *Certificate) *int { return &r.Shard }),
		col("lineage", func(r *Certificate) *string { return &r.Lineage }),
		col("origin", func(r *Certificate) *string { return &r.Origin }),
		col("reserved_at", func(r *Certificate) *time.Time { return &r.ReservedAt }),
		col("issued_at", func(r *Certificate) **time.Time { return &r.IssuedAt }),
		written("subject_lower", func(r *Certificate) any { return strings.ToLower(r.Subject) }),
		written("claims", func(r *Certificate) any { return asJSON(r.Claims) }),
		computed("COALESCE(r.reason, -1)", func(r *Certificate) *pki.Reason { return &r.revocation().Reason }),
		computed("r.revoked_at", func(r *Certificate) *time.Time { return &r.revocation().RevokedAt }),
		computed("r.invalidity_at", func(r *Certificate) **time.Time { return &r.revocation().InvalidityAt }),
		computed("COALESCE(r.seq, 0)", func(r *Certificate) *int64 { return &r.revocation().Seq }),
		computed("COALESCE(r.requester, '')", func(r *Certificate) *string { return &r.revocation().Requester }),
	},
	joins: "LEFT JOIN revocations r ON r.certificate_id = c.id AND r.released_at IS NULL ",
	done: func(r *Certificate) {
		if r.Revocation.RevokedAt.IsZero() {
			r.Revocation = nil
		}
	},
}.ready()

// revocation is where the revocation is read to.
func (c *Certificate) revocation() *Revocation {
	if c.Revocation == nil {
		c.Revocation = &Revocation{}
	}
	return c.Revocation
}

// Reserve records a certificate before it is signed: its serial, draft, names,
// origin and the audit intent, and takes its claims. It is fault.Conflict if the
// origin or the serial is taken, fault.Denied if a claim is.
func (s *Store) Reserve(ctx context.Context, c Certificate, claims []Claim, ev Event) error {
	return s.ReserveFor(ctx, c, Reservation{Claims: claims}, ev)
}

// Reservation is what a reservation is made for, decided in the same write.
type Reservation struct {
	// Request is put on record, so that the same request again finds the
	// certificate. If it is on record already, nothing is written and IsKnown holds
	// for the error.
	Request *Request
	Claims  []Claim
	// Holders are the ids of certificates by whose power it is asked; each has to be
	// on record and not revoked.
	Holders []string
	// While is the order that has to stand; if it does not, nothing is written and
	// HasCeased holds for the error.
	While *OrderStands
}

// ReserveFor is Reserve with everything that a reservation may depend on.
func (s *Store) ReserveFor(ctx context.Context, c Certificate, f Reservation, ev Event) error {
	if err := s.holdersStand(ctx, f.Holders); err != nil {
		return err
	}
	w := &write{
		what: "reserve certificate",
		guards: []*stmt{must(`INSERT INTO origins (origin, certificate_id) VALUES ($1, $2) ON CONFLICT (origin)
			DO NOTHING`, c.Origin, c.ID)},
		events: []Event{ev},
	}
	if f.Request != nil {
		w.guards = append(w.guards, f.Request.insert())
	}
	first := len(w.guards) // of the claims
	for _, claim := range f.Claims {
		st, err := claim.use(c.ReservedAt)
		if err != nil {
			return fmt.Errorf("reserve certificate: %w", err)
		}
		w.guards = append(w.guards, st)
	}
	holders := len(w.guards)
	for _, id := range f.Holders {
		w.guards = append(w.guards, holds(id))
	}
	if f.While != nil {
		w.guards = append(w.guards, f.While.guards(s.engine, c.ReservedAt)...)
	}
	w.lost = func(guard int) error {
		switch {
		case guard == 0:
			return fault.New(fault.Conflict, "a certificate is being issued, or was, for the same origin").
				Because("origin_taken")
		case guard < first:
			return known()
		case guard < first+len(f.Claims):
			return f.Claims[guard-first].lost()
		case guard < holders+len(f.Holders):
			return revoked()
		default:
			return ceased()
		}
	}
	c.Status, c.DER, c.IssuedAt, c.Claims = "reserved", nil, nil, f.Claims
	sql, args := certificates.add(&c, "")
	w.effects = append([]*stmt{may(sql, args...)}, insertNames(c)...)
	return s.commit(ctx, w)
}

func insertNames(c Certificate) []*stmt {
	rows := make([][]any, len(c.Names))
	for i, n := range c.Names {
		value := strings.ToLower(n.Value)
		rows[i] = []any{c.ID, i, n.Type, value, reversed(value)}
	}
	return multi(`INSERT INTO certificate_names (certificate_id, position, type, value, reversed)`, rows)
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Complete turns a reservation into an issued certificate. It is fault.Conflict
// if the certificate is not reserved (any more).
func (s *Store) Complete(ctx context.Context, id string, der []byte, at time.Time, ev Event) error {
	return s.commit(ctx, &write{
		what: "complete certificate",
		guards: []*stmt{must(`UPDATE certificates SET status = 'issued', der = $1, tbs = NULL, issued_at = $2
			WHERE id = $3 AND status = 'reserved'`, der, at, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the certificate is not reserved") },
	})
}

// Abandon ends a reservation that came to nothing. It releases the origin and
// gives the claims back. A void one may have been signed: it is revoked in the
// same transaction. It is fault.Conflict if the certificate is not reserved.
func (s *Store) Abandon(ctx context.Context, id string, void bool, ev Event) error {
	claims, err := s.claims(ctx, id)
	if err != nil {
		return err
	}
	status := "abandoned"
	if void {
		status = "void"
	}
	w := &write{
		what:   "abandon certificate",
		guards: []*stmt{must(`UPDATE certificates SET status = $1 WHERE id = $2 AND status = 'reserved'`, status, id)},
		effects: []*stmt{may(`DELETE FROM origins WHERE origin = (SELECT origin FROM certificates WHERE id = $1)
			AND certificate_id = $1`, id)},
		events: []Event{ev},
		lost:   func(int) error { return fault.New(fault.Conflict, "the certificate is not reserved") },
	}
	for _, claim := range claims {
		st, err := claim.giveBack()
		if err != nil {
			return fmt.Errorf("abandon certificate: %w", err)
		}
		w.effects = append(w.effects, st)
	}
	if void {
		r := Revocation{Reason: pki.CessationOfOperation, RevokedAt: s.cfg.Now(), Requester: ev.Actor}
		w.effects = append(append(w.effects, insertRevocation(id, r)), raiseSequence(id)...)
	}
	return s.commit(ctx, w)
}

// claims reads what a reservation took; that never changes.
func (s *Store) claims(ctx context.Context, id string) ([]Claim, error) {
	var raw []byte
	if err := s.queryRow(ctx, "read claims", `SELECT claims FROM certificates WHERE id = $1`, []any{id},
		&raw); err != nil {
		return nil, err
	}
	var claims []Claim
	if err := fromJSON(raw, &claims); err != nil {
		return nil, fmt.Errorf("read claims of certificate %s: %w", id, err)
	}
	return claims, nil
}

// Reserved returns the reservations of a node, or of all nodes if it is empty,
// that were made before the given time, oldest first.
func (s *Store) Reserved(ctx context.Context, node string, olderThan time.Time) ([]Certificate, error) {
	where := `WHERE c.status = 'reserved' AND c.reserved_at < $1`
	args := []any{olderThan}
	if node != "" {
		where += ` AND c.node = $2`
		args = append(args, node)
	}
	return s.certificates(ctx, where+` ORDER BY c.reserved_at, c.id`, args...)
}

func (s *Store) certificates(ctx context.Context, where string, args ...any) ([]Certificate, error) {
	var found []Certificate
	err := s.query(ctx, "read certificates", certificates.query+where, args, certificates.scan(&found))
	for i := range found {
		c := &found[i]
		c.Revocation = s.stricter(c.IssuerID, c.Serial, c.Revocation)
	}
	return found, err
}

func (s *Store) certificate(ctx context.Context, where string, args ...any) (*Certificate, error) {
	found, err := s.certificates(ctx, where, args...)
	if err != nil {
		return nil, err
	}
	return one(found, "read certificate")
}

// CertificateByID returns a certificate by its id.
func (s *Store) CertificateByID(ctx context.Context, id string) (*Certificate, error) {
	return s.certificate(ctx, `WHERE c.id = $1`, id)
}

// CertificateBySerial returns a certificate by its issuer and serial.
func (s *Store) CertificateBySerial(ctx context.Context, issuerID string, serial pki.Serial) (*Certificate, error) {
	return s.certificate(ctx, `WHERE c.serial = $1 AND c.issuer_id = $2`, serial, issuerID)
}

// CertificatesBySerial returns the certificates of all issuers that have a serial.
func (s *Store) CertificatesBySerial(ctx context.Context, serial pki.Serial) ([]Certificate, error) {
	return s.certificates(ctx, `WHERE c.serial = $1 ORDER BY c.issuer_id`, serial)
}

// CertificateByOrigin returns the certificate that holds an origin: reserved or
// issued.
func (s *Store) CertificateByOrigin(ctx context.Context, origin string) (*Certificate, error) {
	return s.certificate(ctx, `JOIN origins o ON o.certificate_id = c.id WHERE o.origin = $1`, origin)
}
