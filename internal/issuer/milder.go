package issuer

import (
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
)

// Milder says in what e, an entry of a new list, is milder than was, the entry for
// the same certificate in the list before: in words, or empty if it is not. Milder
// is what makes somebody trust more than the last list let them:
//
//   - what was final is on hold, and so may be released;
//   - a compromise is none any more: what the key had signed before counts again;
//   - it is invalid since later than it was. A later revocation date alone is not
//     that: who enters a revocation again should not date it before a list that is
//     published, and has the invalidity date for what went before (section 5.3.2).
//
// Of a certificate on hold everything may be said next, for the hold may have been
// released in between (RFC 5280, section 5.3.1).
func (e Revoked) Milder(was Revoked) string {
	switch {
	case weight(was.Reason) <= weight(pki.CertificateHold):
		return ""
	case weight(e.Reason) < weight(was.Reason):
		return fmt.Sprintf("%s became %s", was.Reason, e.Reason)
	case e.since().After(was.since()):
		return fmt.Sprintf("since %s became since %s", moment(was.since()), moment(e.since()))
	}
	return ""
}

// weight orders reasons by what they say of a certificate.
func weight(r pki.Reason) int {
	switch r {
	case pki.RemoveFromCRL:
		return 0
	case pki.CertificateHold:
		return 1
	case pki.KeyCompromise, pki.CACompromise, pki.AACompromise:
		return 3
	default:
		return 2
	}
}

// since is the earlier of revocation and invalidity date.
func (e Revoked) since() time.Time {
	at := e.At
	if e.InvalidityAt != nil && e.InvalidityAt.Before(at) {
		at = *e.InvalidityAt
	}
	return at.Truncate(time.Second)
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
