package audit

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// page is how many events or checkpoints are read at once.
const page = 1000

// Finding is the first thing wrong with one chain, or with a checkpoint.
type Finding struct {
	Node string `json:"node,omitempty"`
	Seq  int64  `json:"seq,omitempty"` // of the bad event; 0 if the finding is about a checkpoint
	What string `json:"what"`
}

func (f Finding) String() string {
	if f.Seq == 0 {
		return f.What
	}
	return fmt.Sprintf("chain %s, event %d: %s", f.Node, f.Seq, f.What)
}

// Report is the outcome of Verify.
type Report struct {
	Chains      int       `json:"chains"`
	Events      int64     `json:"events"`
	Checkpoints int       `json:"checkpoints"`
	Unread      []Unread  `json:"unread,omitempty"`
	Findings    []Finding `json:"findings"` // the first of each chain; empty if all is well
	Accepted    int       `json:"accepted"` // findings that an operator has accepted
	Warnings    []string  `json:"warnings"` // what was not looked at, for there is nothing to look at it with

	ends map[string]int64 // of each chain, by what the database has and what checkpoints saw
}

// Unread is the beginning of a chain that is neither in the store nor in a segment
// that was read. A checkpoint vouches for where the chain goes on.
type Unread struct {
	Node   string    `json:"node"`
	Events int64     `json:"events"`
	Until  time.Time `json:"until"` // the time of the first event that was read
}

// NotRead is how many events are in no segment that was read.
func (r *Report) NotRead() (n int64) {
	for _, u := range r.Unread {
		n += u.Events
	}
	return n
}

// Verifier checks chains. Archives are segment files written by Archive, in any
// order, whose events stand in for those that were purged; so do those of the folder
// Dir, where it is named.
type Verifier struct {
	Store    *store.Store
	Keys     []crypto.PublicKey // the checkpoint keys, past and present
	Archives []string
	Dir      string
	Folder   *Folder            // of this node's state folder; nil leaves it out
	Each     func(*store.Event) // sees every event read; may be nil

	taken    map[string]bool // segment files
	accepted []Acceptance
}

// chain is the state of the walk along one chain.
type chain struct {
	seq     int64  // of the last good event
	hash    []byte // of the last good event
	first   store.Event
	anchors map[int64][]byte
	top     int64 // the highest event seen
	broken  bool
}

// Verify walks every chain from its oldest event kept and holds it against every
// checkpoint. The error says that the record could not be read; what is wrong
// with the record is in the report.
func (v *Verifier) Verify(ctx context.Context) (*Report, error) {
	r := &Report{Findings: []Finding{}, Warnings: []string{}, ends: map[string]int64{}} // in JSON not null
	v.taken = map[string]bool{}
	chains := map[string]*chain{}
	if err := v.readFolder(ctx, r, chains); err != nil {
		return nil, err
	}
	if err := v.readCheckpoints(ctx, r, chains); err != nil {
		return nil, err
	}
	if err := v.walkArchives(r, chains); err != nil {
		return nil, err
	}
	heads, err := v.Store.AuditHeads(ctx)
	if err != nil {
		return nil, fmt.Errorf("read audit heads: %w", err)
	}
	for _, h := range heads {
		if err := v.walkStored(ctx, r, chains, h.Node); err != nil {
			return nil, err
		}
	}
	for node, c := range chains {
		r.Chains++
		if c.first.Seq > 1 {
			r.Unread = append(r.Unread, Unread{node, c.first.Seq - 1, c.first.At})
		}
		last := c.lastAnchor()
		r.ends[node] = max(last, c.top)
		if !c.broken && c.seq < last {
			v.find(r, Finding{node, c.seq + 1, fmt.Sprintf("missing: a checkpoint saw event %d", last)})
		}
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int { return strings.Compare(a.Node, b.Node) })
	return r, nil
}

// find puts a finding into the report, unless it is accepted.
func (v *Verifier) find(r *Report, f Finding) (accepted bool) {
	if slices.ContainsFunc(v.accepted, func(a Acceptance) bool { return a.covers(f) }) {
		r.Accepted++
		return true
	}
	r.Findings = append(r.Findings, f)
	return false
}

// readFolder takes what this node saw, and what was accepted.
func (v *Verifier) readFolder(ctx context.Context, r *Report, chains map[string]*chain) error {
	var err error
	if v.accepted, err = acceptances(ctx, v.Store, v.Keys); err != nil {
		return fmt.Errorf("read what was accepted: %w", err)
	}
	if v.Folder == nil {
		return nil
	}
	kept, err := v.Folder.Read()
	if err != nil {
		return err
	}
	v.accepted = append(v.accepted, genuine(kept.Accepted, v.Keys)...)
	if kept.Late || len(kept.Checkpoints) == 0 {
		r.Warnings = append(r.Warnings, lateText)
	}
	for _, c := range kept.Checkpoints {
		v.take(r, chains, c)
	}
	return nil
}

// take holds the chains against a checkpoint, if it is genuine.
func (v *Verifier) take(r *Report, chains map[string]*chain, c store.Checkpoint) {
	if err := v.checkSignature(c); err != nil {
		v.find(r, Finding{What: fmt.Sprintf("checkpoint %s: %v", c.ID, err)})
		return
	}
	for _, h := range c.Heads {
		if saw := at(chains, h.Node); saw.anchors[h.Seq] == nil { // the folder's come first
			saw.anchors[h.Seq] = h.Hash
		}
	}
}

func (c *chain) lastAnchor() int64 {
	last := int64(0)
	for seq := range c.anchors {
		last = max(last, seq)
	}
	return last
}

func (v *Verifier) readCheckpoints(ctx context.Context, r *Report, chains map[string]*chain) error {
	for after := ""; ; {
		list, err := v.Store.Checkpoints(ctx, after, page)
		if err != nil {
			return fmt.Errorf("read checkpoints: %w", err)
		}
		for _, c := range list {
			after = c.ID
			r.Checkpoints++
			v.take(r, chains, c)
		}
		if len(list) < page {
			return nil
		}
	}
}

func at(chains map[string]*chain, node string) *chain {
	c, ok := chains[node]
	if !ok {
		c = &chain{anchors: map[int64][]byte{}}
		chains[node] = c
	}
	return c
}

func (v *Verifier) checkSignature(c store.Checkpoint) error {
	for _, pub := range v.Keys {
		id, err := pki.HashKey(pub)
		if err != nil {
			return err
		}
		if id.String() == c.KeyID {
			return verifySignature(pub, statement(c), c.Signature)
		}
	}
	return fmt.Errorf("it is signed by key %s, which is not known here", c.KeyID)
}

func (v *Verifier) walkStored(ctx context.Context, r *Report, chains map[string]*chain, node string) error {
	from := int64(0)
	for {
		events, err := v.Store.AuditEvents(ctx, node, from, page)
		if err != nil {
			return fmt.Errorf("read audit events of %s: %w", node, err)
		}
		if len(events) > 0 && events[0].Seq > at(chains, node).seq+1 {
			// They may have been archived since the folder was read.
			if err := v.walkArchives(r, chains); err != nil {
				return err
			}
		}
		for i := range events {
			v.step(r, at(chains, node), &events[i])
			from = events[i].Seq + 1
		}
		if len(events) < page {
			return nil
		}
	}
}

// step takes one event; after the first bad one of a chain it only counts. An
// event that a segment already brought (it was archived, but not yet purged) is
// passed over.
func (v *Verifier) step(r *Report, c *chain, e *store.Event) {
	if !c.broken && c.hash != nil && e.Seq <= c.seq {
		return
	}
	c.top = max(c.top, e.Seq)
	if r.Events++; c.first.Seq == 0 {
		c.first = *e
	}
	if v.Each != nil {
		v.Each(e)
	}
	if c.broken {
		return
	}
	if what := c.wrong(e); what != "" && !v.find(r, Finding{e.Node, e.Seq, what}) {
		c.broken = true
		return
	}
	c.seq, c.hash = e.Seq, e.Hash
}

func (c *chain) wrong(e *store.Event) string {
	if c.hash == nil && e.Seq != 1 { // the chain begins inside: only a checkpoint can vouch for what came before
		before, seen := c.anchors[e.Seq-1]
		if itself := c.anchors[e.Seq]; !seen && itself == nil {
			return fmt.Sprintf("events before it are missing, and no checkpoint ends at event %d", e.Seq-1)
		}
		c.seq, c.hash = e.Seq-1, before
	}
	switch {
	case e.Seq != c.seq+1:
		return fmt.Sprintf("event %d is missing before it", c.seq+1)
	case c.hash != nil && !bytes.Equal(e.Prev, c.hash):
		return "its link to the event before it does not match"
	case !bytes.Equal(e.Digest(), e.Hash):
		return "its content does not match its hash"
	}
	if anchor, ok := c.anchors[e.Seq]; ok && !bytes.Equal(anchor, e.Hash) {
		return "a checkpoint saw another event in its place"
	}
	return ""
}
