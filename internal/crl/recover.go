package crl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Recovery says how lost revocations are taken over.
type Recovery struct {
	List   []byte // DER or PEM of a list of this issuer; nil takes those that this node has published
	Holds  bool   // certificates that were on hold go on hold again
	DryRun bool   // only count
	Options
}

// Recovered is what a recovery did, or would do.
type Recovered struct {
	Revoked int // of certificates that are on record
	Entered int // of certificates that are not: entered and revoked
	Holds   int // that were left alone, for they may have been released
	Serials []pki.Serial
}

// shownSerials is how many serials a Recovered names.
const shownSerials = 10

// Recover enters the revocations that a published list has and the store has not,
// as after the restore of an old backup, which makes the guard refuse every new
// list. Certificates that are lost themselves are entered with their serials,
// and stay on the lists until the issuer ends, because nobody knows when they
// do. It can be repeated.
func (p *Publisher) Recover(ctx context.Context, id string, r Recovery) (*Recovered, error) {
	a, err := p.authority(id)
	if err != nil {
		return nil, err
	}
	if a.imported() && r.List == nil {
		return p.importAgain(ctx, a, r)
	}
	if a.Issuer() == nil {
		return nil, fault.New(fault.Conflict, "the key of %s is not here, and nothing of its list is on record", id).
			Because("crl_offline")
	}
	j := &recovery{p: p, a: a, Recovery: r, seen: map[pki.Serial]bool{}}
	if r.List != nil {
		err = j.file(ctx)
	} else {
		err = j.published(ctx)
	}
	if !r.DryRun {
		err = errors.Join(err, p.settle(ctx, a))
	}
	return &j.done, err
}

// published takes over from the lists on this node's disk.
func (j *recovery) published(ctx context.Context) error {
	keys := j.p.local.of(j.a.ID)
	if len(keys) == 0 {
		return fault.New(fault.NotFound, "this node has no list of %s: give it one", j.a.ID).Because("crl_missing")
	}
	// Shards first: of a lost certificate, only the list tells the shard. The delta
	// list before the full one: it tells what left that.
	slices.SortFunc(keys, func(a, b key) int { return rank(b) - rank(a) })
	for _, k := range keys {
		if err := j.held(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func rank(k key) int {
	if k.delta {
		return 1
	}
	return 2 * k.shard
}

// recovery is one call of Recover.
type recovery struct {
	p *Publisher
	a *authority
	Recovery
	done    Recovered
	seen    map[pki.Serial]bool           // what is dealt with, for a serial is on several lists
	lacking map[pki.Serial]issuer.Revoked // if not nil, what the store lacks goes there and nowhere else
	name    string
	batch   []issuer.Revoked
}

// held takes over from a list on this node's disk.
func (j *recovery) held(ctx context.Context, k key) error {
	list, err := j.p.local.lend(k)
	if err != nil {
		return err
	}
	defer list.Close() //nolint:errcheck // only read
	j.name = fmt.Sprintf("%s %d", k, list.number)
	return j.walk(ctx, list.content(), k.shard)
}

// file takes over from a list that somebody kept.
func (j *recovery) file(ctx context.Context) error {
	list, err := decodeList(j.List)
	if err != nil {
		return err
	}
	if !bytes.Equal(list.RawIssuer, j.a.Certificate().RawSubject) || pki.ListedBy(list, j.a.Certificate()) != nil {
		return fault.New(fault.Malformed, "the list is not signed by %s", j.a.ID).Because("crl_signature")
	}
	whole, err := newReader(bytes.NewReader(list.Raw))
	if err == nil {
		err = whole.walk()
	}
	shard := 0
	switch at := j.a.Issuer().Locations(); {
	case err != nil:
		return fault.New(fault.Malformed, "%w", err).Because("crl_form")
	case whole.base != nil:
		return fault.New(fault.Malformed, "it is a delta list").Because("crl_scope")
	case whole.point != "":
		for shard = 1; at.List(shard) != whole.point; shard++ {
			if shard > maxShards {
				return fault.New(fault.Malformed, "no shard of %s is at %q", j.a.ID, whole.point).Because("crl_scope")
			}
		}
	}
	j.name = fmt.Sprintf("%s %s", key{j.a.ID, shard, false}, whole.number)
	return j.walk(ctx, bytes.NewReader(list.Raw), shard)
}

func (j *recovery) walk(ctx context.Context, content io.Reader, shard int) error {
	r, err := newReader(content)
	if err != nil {
		return err
	}
	for {
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			e, err := r.last.revoked()
			if err != nil {
				return err
			}
			j.batch = append(j.batch, e)
		}
		if len(j.batch) == lookup || !more {
			if err := j.take(ctx, shard); err != nil || !more {
				return err
			}
		}
	}
}

// take enters what the store lacks of the batch.
func (j *recovery) take(ctx context.Context, shard int) error {
	if len(j.batch) == 0 {
		return nil
	}
	serials := make([]pki.Serial, len(j.batch))
	for i, e := range j.batch {
		serials[i] = e.Serial
	}
	known, _, err := j.p.Store.StandingsOnRecord(ctx, j.a.ID, serials)
	if err != nil {
		return err
	}
	var lost []store.Recovered
	for _, e := range j.batch {
		st, found := known[e.Serial]
		if e.Reason == pki.RemoveFromCRL {
			j.seen[e.Serial] = true
			continue
		}
		if !j.seen[e.Serial] && j.lacks(st, found, e) {
			j.seen[e.Serial] = true
			if j.lacking != nil {
				j.lacking[e.Serial] = e
				continue
			}
			lost = append(lost, j.lost(e, shard, found))
		}
	}
	j.batch = j.batch[:0]
	if len(lost) == 0 {
		return nil
	}
	return j.enter(ctx, lost)
}

// lacks reports whether the store lacks what an entry says.
func (j *recovery) lacks(st store.Standing, found bool, e issuer.Revoked) bool {
	switch was := st.Revocation; {
	case !found && (!hold(e) || j.Holds):
		return true
	case found && st.Status != "issued" && st.Status != "imported" && st.Status != "void":
		return false
	case was == nil && hold(e) && !j.Holds:
		if !j.seen[e.Serial] {
			j.seen[e.Serial] = true
			j.done.Holds++
		}
		return false
	default: // expired ones too: some may still be renewed
		return was.MayBecome(e.Reason)
	}
}

func (j *recovery) lost(e issuer.Revoked, shard int, found bool) store.Recovered {
	if shard == 0 {
		shard = j.a.Issuer().Locations().Shard(e.Serial)
	}
	return store.Recovered{
		Serial: e.Serial, Enter: !found, Shard: shard, NotAfter: j.a.Certificate().NotAfter,
		Revocation: store.Revocation{Reason: e.Reason, RevokedAt: e.At, InvalidityAt: e.InvalidityAt,
			Requester: j.Actor},
	}
}

// enter writes one batch, with an event for each certificate.
func (j *recovery) enter(ctx context.Context, lost []store.Recovered) error {
	events := make([]store.Event, len(lost))
	revoked, entered := 0, 0
	for i := range lost {
		r := &lost[i]
		r.CertificateID = store.NewID()
		if r.Enter {
			entered++
		} else {
			revoked++
			row, err := j.p.Store.CertificateBySerial(ctx, j.a.ID, r.Serial)
			if err != nil {
				return err
			}
			r.CertificateID = row.ID
		}
		detail, err := json.Marshal(map[string]any{
			"issuer": j.a.ID, "serial": r.Serial, "reason": r.Reason.String(), "revoked_at": r.RevokedAt,
			"list": j.name, "was_on_record": !r.Enter,
		})
		if err != nil {
			return fmt.Errorf("recover revocations: %w", err)
		}
		events[i] = store.Event{
			At: j.p.Now(), Action: "certificate.recovered", Outcome: "success", Actor: j.Actor,
			Subject: r.CertificateID, RequestID: j.RequestID, Detail: detail,
		}
	}
	if !j.DryRun {
		if err := j.p.Store.RecoverRevocations(ctx, j.a.ID, lost, events); err != nil {
			return err
		}
	}
	j.done.Revoked, j.done.Entered = j.done.Revoked+revoked, j.done.Entered+entered
	for _, r := range lost {
		if len(j.done.Serials) < shownSerials {
			j.done.Serials = append(j.done.Serials, r.Serial)
		}
	}
	return nil
}
