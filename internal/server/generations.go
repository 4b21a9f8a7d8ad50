package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/store"
)

// An issuer is followed by another generation: an issuer with its own id and key
// that succeeds it in its pool. As soon as the successor can sign, the former one
// drains: it signs no new certificates, and goes on with its lists and responses
// until the last of its certificates has expired. Then it is retired and needs its
// key no more. Clients notice nothing: their URLs carry the endpoint.

const (
	// followEvery is how soon a node takes over what was installed elsewhere, and
	// how often it looks for a key that it lost.
	followEvery = 2 * time.Second
	// retireEvery is how often issuers that drain are looked at.
	retireEvery = 10 * time.Minute
)

// generations finds out which issuers have a successor that can sign.
func (s *signing) generations(cfg *config.File, now time.Time) {
	for _, a := range s.authorities {
		if a.State == stateDraining || a.State == stateRetired {
			s.rules.Former[a.ID] = true
		}
	}
	for _, is := range cfg.Issuers {
		next := s.issuers[is.ID]
		if is.Succeeds == "" || next == nil || s.state(is.Succeeds) != stateActive {
			continue
		}
		if from := next.Certificate().NotBefore; now.Before(from) {
			if s.next.IsZero() || from.Before(s.next) {
				s.next = from
			}
			continue
		}
		s.rules.Former[is.Succeeds] = true
		s.replaced = append(s.replaced, is.Succeeds)
	}
}

// installGenerations records which issuers drain from now on, and what pool and
// generation each issuer is.
func (h *house) installGenerations(ctx context.Context, cfg *config.File, s *signing) error {
	for i := range s.records {
		r := &s.records[i]
		if !slices.ContainsFunc(cfg.Issuers, func(is config.Issuer) bool { return is.ID == r.ID }) {
			continue
		}
		if name, number := cfg.Generation(r.ID); r.Name != name || r.Generation != number {
			if err := h.store.NameIssuer(ctx, r.ID, name, number); err != nil {
				return fmt.Errorf("install issuer %s: %w", r.ID, err)
			}
			r.Name, r.Generation = name, number
		}
		if slices.Contains(s.replaced, r.ID) {
			if err := h.move(ctx, r, stateDraining, map[string]string{"successor": cfg.Successor(r.ID)}); err != nil {
				return fmt.Errorf("replace issuer %s: %w", r.ID, err)
			}
		}
	}
	return nil
}

// move takes an issuer to its next state. Another node may have been quicker.
func (h *house) move(ctx context.Context, r *store.IssuerRecord, to string, why map[string]string) error {
	detail, err := json.Marshal(why)
	if err != nil {
		return err
	}
	ev := store.Event{At: h.now(), Action: "issuer." + to, Outcome: "success", Actor: "server", Subject: r.ID, Detail: detail}
	if err := h.store.MoveIssuer(ctx, r.ID, r.State, to, ev); err != nil {
		if fault.Is(err, fault.Conflict) {
			return nil
		}
		return err
	}
	h.log.InfoContext(ctx, "issuer "+to, "issuer", r.ID, "why", why)
	r.State = to
	return nil
}

// retire ends the issuers that drain and whose last certificate has expired. One
// that a node which had not heard of its successor used after all is taken back.
func (h *house) retire(ctx context.Context) error {
	records, err := h.store.Issuers(ctx)
	if err != nil {
		return err
	}
	for i := range records {
		from := records[i].State
		if from != stateDraining && from != stateRetired {
			continue
		}
		last, err := h.store.LastNotAfter(ctx, records[i].ID, ocsp.DelegateProfile)
		if err != nil {
			return err
		}
		to := stateRetired
		if last.After(h.now()) {
			to = stateDraining
		}
		if to == from {
			continue
		}
		if err := h.move(ctx, &records[i], to, map[string]string{"last_certificate_ends": last.UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
	}
	return nil
}

// mark stands for what the database says of the issuers, as far as it matters to
// what may be signed.
func mark(records []store.IssuerRecord) [32]byte {
	h := sha256.New()
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b store.IssuerRecord) int { return strings.Compare(a.ID, b.ID) })
	for _, r := range records {
		h.Write(fmt.Appendf(nil, "%q %q %q %x\n", r.ID, r.State, r.ParentID, sha256.Sum256(r.Certificate)))
	}
	return [32]byte(h.Sum(nil))
}

// follow puts in force what has changed in the database since it was looked at:
// certificates that were installed, generations that another node moved, keys that
// were lost and are back. A PIN that a token refuses is not tried every two seconds:
// tokens lock after a few.
func (h *house) follow(ctx context.Context) error {
	if !h.changing.TryLock() {
		return nil // whoever holds it looks too
	}
	defer h.changing.Unlock()
	s := h.signing.Load()
	records, err := h.store.Issuers(ctx)
	if err != nil {
		return err
	}
	now := mark(records)
	if h.refused != nil && *h.refused == now {
		return nil // a person has to look first, and then reloads
	}
	changed := now != mark(s.records)
	due := !s.next.IsZero() && !h.now().Before(s.next)
	if !changed && !due && len(s.lost) == 0 {
		return nil
	}
	fresh, err := h.prepare(ctx, h.cfg.Load())
	if keys.PINRefused(err) {
		h.refused = &now
		return fmt.Errorf("issuers have changed, and are not followed until the PIN is right and `privyseal config reload` was run: %w", err)
	}
	if err != nil {
		return fmt.Errorf("issuers have changed: %w", err)
	}
	if !changed && !due && len(fresh.lost) == len(s.lost) {
		fresh.closeAllBut(s)
		return nil
	}
	return h.take(ctx, fresh)
}

// take installs what was prepared of the configuration in force, and enforces it.
func (h *house) take(ctx context.Context, s *signing) error {
	if err := h.install(ctx, h.cfg.Load(), s); err != nil {
		s.closeAllBut(h.signing.Load())
		return err
	}
	return h.putInForce(ctx, h.cfg.Load(), s)
}

// putInForce enforces what was prepared and installed. What it starts and cannot
// finish is tried again later.
func (h *house) putInForce(ctx context.Context, cfg *config.File, s *signing) error {
	h.enforce(s)
	h.importLists(ctx, cfg)
	h.logged("lists of the CAs above", h.checkParents(ctx)) // before anything is signed
	h.logged("responder certificates", h.ensureDelegates(ctx))
	h.logged("RA certificates", h.renewRA(ctx))
	return h.startTLS(ctx, cfg)
}
