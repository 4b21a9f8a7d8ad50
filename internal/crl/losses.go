package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// Bounds of how many losses are named: to a person, and in the audit record.
const (
	shownLosses   = 5
	auditedLosses = 1000
)

// losses are the revocations that an imported list takes back of one that was
// published before, and how: by serial.
type losses map[pki.Serial]string

// since adds what the list next takes back of the list last. An entry may only go
// when its certificate is known and had expired by next's date, or when it was a
// hold; a certificate that this server never saw cannot be judged. Neither list
// need be sorted.
func (l losses) since(ctx context.Context, s *store.Store, id string, last, next io.Reader) error {
	list, entries, err := readAll(next)
	if err != nil {
		return fault.New(fault.Malformed, "the list: %w", err).Because("crl_form")
	}
	old, err := newReader(last)
	if err != nil {
		return fmt.Errorf("read the last list: %w", err)
	}
	suspects := losses{}
	for {
		more, err := old.next()
		if err != nil {
			return fmt.Errorf("read the last list: %w", err)
		}
		if !more {
			break
		}
		was, err := old.last.revoked()
		if err != nil {
			return fmt.Errorf("read the last list: %w", err)
		}
		if how := changed(was, entries); how != "" {
			suspects[was.Serial] = how
		}
	}
	return l.judge(ctx, s, id, suspects, list.thisUpdate)
}

// changed says how an entry is less than it was; empty if it is not.
func changed(was issuer.Revoked, entries map[pki.Serial]issuer.Revoked) string {
	is, listed := entries[was.Serial]
	switch {
	case listed && is.Reason != pki.RemoveFromCRL: // which belongs in delta lists
		return is.Milder(was)
	case hold(was) || was.Reason == pki.RemoveFromCRL:
		return ""
	default:
		return "it is not on the list"
	}
}

// judge adds those suspects whose certificates are not known to have expired.
func (l losses) judge(ctx context.Context, s *store.Store, id string, suspects losses, at time.Time) error {
	if len(suspects) == 0 {
		return nil
	}
	ends, err := s.CAsBelow(ctx, id)
	if err != nil {
		return err
	}
	for serials := range slices.Chunk(slices.Sorted(maps.Keys(suspects)), lookup) {
		known, _, err := s.StandingsOnRecord(ctx, id, serials)
		if err != nil {
			return err
		}
		for serial, st := range known {
			if _, installed := ends[serial]; !installed {
				ends[serial] = st.NotAfter
			}
		}
	}
	for serial, how := range suspects {
		if end, known := ends[serial]; !known || end.After(at) {
			l[serial] = how
		}
	}
	return nil
}

// readAll reads a list and its entries. Of two for one serial the milder one
// counts: a client may look at either.
func readAll(content io.Reader) (*reader, map[pki.Serial]issuer.Revoked, error) {
	list, err := newReader(content)
	if err != nil {
		return nil, nil, err
	}
	entries := map[pki.Serial]issuer.Revoked{}
	for {
		more, err := list.next()
		if err != nil {
			return nil, nil, err
		}
		if !more {
			return list, entries, list.end()
		}
		e, err := list.last.revoked()
		if err != nil {
			return nil, nil, err
		}
		if other, twice := entries[e.Serial]; !twice || e.Milder(other) != "" {
			entries[e.Serial] = e
		}
	}
}

// refusal is what is said of a list that takes something back; nil if it does not.
func (l losses) refusal(id string, number, last int64) error {
	if len(l) == 0 {
		return nil
	}
	serials := slices.Sorted(maps.Keys(l))
	named := make([]string, 0, shownLosses+1)
	for _, s := range serials[:min(len(serials), shownLosses)] {
		named = append(named, fmt.Sprintf("%s: %s", s, l[s]))
	}
	if more := len(serials) - shownLosses; more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	return fault.New(fault.Conflict,
		"list %d of %s takes back %d of the revocations of list %d, which is published (%s), "+
			"and nothing here says that those certificates have expired: clients would trust them again. "+
			"Was the CA's index restored from an old copy? Revoke them again where the key is, for the same reasons "+
			"and with the old dates as invalidity dates, sign a new list and import that. "+
			"If you know that they have expired: privyseal crl import FILE --accept-lost 'WHY'",
		number, id, len(l), last, strings.Join(named, "; ")).Because("crl_entries_lost")
}

// audited is what the audit record says of losses that an operator accepts.
func (l losses) audited(why string, into map[string]any) {
	lost := map[pki.Serial]string{}
	for _, s := range slices.Sorted(maps.Keys(l))[:min(len(l), auditedLosses)] {
		lost[s] = l[s]
	}
	into["accepted"], into["lost"], into["lost_count"] = why, lost, len(l)
}

// compareImported returns what a list, DER, takes back of the one on this node's
// disk and of the newest in the database, which is another one if this node could
// not take it over. newest is nil if there is none.
func (p *Publisher) compareImported(ctx context.Context, id string, der []byte) (
	lost losses, newest *store.CRLRecord, err error,
) {
	last, err := p.local.lend(key{issuer: id})
	if err != nil {
		return nil, nil, err
	}
	defer last.Close() //nolint:errcheck // only read
	lost = losses{}
	if last.held != nil {
		if err := lost.since(ctx, p.Store, id, last.content(), bytes.NewReader(der)); err != nil {
			return nil, nil, err
		}
	}
	newest, content, err := p.Store.LatestCRL(ctx, id, 0)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return lost, nil, nil
	case err != nil:
		return nil, nil, err
	case last.held != nil && bytes.Equal(newest.SHA256, last.sha256[:]):
		return lost, newest, nil
	}
	return lost, newest, lost.since(ctx, p.Store, id, bytes.NewReader(content), bytes.NewReader(der))
}
