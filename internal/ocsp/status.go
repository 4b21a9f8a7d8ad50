package ocsp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// reading is what the records said at one moment.
type reading struct {
	sequence  int64     // the authority's, as of that moment
	witness   int64     // the version of the store's witness, before that
	at        time.Time // before the records were read: thisUpdate
	end       time.Time // no answer from it may last longer; zero sets no end
	standings []standing
}

// standing is what is to be said of one certificate.
type standing struct {
	serial    pki.Serial
	status    CertStatus
	reason    pki.Reason
	revokedAt time.Time
	notAfter  time.Time // zero if it is not known
}

// unknown reports whether the reading holds a serial that is not on record.
func (r reading) unknown() bool {
	for _, s := range r.standings {
		if s.status == Unknown {
			return true
		}
	}
	return false
}

// same reports whether two readings say the same.
func (r reading) same(o reading) bool {
	if len(r.standings) != len(o.standings) {
		return false
	}
	for i, s := range r.standings {
		t := o.standings[i]
		if s.serial != t.serial || s.status != t.status || s.reason != t.reason || !s.revokedAt.Equal(t.revokedAt) {
			return false
		}
	}
	return true
}

// lookUp reads the records about the certificates of a request.
func (s *Server) lookUp(ctx context.Context, a *authority, serials []pki.Serial) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	r := reading{at: s.Now(), witness: s.Store.WitnessVersion()}
	if a.Offline {
		return r, s.lookUpList(ctx, a, serials, &r)
	}
	found, sequence, err := s.Store.Standings(ctx, a.ID, serials)
	if err != nil {
		return r, err
	}
	r.sequence = sequence
	for _, serial := range serials {
		r.standings = append(r.standings, stand(serial, found[serial]))
	}
	return r, nil
}

// stand judges one record: good is what was issued and not revoked, and nothing
// else (rule O8).
func stand(serial pki.Serial, st store.Standing) standing {
	out := standing{serial: serial, status: Unknown, notAfter: st.NotAfter}
	switch {
	case st.Status != "issued" && st.Status != "imported" && st.Status != "void":
	case st.Revocation != nil:
		out.status, out.reason, out.revokedAt = Revoked, st.Revocation.Reason, st.Revocation.RevokedAt
	case st.Status != "void":
		out.status = Good
	}
	return out
}

var errNoList = errors.New("there is no list of this CA that is valid now")

// lookUpList reads the newest list of a CA whose key is elsewhere. What it does
// not list is good if it is a CA that we know to be certified by this one. The
// list's dates bound the answer's: nothing newer is known.
func (s *Server) lookUpList(ctx context.Context, a *authority, serials []pki.Serial, r *reading) error {
	known := a.facts.Load()
	record, der, err := s.latest(ctx, known.ids)
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fmt.Errorf("read the list of %s: %w", a.ID, err)
	}
	if !list.NextUpdate.After(r.at) || list.ThisUpdate.After(r.at) {
		return errNoList
	}
	r.sequence, r.at, r.end = record.Number, list.ThisUpdate, list.NextUpdate
	listed := map[pki.Serial]x509.RevocationListEntry{}
	for _, e := range list.RevokedCertificateEntries {
		listed[pki.SerialFromBig(e.SerialNumber)] = e
	}
	for _, serial := range serials {
		notAfter, issued := known.below[serial]
		st := standing{serial: serial, status: Unknown, notAfter: notAfter}
		if e, revoked := listed[serial]; revoked {
			st.status, st.reason, st.revokedAt = Revoked, pki.Reason(e.ReasonCode), e.RevocationTime
		} else if issued {
			st.status = Good
		}
		if w, ok := s.Store.Witnessed(a.ID, serial); ok && st.status != Revoked {
			st.status, st.reason, st.revokedAt = Revoked, w.Reason, w.RevokedAt // by a newer list, on disk
		}
		r.standings = append(r.standings, st)
	}
	return nil
}

// latest reads the newest list of a CA, whichever of its certificates it is filed
// under.
func (s *Server) latest(ctx context.Context, ids []string) (newest *store.CRLRecord, der []byte, err error) {
	for _, id := range ids {
		record, content, err := s.Store.LatestCRL(ctx, id, 0)
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return nil, nil, err
		case newest == nil || record.Number > newest.Number:
			newest, der = record, content
		}
	}
	if newest == nil {
		return nil, nil, errNoList
	}
	return newest, der, nil
}
