package ca

import (
	"crypto/x509"
	"time"

	"github.com/privyseal/privyseal/internal/calaw"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// NameOf is the id that a configuration gives to a CA above an issuer, or else the
// one that is derived from its certificate.
func NameOf(declared []Declaration, c *x509.Certificate) string {
	for _, d := range declared {
		if d.Offline && len(d.Initial) > 0 && d.Initial[0].Equal(c) {
			return d.ID
		}
	}
	return "ca-" + pki.Fingerprint(c.Raw)[:16]
}

// OfflineRow is the state in the row of a CA whose key is elsewhere.
const OfflineRow = "offline"

// NewRecord returns the row of a CA that is new.
func NewRecord(id, parent, state string, c *x509.Certificate, now time.Time) store.IssuerRecord {
	return store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: state, ParentID: parent, Certificate: c.Raw,
		Subject: c.Subject.String(), NotAfter: c.NotAfter, CreatedAt: now,
	}
}

// Judge is the one function that decides whether a CA can be taken in, at start and
// at each reload as when it is installed or adopted: by what verifiers do with it
// (calaw.Foreign). One whose key is here and that could publish no lists is not:
// nothing that it signs could be revoked. The chain is this CA first, root last; the
// error is Denied, with the reason of the finding.
func Judge(chain []*x509.Certificate, here bool, now time.Time) (v calaw.Verdict, refused error) {
	v = calaw.Foreign(chain, now)
	if refused = v.Err(); refused == nil && here {
		refused = v.MayList()
	}
	return v, refused
}
