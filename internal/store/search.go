package store

import (
	"context"
	"fmt"
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
	where, args := q.where()
	sql := where + fmt.Sprintf(` ORDER BY c.id DESC LIMIT $%d`, len(args)+1)
	if found, err = s.certificates(ctx, sql, append(args, q.Limit+1)...); err != nil {
		return nil, "", err
	}
	if len(found) > q.Limit {
		found = found[:q.Limit]
		next = found[q.Limit-1].ID
	}
	return found, next, nil
}

func (q Search) where() (string, []any) {
	var args []any
	var terms []string
	term := func(format string, values ...any) {
		places := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			places[i] = placeholder(len(args))
		}
		terms = append(terms, fmt.Sprintf(format, places...))
	}
	name := strings.ToLower(q.Name)
	if suffix, ok := strings.CutPrefix(name, "*"); ok {
		// '.' is followed by '/' in ASCII: the range holds what begins with suffix.
		from := reversed(suffix)
		term(`c.id IN (SELECT n.certificate_id FROM certificate_names n WHERE n.reversed >= %s AND n.reversed < %s)`, from, from+"\U0010ffff")
	} else if name != "" {
		pattern := "%" + escapeLike(name) + "%"
		term(`(c.subject_lower LIKE %s ESCAPE '\' OR EXISTS
			(SELECT 1 FROM certificate_names n WHERE n.certificate_id = c.id AND n.value LIKE %s ESCAPE '\'))`, pattern, pattern)
	}
	for _, eq := range []struct{ column, value string }{
		{"c.serial", string(q.Serial)}, {"c.profile", q.Profile}, {"c.issuer_id", q.Issuer}, {"c.requester", q.Requester},
	} {
		if eq.value != "" {
			term(eq.column+` = %s`, eq.value)
		}
	}
	if q.Key != nil {
		term(`c.key_hash = %s`, q.Key)
	}
	switch q.Status {
	case "":
	case "revoked":
		terms = append(terms, `r.certificate_id IS NOT NULL AND c.status IN ('issued', 'imported')`)
	case "issued", "imported": // a person who asks for these does not mean revoked ones
		term(`r.certificate_id IS NULL AND c.status = %s`, q.Status)
	default:
		term(`c.status = %s`, q.Status)
	}
	if !q.ExpiresBefore.IsZero() {
		term(`c.not_after < %s`, q.ExpiresBefore)
	}
	if !q.ExpiresAfter.IsZero() {
		term(`c.not_after > %s`, q.ExpiresAfter)
	}
	if q.After != "" {
		term(`c.id < %s`, q.After)
	}
	if len(terms) == 0 {
		return "", args
	}
	return "WHERE " + strings.Join(terms, " AND "), args
}

// escapeLike makes a text match only itself inside a LIKE pattern.
func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}
