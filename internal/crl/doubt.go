package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// After the restore of an older database the lists on disk know more than it does.
// What they have and it has not is looked for once, when such a list is found, and
// is told to the store as a witness: from then on every question whether a
// certificate is revoked has the stricter answer. Recover, or a list that the
// database has and the guard takes, settles it.

// lacking are revocations that the database does not have. It is never changed.
type lacking map[pki.Serial]issuer.Revoked

// Compare holds the lists on this node's disk against the database, before anybody
// asks it whether a certificate is revoked.
func (p *Publisher) Compare(ctx context.Context) error {
	var all []error
	for id, a := range *p.authorities.Load() {
		if id != a.ID {
			continue
		}
		newest, err := p.newest(ctx, a)
		if err == nil {
			p.compare(a, newest)
			err = p.settle(ctx, a)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// compare notes of which series the disk has a newer list than the database.
func (p *Publisher) compare(a *authority, newest map[key]store.CRLRecord) {
	behind := map[key]bool{}
	for _, k := range p.local.of(a.ID) {
		have := p.local.get(k)
		if r, ok := newest[k]; !ok || !have.is(r) && older(have, r, p.Now()) != nil {
			behind[k] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(a.ID).behind = behind
}

// contradict notes what a comparison of a list with the one on disk came to.
func (p *Publisher) contradict(k key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		delete(p.of(k.issuer).contradicted, k)
	case fault.Of(err).Reason == reasonLost:
		p.of(k.issuer).contradicted[k] = true
	}
}

// reasonLost is the reason of faults about revocations that would be taken back.
const reasonLost = "crl_entries_lost"

// doubted reports whether the list on disk is newer than the database's.
func (p *Publisher) doubted(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(k.issuer).behind[k]
}

// settled reports whether a list is due because the one on disk is not the
// database's, which has all that it says again.
func (p *Publisher) settled(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.of(k.issuer)
	return s.behind[k] && s.weighed != "" && len(s.lost) == 0
}

// withheld refuses a list that comes by itself while revocations are lost: a hold
// might be released by it without that anybody wanted it.
func (p *Publisher) withheld(a *authority, o Options) error {
	p.mu.Lock()
	lost := p.of(a.ID).lost
	p.mu.Unlock()
	if len(lost) == 0 || o.Actor != "server" {
		return nil
	}
	some := slices.Sorted(maps.Keys(lost))
	return fault.New(fault.Conflict, "the lists of %s on this node's disk have %d revocations that the database does "+
		"not have (%s, …): was an old backup restored? privyseal crl recover %s --dry-run takes them over, with "+
		"--holds also those on hold; privyseal crl publish %s lets holds go",
		a.ID, len(lost), some[0], a.ID, a.ID).Because(reasonLost)
}

// settle weighs again, after an act that may have settled something.
func (p *Publisher) settle(ctx context.Context, a *authority) error {
	row, err := p.Store.Issuer(ctx, a.ID)
	if err != nil {
		return err
	}
	defer p.wake() // the next list may be due
	return p.weigh(ctx, a, row.RevocationSeq)
}

// weigh finds what the database lacks of the lists on disk, unless nothing has
// changed since it did, and tells the store. While nothing is in doubt it only looks
// whether that is so.
func (p *Publisher) weigh(ctx context.Context, a *authority, seq int64) error {
	p.mu.Lock()
	s := p.of(a.ID)
	doubts := len(s.behind) + len(s.contradicted)
	weighed, had := s.weighed, s.lost
	p.mu.Unlock()
	if doubts == 0 && weighed == "" {
		return nil
	}
	from, lost := "", lacking{}
	if doubts > 0 {
		from = p.stock(a)
		var err error
		switch at := fmt.Sprintf("%s at %d", from, seq); {
		case weighed == at:
			return nil
		case weighed != "" && weighed[:min(len(weighed), len(from))] == from: // the same lists: it can only be less
			lost, err = p.still(ctx, a, had)
		default:
			lost, err = p.lacks(ctx, a)
		}
		if err != nil {
			return fmt.Errorf("compare the lists of %s with the database: %w", a.ID, err)
		}
		from = fmt.Sprintf("%s at %d", from, seq)
	}
	p.mu.Lock()
	s.weighed, s.lost = from, lost
	p.mu.Unlock()
	if len(lost) != len(had) {
		p.Log.ErrorContext(ctx, "revocations on disk that the database does not have",
			"issuer", a.ID, "count", len(lost))
	}
	p.testify()
	return nil
}

// stock names the lists of a CA on disk.
func (p *Publisher) stock(a *authority) string {
	var all []string
	for _, k := range p.local.of(a.ID) {
		all = append(all, k.file(p.local.get(k).number))
	}
	slices.Sort(all)
	return fmt.Sprint(all)
}

// lacks is what Recover would enter of the lists on disk.
func (p *Publisher) lacks(ctx context.Context, a *authority) (lacking, error) {
	j := p.search(a)
	return j.lacking, j.published(ctx)
}

// still is what of it the database still lacks.
func (p *Publisher) still(ctx context.Context, a *authority, lost lacking) (lacking, error) {
	j := p.search(a)
	for all := range slices.Chunk(slices.Collect(maps.Values(lost)), lookup) {
		j.batch = slices.Clone(all)
		if err := j.take(ctx, 0); err != nil {
			return nil, err
		}
	}
	return j.lacking, nil
}

func (p *Publisher) search(a *authority) *recovery {
	return &recovery{p: p, a: a, Recovery: Recovery{Holds: true}, seen: map[pki.Serial]bool{}, lacking: lacking{}}
}

// testify makes what is lost the store's witness.
func (p *Publisher) testify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := map[string]lacking{}
	for id, s := range p.state {
		if len(s.lost) > 0 {
			known[id] = s.lost
		}
	}
	if len(known) == 0 {
		p.Store.SetWitness(nil)
		return
	}
	p.Store.SetWitness(func(id string, serial pki.Serial) (store.Revocation, bool) {
		if a, err := p.authority(id); err == nil {
			id = a.ID
		}
		e, ok := known[id][serial]
		return store.Revocation{Reason: e.Reason, RevokedAt: e.At, InvalidityAt: e.InvalidityAt, Requester: "crl"}, ok
	})
}

// importAgain settles what the database lacks of a CA whose lists are imported: the
// list on disk is all that there is to recover.
func (p *Publisher) importAgain(ctx context.Context, a *authority, r Recovery) (*Recovered, error) {
	list, err := p.local.lend(key{issuer: a.ID})
	if err != nil {
		return nil, err
	}
	defer list.Close() //nolint:errcheck // only read
	if list.held == nil {
		return nil, fault.New(fault.NotFound, "no list of %s was imported", a.ID).Because("crl_missing")
	}
	if err := p.fetchAll(ctx, a.ID); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, err
	}
	lost, err := p.lacks(ctx, a)
	if err != nil || !p.doubted(list.key) {
		return &Recovered{}, err
	}
	done := &Recovered{Entered: len(lost), Serials: slices.Sorted(maps.Keys(lost))}
	done.Serials = done.Serials[:min(len(lost), shownSerials)]
	if r.DryRun {
		return done, nil
	}
	var der bytes.Buffer
	if _, err := io.Copy(&der, list.content()); err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	_, err = p.Import(ctx, der.Bytes(), r.Options)
	return done, err
}
