package crl

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/privyseal/privyseal/internal/issuer"
)

// The states of a list.
const (
	StateCurrent = "current"
	StateAging   = "aging"   // little of its time is left: look why no newer one came
	StateExpired = "expired" // clients refuse it
	StateMissing = "missing" // there is none
)

// Status describes one list as this node serves it.
type Status struct {
	Issuer                 string
	Shard                  int
	Delta                  bool
	Offline                bool // imported: the key is elsewhere
	Name                   string
	URL                    string
	State                  string
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	Entries, Size          int64
	SHA256                 string // hexadecimal
	Lost                   int    // with the full list: revocations on disk that the database does not have
	Refused                string // why the newest one could not be published or taken over
}

// agingShare and agingMost say when a list is aging: when less than half of its
// time is left, and for those that live long, less than a month.
const (
	agingShare = 2
	agingMost  = 30 * 24 * time.Hour
)

func stateOf(h *held, now time.Time) string {
	left, life := h.nextUpdate.Sub(now), h.nextUpdate.Sub(h.thisUpdate)
	switch {
	case left <= 0:
		return StateExpired
	case left < min(life/agingShare, agingMost):
		return StateAging
	default:
		return StateCurrent
	}
}

// Lists returns the lists of all CAs in force, by issuer and shard. A CA without
// any is in it as missing.
func (p *Publisher) Lists() []Status {
	var all []Status
	for id, a := range *p.authorities.Load() {
		if id == a.ID {
			all = append(all, p.lists(a)...)
		}
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Of returns the lists of one issuer; NotFound if there is no such issuer.
func (p *Publisher) Of(id string) ([]Status, error) {
	a, err := p.authority(id)
	if err != nil {
		return nil, err
	}
	return p.named(a.ID), nil
}

func (p *Publisher) named(id string) []Status {
	return slices.DeleteFunc(p.Lists(), func(s Status) bool { return s.Issuer != id })
}

func (p *Publisher) lists(a *authority) []Status {
	p.mu.Lock()
	shards := p.of(a.ID).shards
	p.mu.Unlock()
	keys := []key{{a.ID, 0, false}}
	if a.Issuer() != nil {
		keys = p.keys(a, shards)
		if a.Config.Delta > 0 || p.local.get(key{a.ID, 0, true}) != nil {
			keys = append(keys, key{a.ID, 0, true})
		}
	}
	all := make([]Status, 0, len(keys))
	for _, k := range keys {
		all = append(all, p.status(a, k))
	}
	return all
}

func (p *Publisher) status(a *authority, k key) Status {
	at := issuer.Locations{CRL: a.Locations.CRL}
	s := Status{
		Issuer: a.ID, Shard: k.shard, Delta: k.delta, Offline: a.imported(),
		Name: k.String(), URL: at.List(k.shard), State: StateMissing,
	}
	if k.delta {
		s.URL = at.Delta()
	}
	p.mu.Lock()
	s.Refused = p.of(a.ID).refused[k]
	if k.shard == 0 && !k.delta {
		s.Lost = len(p.of(a.ID).lost)
	}
	p.mu.Unlock()
	if h := p.local.get(k); h != nil {
		s.State, s.Number, s.ThisUpdate, s.NextUpdate = stateOf(h, p.Now()), h.number, h.thisUpdate, h.nextUpdate
		s.Entries, s.Size, s.SHA256 = h.entries, h.size, hex.EncodeToString(h.sha256[:])
	}
	return s
}

// alarm logs a list that needs a person, once for each turn for the worse.
func (p *Publisher) alarm(ctx context.Context, a *authority) {
	for _, s := range p.lists(a) {
		k := key{s.Issuer, s.Shard, s.Delta}
		says := ""
		switch {
		case s.State == StateMissing && !s.Offline:
			continue // it is being made
		case s.State == StateMissing:
			says = "no list of this CA was imported: privyseal crl import"
		case s.State == StateExpired:
			says = "the list has expired: clients refuse what it covers"
		case s.State == StateAging && s.Offline:
			says = "the list expires soon: sign a new one where the key is, and import it"
		case s.State == StateAging:
			says = "the list expires soon and no newer one came"
		}
		p.mu.Lock()
		was := p.of(a.ID).alarmed[k]
		p.of(a.ID).alarmed[k] = says
		p.mu.Unlock()
		if says != "" && says != was {
			p.Log.WarnContext(ctx, says, "list", s.Name, "number", s.Number, "next_update", s.NextUpdate)
		}
	}
}

// Alarms says in words what needs a person, for a health report.
func (p *Publisher) Alarms() []string {
	var all []string
	for _, s := range p.Lists() {
		switch {
		case s.Refused != "":
			all = append(all, s.Name+": "+s.Refused)
		case s.State == StateAging || s.State == StateExpired:
			all = append(all, s.Name+": "+s.State)
		case s.State == StateMissing && s.Offline:
			all = append(all, s.Name+": never imported")
		}
	}
	return all
}
