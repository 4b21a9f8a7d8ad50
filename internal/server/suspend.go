package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// parentsEvery is how soon a node notices that a CA above an issuer has published
// another list.
const parentsEvery = 2 * time.Second

// suspension follows the lists of the CAs above our issuers. An issuer whose
// certificate, or that of a CA between it and the root, is on one of them signs
// no more certificates (G2-06): nobody would accept them.
type suspension struct {
	lists map[string]parentList // by the id of the CA that signed it; checkParents alone uses it
	why   map[string]string     // the issuers that are suspended now
}

// parentList is what a list said when it was read.
type parentList struct {
	number  int64
	revoked map[pki.Serial]pki.Reason
}

// checkParents reads the lists that are new and suspends accordingly.
func (h *house) checkParents(ctx context.Context) error {
	h.suspending.Lock()
	defer h.suspending.Unlock()
	if h.suspended.lists == nil {
		h.suspended.lists = map[string]parentList{}
	}
	s := h.signing.Load()
	why := map[string]string{}
	var failed []error
	for id := range s.rules.Issuers { // those whose key is lost too, and pools, which have no chain
		reason, err := h.revokedAbove(ctx, s, id)
		if err != nil { // what is not known now stays as it was
			failed = append(failed, err)
			reason = h.suspended.why[id]
		}
		if reason != "" {
			why[id] = reason
		}
	}
	if !maps.Equal(why, h.suspended.why) {
		h.tellSuspended(ctx, why)
		h.pipeline.Suspend(why)
		h.suspended.why = why
	}
	return errors.Join(failed...)
}

// revokedAbove says which certificate of an issuer's chain is revoked, and by
// whom; empty if none is.
func (h *house) revokedAbove(ctx context.Context, s *signing, id string) (string, error) {
	chain := s.chain(id)
	for i := 0; i+1 < len(chain); i++ {
		parent := s.idOf(chain[i+1])
		if parent == "" {
			continue
		}
		list, err := h.parentList(ctx, parent)
		if err != nil {
			return "", fmt.Errorf("list of %s: %w", parent, err)
		}
		if reason, ok := list.revoked[pki.SerialFromBig(chain[i].SerialNumber)]; ok {
			return fmt.Sprintf("%s has revoked the certificate of %s for %s (list %d)", parent, s.idOf(chain[i]), reason, list.number), nil
		}
	}
	return "", nil
}

// parentList returns what the newest list of a CA says. A CA without one has
// revoked nothing.
func (h *house) parentList(ctx context.Context, id string) (parentList, error) {
	known, err := h.store.CRLs(ctx, id)
	if err != nil {
		return parentList{}, err
	}
	full := slices.IndexFunc(known, func(r store.CRLRecord) bool { return r.Shard == 0 && !r.Delta })
	if full < 0 {
		return parentList{}, nil
	}
	if have, ok := h.suspended.lists[id]; ok && have.number == known[full].Number {
		return have, nil
	}
	var der bytes.Buffer
	if err := h.store.CopyCRL(ctx, known[full], &der); err != nil {
		return parentList{}, err
	}
	list, err := x509.ParseRevocationList(der.Bytes())
	if err != nil {
		return parentList{}, err
	}
	fresh := parentList{number: known[full].Number, revoked: map[pki.Serial]pki.Reason{}}
	for _, e := range list.RevokedCertificateEntries {
		fresh.revoked[pki.SerialFromBig(e.SerialNumber)] = pki.Reason(e.ReasonCode)
	}
	h.suspended.lists[id] = fresh
	return fresh, nil
}

// idOf returns the id of an installed CA by its certificate.
func (s *signing) idOf(c *x509.Certificate) string {
	for _, a := range s.authorities {
		if a.Chain[0].Equal(c) {
			return a.ID
		}
	}
	return ""
}

// tellSuspended puts what changes into the log and the audit record.
func (h *house) tellSuspended(ctx context.Context, now map[string]string) {
	tell := func(action, id, why string) {
		h.log.WarnContext(ctx, action, "issuer", id, "why", why)
		text, _ := json.Marshal(map[string]string{"why": why}) // strings: cannot fail
		ev := store.Event{At: h.now(), Action: action, Outcome: "success", Actor: "server", Subject: id, Detail: text}
		if err := h.store.AppendAudit(ctx, ev); err != nil {
			h.log.ErrorContext(ctx, "audit event not recorded", "action", action, "error", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if now[id] != h.suspended.why[id] {
			tell("issuer.suspended", id, now[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.suspended.why)) {
		if now[id] == "" {
			tell("issuer.resumed", id, "no list names it any more")
		}
	}
}

// whySuspended returns why an issuer is suspended, empty if it is not.
func (h *house) whySuspended(id string) string {
	h.suspending.Lock()
	defer h.suspending.Unlock()
	return h.suspended.why[id]
}
