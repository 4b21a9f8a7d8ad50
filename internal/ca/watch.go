package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Watch reads the revocation lists of the CAs that have others below them. Its
// methods may be called concurrently.
type Watch struct {
	Store *store.Store

	mu    sync.Mutex
	lists map[string]list // by id
}

// list is what a list said when it was read.
type list struct {
	number  int64
	revoked map[pki.Serial]x509.RevocationListEntry
}

// Look returns which CAs of a set relying parties no longer trust, by id, as the
// newest lists say. What cannot be read now stays as it is in the set; the error
// says so.
func (w *Watch) Look(ctx context.Context, s *Set) (map[string]Trust, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	revoked := map[string]Trust{}
	var failed []error
	for _, c := range s.All() {
		t, err := w.judge(ctx, s, c)
		if err != nil {
			failed = append(failed, err)
			t = c.revoked
		}
		if t.State != "" {
			revoked[c.ID] = t
		}
	}
	return revoked, errors.Join(failed...)
}

// judge looks at every certificate of a CA and of those above it.
func (w *Watch) judge(ctx context.Context, s *Set, c *CA) (Trust, error) {
	seen := 0
	for at := c; at != nil && at.Parent != nil && seen < len(s.All()); at = at.Parent {
		seen++
		for i, cert := range at.Certificates() {
			for _, by := range signers(s, at, cert) {
				t, err := w.listed(ctx, by, at, cert, i == 0)
				if err != nil || t.State != "" {
					return t, err
				}
			}
		}
	}
	return Trust{}, nil
}

// signers returns the CAs above that have signed a certificate of a CA: those of the
// name and key, which another certificate of it need not have in common.
func signers(s *Set, c *CA, cert *x509.Certificate) []*CA {
	return slices.DeleteFunc(s.Named(cert.RawIssuer), func(by *CA) bool {
		return by == c || pki.SignedBy(cert, by.Certificate()) != nil
	})
}

// listed says whether a certificate stands on the lists of the CA that signed it. A
// list holds for the name and key that signed it, whichever certificate it is filed
// under. That a former certificate was given up for another one says nothing of
// the CA; that its key is compromised does.
func (w *Watch) listed(ctx context.Context, by, c *CA, cert *x509.Certificate, inForce bool) (Trust, error) {
	e, err := w.entry(ctx, by, cert)
	if err != nil || e == nil {
		return Trust{}, err
	}
	mild := []pki.Reason{pki.Superseded, pki.CessationOfOperation, pki.AffiliationChanged}
	if !inForce && slices.Contains(mild, e.reason) {
		return Trust{}, nil
	}
	which := "the certificate of " + c.ID
	if !inForce {
		which = "a former certificate of " + c.ID
	}
	return e.trust(by, which), nil
}

// Listed says whether a certificate of another kind, which what tells, stands on
// the newest list of the CA that signed it.
func (w *Watch) Listed(ctx context.Context, by *CA, cert *x509.Certificate, what string) (Trust, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, err := w.entry(ctx, by, cert)
	if err != nil || e == nil {
		return Trust{}, err
	}
	return e.trust(by, what), nil
}

// entry is what a list says of a certificate.
type entry struct {
	number int64
	at     time.Time
	reason pki.Reason
}

func (e *entry) trust(by *CA, what string) Trust {
	why := fmt.Sprintf("%s has revoked %s for %s (list %d)", by.ID, what, e.reason, e.number)
	return Trust{State: Revoked, Since: e.at, Why: why}
}

// entry looks a certificate up on the lists of a CA; nil if none names it.
func (w *Watch) entry(ctx context.Context, by *CA, cert *x509.Certificate) (*entry, error) {
	for _, id := range by.IDs() {
		l, err := w.newest(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("list of %s: %w", id, err)
		}
		if e, ok := l.revoked[pki.SerialFromBig(cert.SerialNumber)]; ok {
			return &entry{l.number, e.RevocationTime, pki.Reason(e.ReasonCode)}, nil
		}
	}
	if r, ok := w.Store.Witnessed(by.ID, pki.SerialFromBig(cert.SerialNumber)); ok {
		return &entry{0, r.RevokedAt, r.Reason}, nil // by a list on disk that the database has lost
	}
	return nil, nil
}

// newest returns what the newest list of an id says. A CA without one has revoked
// nothing.
func (w *Watch) newest(ctx context.Context, id string) (list, error) {
	known, err := w.Store.CRLs(ctx, id)
	if err != nil {
		return list{}, err
	}
	full := slices.IndexFunc(known, func(r store.CRLRecord) bool { return r.Shard == 0 && !r.Delta })
	if full < 0 {
		return list{}, nil
	}
	if have, ok := w.lists[id]; ok && have.number == known[full].Number {
		return have, nil
	}
	var der bytes.Buffer
	if err := w.Store.CopyCRL(ctx, known[full], &der); err != nil {
		return list{}, err
	}
	read, err := x509.ParseRevocationList(der.Bytes())
	if err != nil {
		return list{}, err
	}
	fresh := list{number: known[full].Number, revoked: map[pki.Serial]x509.RevocationListEntry{}}
	for _, e := range read.RevokedCertificateEntries {
		fresh.revoked[pki.SerialFromBig(e.SerialNumber)] = e
	}
	if w.lists == nil {
		w.lists = map[string]list{}
	}
	w.lists[id] = fresh
	return fresh, nil
}
