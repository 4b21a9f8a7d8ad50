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

// A selection is walked in the order of ids. Where an index leads to few
// certificates, the walk is one query that begins there. Otherwise each query
// looks at the next stride of certificates, whether they match or not: the walk
// costs one pass over the table, and no query takes long. (Left to itself,
// PostgreSQL joins everything that matches anew for each page.)
const (
	fewMatches = 4096
	stride     = 16384
)

// span is a part of a walk: ids in (after, to], or all after if to is empty.
type span struct{ after, to string }

// afterAll comes after every id.
const afterAll = "~"

// CountMatches counts what a match selects.
func (s *Store) CountMatches(ctx context.Context, m Match) (int64, error) {
	total := int64(0)
	for after := ""; ; {
		sp, next, err := s.nextSpan(ctx, m, after)
		if err != nil {
			return 0, err
		}
		where, args := m.where(sp)
		n := int64(0)
		if err := s.queryRow(ctx, "count certificates", `SELECT COUNT(*) FROM certificates c
			LEFT JOIN revocations r ON r.certificate_id = c.id `+where, args, &n); err != nil {
			return 0, err
		}
		if total += n; next == "" {
			return total, nil
		}
		after = next
	}
}

// FirstMatches returns up to limit of what a match selects, by id.
func (s *Store) FirstMatches(ctx context.Context, m Match, limit int) ([]Certificate, error) {
	var ids []string
	for after := ""; len(ids) < limit; {
		found, next, err := s.Matches(ctx, m, after, limit-len(ids))
		if err != nil {
			return nil, err
		}
		if ids = append(ids, idsOf(found)...); next == "" {
			break
		}
		after = next
	}
	if len(ids) == 0 {
		return nil, nil
	}
	in, args := list(nil, ids)
	return s.certificates(ctx, `WHERE c.id IN `+in+` ORDER BY c.id`, args...)
}

// Matches returns up to limit of what a match selects after a cursor, by id, and
// the cursor of what follows, which is empty at the end. A page may be empty
// before that.
func (s *Store) Matches(
	ctx context.Context, m Match, after string, limit int,
) (found []Revocable, next string, err error) {
	sp, next, err := s.nextSpan(ctx, m, after)
	if err != nil {
		return nil, "", err
	}
	where, args := m.where(sp)
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
	if len(found) == limit {
		next = found[limit-1].ID
	}
	return found, next, err
}

// nextSpan returns the part of the walk that follows a cursor, and the cursor of
// what follows that.
func (s *Store) nextSpan(ctx context.Context, m Match, after string) (sp span, next string, err error) {
	few, err := s.few(ctx, m)
	if err != nil || few {
		return span{after: after}, "", err
	}
	err = s.query(ctx, "select certificates", `SELECT id FROM certificates WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2`,
		[]any{after, stride - 1}, func(scan scanFunc) error { return scan(&next) })
	if next == "" {
		return span{after, afterAll}, "", err
	}
	return span{after, next}, next, err
}

// few reports whether an index leads to few certificates.
func (s *Store) few(ctx context.Context, m Match) (bool, error) {
	var from string
	var args []any
	switch term, names := m.names(); {
	case m.Key != nil:
		from, args = `certificates c WHERE c.key_hash = $1`, []any{m.Key}
	case m.indexed():
		from, args = `certificate_names n WHERE `+term, names
	default:
		return false, nil
	}
	n := 0
	err := s.queryRow(ctx, "probe certificates", `SELECT COUNT(*) FROM (SELECT 1
		FROM `+from+fmt.Sprintf(` LIMIT $%d) probe`, len(args)+1),
		append(args, fewMatches+1), &n)
	return n <= fewMatches, err
}

// indexed reports whether the index of reversed names serves the match.
func (m Match) indexed() bool {
	suffix, ok := strings.CutPrefix(m.NamePattern, "*")
	return m.Name != "" || (ok && suffix != "" && !strings.Contains(suffix, "*"))
}

// names returns the condition on a row n of certificate_names.
func (m Match) names() (string, []any) {
	var terms []string
	var args []any
	if m.Name != "" {
		args = append(args, reversed(strings.ToLower(m.Name)))
		terms = append(terms, `n.reversed = $1`)
	}
	switch pattern := strings.ToLower(m.NamePattern); {
	case pattern == "":
	case m.indexed() && m.Name == "":
		from := reversed(pattern[1:])
		return `n.reversed >= $1 AND n.reversed < $2`, []any{from, from + "\U0010ffff"}
	default:
		args = append(args, strings.ReplaceAll(escapeLike(pattern), "*", "%"))
		terms = append(terms, `n.value LIKE `+placeholder(len(args))+` ESCAPE '\'`)
	}
	return strings.Join(terms, " AND "), args
}

func (m Match) where(sp span) (string, []any) {
	// The condition on names comes first: it brings its own placeholders.
	term, args := m.names()
	var terms []string
	add := func(condition string, value any) {
		args = append(args, value)
		terms = append(terms, strings.ReplaceAll(condition, "?", placeholder(len(args))))
	}
	add(`c.id > ?`, sp.after)
	after := placeholder(len(args))
	switch {
	case sp.to != "":
		add(`c.id <= ?`, sp.to)
		if term != "" { // the names of the span only, so that nothing else is joined
			terms = append(terms, fmt.Sprintf(`EXISTS (SELECT 1 FROM certificate_names n WHERE n.certificate_id = c.id
				AND n.certificate_id > %s AND n.certificate_id <= %s AND %s)`, after, placeholder(len(args)), term))
		}
	case term != "":
		terms = append(terms, `c.id IN (SELECT n.certificate_id FROM certificate_names n WHERE `+term+`)`)
	}
	add(`c.status IN ('issued', 'imported') AND c.not_after > ?`, m.Now)
	add(`(r.certificate_id IS NULL OR r.released_at IS NOT NULL OR (r.reason = 6 AND CAST(? AS bigint) <> 6)
		OR (r.reason <> 1 AND CAST(? AS bigint) = 1))`, m.Reason)
	for _, eq := range []struct{ condition, value string }{
		{`(c.issuer_id = ? OR c.issuer_id IN (SELECT i.id FROM issuers i WHERE i.name = ?))`, m.Issuer},
		{`c.profile = ?`, m.Profile}, {`c.protocol = ?`, m.Protocol}, {`c.endpoint = ?`, m.Endpoint},
		{`c.requester = ?`, m.Requester},
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
