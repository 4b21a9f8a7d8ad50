package ceremony

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
)

// follows refuses a list that would be older than one before it, miss one of its
// entries or have it for a milder reason. Entries that stand in the index with a
// later date keep that of the list before: they were lost, and entered again.
func follows(what string, before *x509.RevocationList, entries []issuer.Revoked, now time.Time) error {
	if before == nil {
		return nil
	}
	if now.Before(before.ThisUpdate) {
		return refuse("clock", "%s is from %s, later than this machine's clock says",
			what, before.ThisUpdate.Format(time.RFC3339))
	}
	listed := make(map[pki.Serial]*issuer.Revoked, len(entries))
	for n := range entries {
		listed[entries[n].Serial] = &entries[n]
	}
	for _, entry := range before.RevokedCertificateEntries {
		was, err := revokedOf(entry)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		is := listed[was.Serial]
		if is == nil {
			return refuse("index", "serial %s is on %s for %s since %s but not revoked in %s: "+
				"was that put back? revoke it again before this act",
				was.Serial, what, was.Reason, was.At.UTC().Format(time.RFC3339), indexFile)
		}
		keepDates(is, was)
		if how := is.Milder(was); how != "" {
			return refuse("index", "serial %s is milder in %s than on %s: %s", was.Serial, indexFile, what, how)
		}
	}
	return nil
}

// keepDates gives an entry the dates of the list before where they are earlier.
func keepDates(is *issuer.Revoked, was issuer.Revoked) {
	if was.Reason == pki.CertificateHold {
		return // what follows a hold has a date of its own
	}
	if was.At.Before(is.At) {
		is.At = was.At
	}
	if was.InvalidityAt != nil && (is.InvalidityAt == nil || was.InvalidityAt.Before(*is.InvalidityAt)) {
		is.InvalidityAt = was.InvalidityAt
	}
}

var oidInvalidityDate = asn1.ObjectIdentifier{2, 5, 29, 24}

// revokedOf reads an entry of a list.
func revokedOf(e x509.RevocationListEntry) (issuer.Revoked, error) {
	r := issuer.Revoked{Serial: pki.SerialFromBig(e.SerialNumber), At: e.RevocationTime,
		Reason: pki.Reason(e.ReasonCode)}
	for _, ext := range e.Extensions {
		if !ext.Id.Equal(oidInvalidityDate) {
			continue
		}
		var at time.Time
		if rest, err := asn1.UnmarshalWithParams(ext.Value, &at, "generalized"); err != nil || len(rest) > 0 {
			return r, fmt.Errorf("serial %s: malformed invalidityDate", r.Serial)
		}
		r.InvalidityAt = &at
	}
	return r, nil
}
