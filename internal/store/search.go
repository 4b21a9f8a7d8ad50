package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Search selects certificates. Empty fields select all.
type Search struct {
	Name          string // part of a name or of the subject; "*.x" is every name that ends in .x
	Serial        pki.Serial
	Profile       string
	Issuer        string // id
	Status        string // as in Certificate, but "revoked" is one of its own, apart from "issued" and "imported"
	Requester     string
	Key           []byte // SHA-256 of the SubjectPublicKeyInfo
	ExpiresBefore time.Time
	ExpiresAfter  time.Time
	After         string // cursor of the page before
	Limit         int    // 0 is 100
}

// SearchCertificates returns the newest certificates first, without their TBS,
// and the cursor of the next page, which is empty on the last.
func (s *Store) SearchCertificates(ctx context.Context, q Search) (found []Certificate, next string, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	where, args := q.page()
	if found, err = s.certificates(ctx, where, s.planned(args)...); err != nil {
		return nil, "", err
	}
	if len(found) > q.Limit {
		found = found[:q.Limit]
		next = found[q.Limit-1].ID
	}
	return found, next, nil
}

// page returns the clause that selects one page and one certificate more, and its
// arguments. The limit is no argument: a plan that does not know it takes it for a
// tenth of the table, and joins every revocation before the first row.
func (q Search) page() (string, []any) {
	t := q.terms()
	return t.where() + `ORDER BY c.id DESC LIMIT ` + strconv.Itoa(q.Limit+1), t.args
}

// terms are conditions that all hold, and their arguments.
type terms struct {
	sql  []string
	args []any
}

// add takes a condition whose %s are the places of its values.
func (t *terms) add(format string, values ...any) {
	places := make([]any, len(values))
	for i, v := range values {
		t.args = append(t.args, v)
		places[i] = placeholder(len(t.args))
	}
	t.sql = append(t.sql, fmt.Sprintf(format, places...))
}

// equal wants a column to be a value, if that is not empty.
func (t *terms) equal(column, value string) {
	if value != "" {
		t.add(column+` = %s`, value)
	}
}

// where returns the WHERE clause, which ends in a blank.
func (t *terms) where() string {
	if len(t.sql) == 0 {
		return ""
	}
	return "WHERE " + strings.Join(t.sql, " AND ") + " "
}

func (q Search) terms() *terms {
	t := &terms{}
	q.name(t)
	t.equal("c.serial", string(q.Serial))
	t.equal("c.profile", q.Profile)
	t.equal("c.issuer_id", q.Issuer)
	t.equal("c.requester", q.Requester)
	if q.Key != nil {
		t.add(`c.key_hash = %s`, q.Key)
	}
	switch q.Status {
	case "":
	case "revoked":
		t.add(`r.certificate_id IS NOT NULL AND c.status IN ('issued', 'imported')`)
	case "issued": // a person who asks for these does not mean revoked ones
		t.add(`r.certificate_id IS NULL AND c.status = %s`, q.Status)
	case "imported":
		t.add(`r.certificate_id IS NULL AND c.status <> 'issued' AND c.status = %s`, q.Status)
	default: // the first term says what the partial index says, whatever the value is
		t.add(`c.status <> 'issued' AND c.status = %s`, q.Status)
	}
	if !q.ExpiresBefore.IsZero() {
		t.add(`c.not_after < %s`, q.ExpiresBefore)
	}
	if !q.ExpiresAfter.IsZero() {
		t.add(`c.not_after > %s`, q.ExpiresAfter)
	}
	if q.After != "" {
		t.add(`c.id < %s`, q.After)
	}
	return t
}

func (q Search) name(t *terms) {
	name := strings.ToLower(q.Name)
	if suffix, ok := strings.CutPrefix(name, "*"); ok {
		// '.' is followed by '/' in ASCII: the range holds what begins with suffix.
		from := reversed(suffix)
		t.add(`c.id IN (SELECT n.certificate_id FROM certificate_names n WHERE n.reversed >= %s AND n.reversed < %s)`,
			from, from+"\U0010ffff")
	} else if name != "" {
		pattern := "%" + escapeLike(name) + "%"
		t.add(`(c.subject_lower LIKE %s ESCAPE '\' OR EXISTS
			(SELECT 1 FROM certificate_names n WHERE n.certificate_id = c.id AND n.value LIKE %s ESCAPE '\'))`,
			pattern, pattern)
	}
}

// escapeLike makes a text match only itself inside a LIKE pattern.
func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}
