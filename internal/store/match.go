package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Match selects certificates for a revocation in bulk: those that are issued or
// imported, have not expired at Now, satisfy every field that is not zero, and
// whose state lets them be revoked for Reason.
type Match struct {
	Reason pki.Reason
	Now    time.Time

	Name        string // one of the names is this one
	NamePattern string // one of the names fits; "*" stands for any characters
	Issuer      string // id or name of the issuer
	Profile     string
	Protocol    string
	Endpoint    string
	Requester   string
	Key         []byte // SHA-256 of the SubjectPublicKeyInfo

	NotAfterFrom, NotAfterBefore time.Time // notAfter is in [from, before)
	IssuedFrom, IssuedBefore     time.Time // issued in [from, before)
}

// Revocable is what a revocation in bulk has to know of a certificate.
type Revocable struct {
	ID, IssuerID string
	Serial       pki.Serial
}

// sparse is up to how many names a pattern may fit for the database to be told
// to begin with the names. A walk over all certificates in the order of their
// ids costs the same for every page; beginning with the names costs as much as
// there are names that fit, for every page again.
const sparse = 4096

// CountMatches counts what a match selects.
func (s *Store) CountMatches(ctx context.Context, m Match) (int64, error) {
	where, args := m.where("", true)
	n := int64(0)
	err := s.queryRow(ctx, "count certificates", `SELECT COUNT(*) FROM certificates c
		LEFT JOIN revocations r ON r.certificate_id = c.id `+where, args, &n)
	return n, err
}

// FirstMatches returns up to limit of what a match selects, by id.
func (s *Store) FirstMatches(ctx context.Context, m Match, limit int) ([]Certificate, error) {
	found, err := s.Matches(ctx, m, "", limit)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	in, args := list(nil, idsOf(found))
	return s.certificates(ctx, `WHERE c.id IN `+in+` ORDER BY c.id`, args...)
}

// Matches returns up to limit of what a match selects with ids after the given
// one, by id.
func (s *Store) Matches(ctx context.Context, m Match, after string, limit int) ([]Revocable, error) {
	few, err := s.fewNames(ctx, m)
	if err != nil {
		return nil, err
	}
	where, args := m.where(after, few)
	var found []Revocable
	err = s.query(ctx, "select certificates", `SELECT c.id, c.issuer_id, c.serial FROM certificates c
		LEFT JOIN revocations r ON r.certificate_id = c.id `+where+fmt.Sprintf(` ORDER BY c.id LIMIT $%d`, len(args)+1),
		append(args, limit), func(scan scanFunc) error {
			var c Revocable
			var serial string
			err := scan(&c.ID, &c.IssuerID, &serial)
			c.Serial = pki.Serial(serial)
			found = append(found, c)
			return err
		})
	return found, err
}

// fewNames reports whether the index of names leads to few certificates.
func (s *Store) fewNames(ctx context.Context, m Match) (bool, error) {
	term, args := m.names()
	if term == "" || !m.indexed() {
		return false, nil
	}
	n := 0
	err := s.query(ctx, "probe names", `SELECT COUNT(*) FROM (SELECT 1 FROM certificate_names n WHERE `+term+
		fmt.Sprintf(` LIMIT $%d) probe`, len(args)+1), append(args, sparse+1), func(scan scanFunc) error { return scan(&n) })
	return n <= sparse, err
}

// indexed reports whether the index of reversed names serves the match.
func (m Match) indexed() bool {
	suffix, ok := strings.CutPrefix(m.NamePattern, "*")
	return m.Name != "" || (ok && suffix != "" && !strings.Contains(suffix, "*"))
}

// names returns the condition on a row n of certificate_names.
func (m Match) names() (string, []any) {
	switch pattern := strings.ToLower(m.NamePattern); {
	case m.Name != "":
		return `n.reversed = $1`, []any{reversed(strings.ToLower(m.Name))}
	case pattern == "":
		return "", nil
	case m.indexed():
		from := reversed(pattern[1:])
		return `n.reversed >= $1 AND n.reversed < $2`, []any{from, from + "\U0010ffff"}
	default:
		return `n.value LIKE $1 ESCAPE '\'`, []any{strings.ReplaceAll(escapeLike(pattern), "*", "%")}
	}
}

func (m Match) where(after string, few bool) (string, []any) {
	// The condition on names comes first: it brings its own placeholders.
	term, args := m.names()
	var terms []string
	switch {
	case term == "":
	case few:
		terms = append(terms, `c.id IN (SELECT n.certificate_id FROM certificate_names n WHERE `+term+`)`)
	default:
		terms = append(terms, `EXISTS (SELECT 1 FROM certificate_names n WHERE n.certificate_id = c.id AND `+term+`)`)
	}
	add := func(condition string, value any) {
		args = append(args, value)
		terms = append(terms, strings.ReplaceAll(condition, "?", placeholder(len(args))))
	}
	add(`c.status IN ('issued', 'imported') AND c.not_after > ?`, m.Now)
	add(`(r.certificate_id IS NULL OR r.released_at IS NOT NULL OR (r.reason = 6 AND CAST(? AS bigint) <> 6) OR (r.reason <> 1 AND CAST(? AS bigint) = 1))`, m.Reason)
	for _, eq := range []struct{ condition, value string }{
		{`(c.issuer_id = ? OR c.issuer_id IN (SELECT i.id FROM issuers i WHERE i.name = ?))`, m.Issuer},
		{`c.profile = ?`, m.Profile}, {`c.protocol = ?`, m.Protocol}, {`c.endpoint = ?`, m.Endpoint}, {`c.requester = ?`, m.Requester},
		{`c.id > ?`, after},
	} {
		if eq.value != "" {
			add(eq.condition, eq.value)
		}
	}
	if m.Key != nil {
		add(`c.key_hash = ?`, m.Key)
	}
	for _, bound := range []struct {
		condition string
		at        time.Time
	}{
		{`c.not_after >= ?`, m.NotAfterFrom}, {`c.not_after < ?`, m.NotAfterBefore},
		{`c.issued_at >= ?`, m.IssuedFrom}, {`c.issued_at < ?`, m.IssuedBefore},
	} {
		if !bound.at.IsZero() {
			add(bound.condition, bound.at)
		}
	}
	return "WHERE " + strings.Join(terms, " AND "), args
}
