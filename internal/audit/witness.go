package audit

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/privyseal/privyseal/internal/store"
)

// Condition is what a node knows of the record, compared with what the database
// has of it.
type Condition struct {
	Findings []Finding // what contradicts the checkpoints in the state folder, and nobody accepted
	Late     bool      // the state folder has no witness of what was before it
	Err      error     // the state folder cannot be written, or read
}

// Condition returns what the last look found.
func (k *Keeper) Condition() Condition {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Condition{slices.Clone(k.found), k.kept.Late, k.failed}
}

// begin reads the folder before this process writes anything.
func (k *Keeper) begin(ctx context.Context) error {
	heads, err := k.store.AuditHeads(ctx)
	if err != nil {
		return fmt.Errorf("read audit heads: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.recall(); err != nil {
		return err
	}
	if len(k.kept.Checkpoints) == 0 && len(heads) > 0 && !k.kept.Late {
		if err := k.folder.write(lateFile, map[string]any{"at": k.now().UTC()}); err != nil {
			return err
		}
		k.kept.Late = true
	}
	return nil
}

// recall takes from the folder what it knows; k.mu is held.
func (k *Keeper) recall() error {
	kept, err := k.folder.Read()
	if err != nil {
		return err
	}
	k.kept, k.seen = kept, map[string]store.Head{}
	k.kept.Accepted = genuine(kept.Accepted, []crypto.PublicKey{k.key.Public()})
	for _, c := range kept.Checkpoints {
		for _, h := range c.Heads {
			if h.Seq > k.seen[h.Node].Seq {
				k.seen[h.Node] = h
			}
		}
	}
	return nil
}

// look compares the record with what this node saw of it. What is accepted is not
// found any more. k.mu is held.
func (k *Keeper) look(ctx context.Context, heads []store.Head) error {
	now := map[string]store.Head{}
	for _, h := range heads {
		now[h.Node] = h
	}
	var found []Finding
	for _, node := range slices.Sorted(maps.Keys(k.seen)) {
		f, err := k.differs(ctx, k.seen[node], now[node])
		if err != nil {
			return err
		}
		if f != nil && !k.accepted(*f) {
			found = append(found, *f)
		}
	}
	if len(found) > 0 { // another node may have been told that they are accepted
		all, err := acceptances(ctx, k.store, []crypto.PublicKey{k.key.Public()})
		if err != nil {
			return err
		}
		for _, a := range all {
			if err := k.folder.accept(a); err != nil {
				return err
			}
		}
		k.kept.Accepted = append(k.kept.Accepted, all...)
		found = slices.DeleteFunc(found, k.accepted)
	}
	if len(found) > 0 && !slices.Equal(found, k.found) {
		k.log.ErrorContext(ctx, "the audit record is not the one that this node saw", "found", describe(found))
	}
	k.found = found
	return nil
}

func (k *Keeper) accepted(f Finding) bool {
	return slices.ContainsFunc(k.kept.Accepted, func(a Acceptance) bool { return a.covers(f) })
}

// differs compares the end of a chain as it was seen with the chain as it is.
func (k *Keeper) differs(ctx context.Context, seen, now store.Head) (*Finding, error) {
	switch {
	case now.Seq < seen.Seq:
		return &Finding{seen.Node, now.Seq + 1, fmt.Sprintf("missing: this node saw event %d", seen.Seq)}, nil
	case now.Seq == seen.Seq && bytes.Equal(now.Hash, seen.Hash):
		return nil, nil
	}
	at, err := k.store.AuditEvents(ctx, seen.Node, seen.Seq, 1)
	if err != nil || len(at) == 0 {
		return nil, err
	}
	if at[0].Seq == seen.Seq {
		if bytes.Equal(at[0].Hash, seen.Hash) {
			return nil, nil
		}
		return &Finding{seen.Node, seen.Seq, "this node saw another event in its place"}, nil
	}
	oldest, err := k.store.AuditEvents(ctx, seen.Node, 0, 1)
	if err != nil || len(oldest) == 0 || oldest[0].Seq > seen.Seq { // it was archived
		return nil, err
	}
	return &Finding{seen.Node, seen.Seq, "missing, though there are events before and after it"}, nil
}

// keep writes a checkpoint into the folder; k.mu is held. That it cannot is no reason
// to stop: the database has it, and health says so.
func (k *Keeper) keep(ctx context.Context, c store.Checkpoint) {
	k.failed = k.folder.put(c, len(k.found) > 0)
	if k.failed != nil {
		k.log.ErrorContext(ctx, "checkpoint not kept in the state folder", "error", k.failed)
	}
	bad := map[string]bool{}
	for _, f := range k.found {
		bad[f.Node] = true
	}
	for _, h := range c.Heads {
		if !bad[h.Node] {
			k.seen[h.Node] = h
		}
	}
}

// describe says findings in words, not too many.
func describe(found []Finding) string {
	const shown = 3
	var all []string
	for _, f := range found[:min(len(found), shown)] {
		all = append(all, f.String())
	}
	if more := len(found) - shown; more > 0 {
		all = append(all, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}

// String says what is wrong, for a health report; empty if nothing is.
func (c Condition) String() string {
	switch {
	case len(c.Findings) > 0:
		return "the database does not have the audit record that this node saw: " + describe(c.Findings)
	case c.Err != nil:
		return "checkpoints cannot be kept in the state folder: " + c.Err.Error()
	case c.Late:
		return lateText
	}
	return ""
}

const lateText = "the state folder has no witness of the audit record before it was made"
