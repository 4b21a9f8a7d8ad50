package server

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
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

// installTries bounds how often the issuers are looked at again because another node,
// with the same configuration, was quicker.
const installTries = 4

// install writes what is new of what was prepared to the database, all or nothing: which
// issuers there are and which drain from now on, and what pool and generation each is.
// What can be refused comes first.
func (srv *server) install(ctx context.Context, cfg *config.File, s *inForce) error {
	err := srv.checkLists(ctx, cfg, s)
	for try := 0; err == nil && try < installTries; try++ {
		var rows []store.IssuerRecord
		if rows, err = srv.store.Issuers(ctx); err != nil {
			return err
		}
		var c changes
		if c, err = s.changes(cfg, rows, srv.now()); err != nil || len(c.install)+len(c.change) == 0 {
			return err
		}
		err = srv.store.ChangeIssuers(ctx, c.install, c.change, c.events...)
		if err == nil {
			for _, ev := range c.events {
				log := srv.log.With("issuer", ev.Subject)
				if ev.Detail != nil {
					log = log.With("why", string(ev.Detail))
				}
				log.InfoContext(ctx, strings.Replace(ev.Action, ".", " ", 1))
			}
			return nil
		}
		if fault.Of(err).Reason == "issuer_changed" {
			err = nil
		}
	}
	return err
}

// changes are what a configuration changes of the issuers on record.
type changes struct {
	install []store.Installation
	change  []store.IssuerChange
	events  []store.Event // one for each that is installed or goes to its next stage
}

func (s *inForce) changes(cfg *config.File, rows []store.IssuerRecord, now time.Time) (c changes, err error) {
	for _, r := range s.cas().Records() {
		at := slices.IndexFunc(rows, func(row store.IssuerRecord) bool { return row.ID == r.ID })
		fresh := slices.ContainsFunc(s.cas().Fresh(), func(f store.IssuerRecord) bool { return f.ID == r.ID })
		switch {
		case at >= 0 && fresh && !bytes.Equal(rows[at].Certificate, r.Certificate):
			return c, fault.New(fault.Conflict, "issuer %s was installed with another certificate in the meantime",
				r.ID).
				Because("issuer_changed")
		case at >= 0:
			r = rows[at]
		case fresh:
			c.install = append(c.install, store.Installation{IssuerRecord: r})
			c.events = append(c.events, issuerEvent(now, "installed", r.ID, nil))
		default:
			continue // removed in the meantime
		}
		one := s.cas().Get(r.ID)
		if one == nil || !one.Configured || one.Offline || one.ID != r.ID {
			continue
		}
		change := store.IssuerChange{
			ID: r.ID, Name: one.Service(), Generation: one.Generation, Shards: one.Locations.Shards, From: r.State,
			To: r.State,
		}
		if r.State == string(ca.Active) && slices.Contains(s.cas().Replaced(), r.ID) {
			change.To = string(ca.Draining)
			successor := map[string]string{"successor": cfg.Successor(r.ID)}
			c.change = append(c.change, change)
			c.events = append(c.events, issuerEvent(now, change.To, r.ID, successor))
		} else if r.Name != change.Name || r.Generation != change.Generation || r.CRLShards < change.Shards {
			c.change = append(c.change, change)
		}
	}
	return c, nil
}

func issuerEvent(now time.Time, what, id string, why map[string]string) store.Event {
	ev := store.Event{At: now, Action: "issuer." + what, Outcome: "success", Actor: "server", Subject: id}
	if why != nil {
		ev.Detail, _ = json.Marshal(why) // strings: cannot fail
	}
	return ev
}

// move takes an issuer to its next stage. Another node may have been quicker.
func (srv *server) move(ctx context.Context, r store.IssuerRecord, to ca.Stage, why map[string]string) error {
	err := srv.store.MoveIssuer(ctx, r.ID, r.State, string(to), issuerEvent(srv.now(), string(to), r.ID, why))
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	if err == nil {
		srv.log.InfoContext(ctx, "issuer "+string(to), "issuer", r.ID, "why", why)
	}
	return err
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
