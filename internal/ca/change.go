package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
)

// An issuer is followed by another generation: an issuer with its own id and key
// that succeeds it in its pool. As soon as the successor can sign, the former one
// drains: it signs no new certificates, and goes on with its lists and responses
// until the last of its certificates has expired. Then it is retired and needs its
// key no more. Clients notice nothing: their URLs carry the endpoint.

// Changes are what a set changes of the CAs on record.
type Changes struct {
	Install []store.Installation
	Change  []store.IssuerChange
	Events  []store.Event // one for each that is installed or goes to its next stage
}

// None reports whether everything is on record as it is.
func (c Changes) None() bool { return len(c.Install)+len(c.Change) == 0 }

// Write puts the changes on record, all or nothing. It is a Conflict with the reason
// issuer_changed where another node was quicker.
func (c Changes) Write(ctx context.Context, st *store.Store, log *slog.Logger) error {
	if err := st.ChangeIssuers(ctx, c.Install, c.Change, c.Events...); err != nil {
		return err
	}
	for _, ev := range c.Events {
		log := log.With("issuer", ev.Subject)
		if ev.Detail != nil {
			log = log.With("why", string(ev.Detail))
		}
		log.InfoContext(ctx, strings.Replace(ev.Action, ".", " ", 1))
	}
	return nil
}

// Changes compares a set with the rows: which CAs are new, which drain from now on, and
// what pool and generation each is. successor returns the id of the issuer that the
// configuration lets follow another one.
func (s *Set) Changes(rows []store.IssuerRecord, successor func(id string) string, now time.Time) (Changes, error) {
	var c Changes
	for _, r := range s.records {
		at := slices.IndexFunc(rows, func(row store.IssuerRecord) bool { return row.ID == r.ID })
		fresh := slices.ContainsFunc(s.fresh, func(f store.IssuerRecord) bool { return f.ID == r.ID })
		switch {
		case at >= 0 && fresh && !bytes.Equal(rows[at].Certificate, r.Certificate):
			return c, fault.New(fault.Conflict, "issuer %s was installed with another certificate in the meantime",
				r.ID).
				Because("issuer_changed")
		case at >= 0:
			r = rows[at]
		case fresh:
			c.Install = append(c.Install, store.Installation{IssuerRecord: r})
			c.Events = append(c.Events, event(now, "installed", r.ID, nil))
		default:
			continue // removed in the meantime
		}
		s.change(&c, r, successor, now)
	}
	return c, nil
}

// change adds what changes of one CA, whose row is r.
func (s *Set) change(c *Changes, r store.IssuerRecord, successor func(id string) string, now time.Time) {
	one := s.Get(r.ID)
	if one == nil || !one.Configured || one.Offline || one.ID != r.ID {
		return
	}
	change := store.IssuerChange{
		ID: r.ID, Name: one.Service(), Generation: one.Generation, Shards: one.Locations.Shards, From: r.State,
		To: r.State,
	}
	if r.State == string(Active) && slices.Contains(s.replaced, r.ID) {
		change.To = string(Draining)
		c.Change = append(c.Change, change)
		c.Events = append(c.Events, event(now, change.To, r.ID, map[string]string{"successor": successor(r.ID)}))
	} else if r.Name != change.Name || r.Generation != change.Generation || r.CRLShards < change.Shards {
		c.Change = append(c.Change, change)
	}
}

func event(now time.Time, what, id string, why map[string]string) store.Event {
	ev := store.Event{At: now, Action: "issuer." + what, Outcome: "success", Actor: "server", Subject: id}
	if why != nil {
		ev.Detail, _ = json.Marshal(why) // strings: cannot fail
	}
	return ev
}

// Retire ends the issuers that drain and whose last certificate has expired, those of
// the profile except left out: a responder's certificate keeps no issuer alive. One that
// a node which had not heard of its successor used after all is taken back.
func Retire(ctx context.Context, st *store.Store, except string, now time.Time, log *slog.Logger) error {
	records, err := st.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		from := Stage(r.State)
		if from != Draining && from != Retired {
			continue
		}
		last, err := st.LastNotAfter(ctx, r.ID, except)
		if err != nil {
			return err
		}
		to := Retired
		if last.After(now) {
			to = Draining
		}
		if to == from {
			continue
		}
		why := map[string]string{"last_certificate_ends": last.UTC().Format(time.RFC3339)}
		err = st.MoveIssuer(ctx, r.ID, r.State, string(to), event(now, string(to), r.ID, why))
		if err == nil {
			log.InfoContext(ctx, "issuer "+string(to), "issuer", r.ID, "why", why)
		} else if !fault.Is(err, fault.Conflict) { // another node may have been quicker
			return err
		}
	}
	return nil
}
