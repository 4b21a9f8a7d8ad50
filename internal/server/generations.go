package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/store"
)

// An issuer is followed by another generation: an issuer with its own id and key
// that succeeds it in its pool. As soon as the successor can sign, the former one
// drains: it signs no new certificates, and goes on with its lists and responses
// until the last of its certificates has expired. Then it is retired and needs its
// key no more. Clients notice nothing: their URLs carry the endpoint.

// installGenerations records which issuers drain from now on, and what pool and
// generation each issuer is.
func (srv *server) installGenerations(ctx context.Context, cfg *config.File, s *inForce) error {
	for _, r := range s.cas().Records() {
		c := s.cas().Get(r.ID)
		if c == nil || !c.Configured || c.Offline || c.ID != r.ID {
			continue
		}
		if r.Name != c.Service() || r.Generation != c.Generation {
			if err := srv.store.NameIssuer(ctx, r.ID, c.Service(), c.Generation); err != nil {
				return fmt.Errorf("install issuer %s: %w", r.ID, err)
			}
		}
		if slices.Contains(s.cas().Replaced(), r.ID) {
			if err := srv.move(ctx, r, ca.Draining, map[string]string{"successor": cfg.Successor(r.ID)}); err != nil {
				return fmt.Errorf("replace issuer %s: %w", r.ID, err)
			}
		}
	}
	return nil
}

// move takes an issuer to its next stage. Another node may have been quicker.
func (srv *server) move(ctx context.Context, r store.IssuerRecord, to ca.Stage, why map[string]string) error {
	detail, err := json.Marshal(why)
	if err != nil {
		return err
	}
	ev := store.Event{
		At: srv.now(), Action: "issuer." + string(to), Outcome: "success", Actor: "server", Subject: r.ID, Detail: detail,
	}
	if err := srv.store.MoveIssuer(ctx, r.ID, r.State, string(to), ev); err != nil {
		if fault.Is(err, fault.Conflict) {
			return nil
		}
		return err
	}
	srv.log.InfoContext(ctx, "issuer "+string(to), "issuer", r.ID, "why", why)
	return nil
}

// retire ends the issuers that drain and whose last certificate has expired. One
// that a node which had not heard of its successor used after all is taken back.
func (srv *server) retire(ctx context.Context) error {
	records, err := srv.store.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		from := ca.Stage(r.State)
		if from != ca.Draining && from != ca.Retired {
			continue
		}
		last, err := srv.store.LastNotAfter(ctx, r.ID, ocsp.DelegateProfile)
		if err != nil {
			return err
		}
		to := ca.Retired
		if last.After(srv.now()) {
			to = ca.Draining
		}
		if to == from {
			continue
		}
		why := map[string]string{"last_certificate_ends": last.UTC().Format(time.RFC3339)}
		if err := srv.move(ctx, r, to, why); err != nil {
			return err
		}
	}
	return nil
}
