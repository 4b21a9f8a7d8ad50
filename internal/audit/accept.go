package audit

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// ActionAccepted is the event of an operator who accepts what is wrong with the
// record. Its detail is the Acceptance.
const ActionAccepted = "audit.accepted"

// maxReason bounds an operator's reason, in octets.
const maxReason = 1000

// Acceptance says that somebody knows what is wrong with the record and why. It is
// signed with the key of the checkpoints: who can only write to the database
// accepts nothing.
type Acceptance struct {
	ID     string    `json:"id"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	// UpTo is, by chain, the event up to which what is wrong with it is accepted.
	UpTo map[string]int64 `json:"up_to,omitempty"`
	// Others are findings that are about no chain, in words.
	Others    []string  `json:"others,omitempty"`
	Findings  []Finding `json:"findings,omitempty"` // at most maxShown, for people
	Late      bool      `json:"late,omitempty"`     // the state folder had no witness of what was before it
	KeyID     string    `json:"key_id"`
	Signature []byte    `json:"signature,omitempty"`
}

// maxShown bounds the findings that an Acceptance repeats.
const maxShown = 100

func (a Acceptance) statement() []byte {
	a.Signature = nil
	text, _ := json.Marshal(a) // strings, numbers and times always encode
	return append([]byte("privyseal audit acceptance v1\n"), text...)
}

// covers reports whether a finding is accepted.
func (a *Acceptance) covers(f Finding) bool {
	if f.Seq == 0 {
		return slices.Contains(a.Others, f.What)
	}
	return f.Seq <= a.UpTo[f.Node]
}

// genuine returns those that one of the keys has signed.
func genuine(all []Acceptance, keys []crypto.PublicKey) []Acceptance {
	return slices.DeleteFunc(slices.Clone(all), func(a Acceptance) bool {
		for _, pub := range keys {
			if id, err := pki.HashKey(pub); err == nil && id.String() == a.KeyID {
				return verifySignature(pub, a.statement(), a.Signature) != nil
			}
		}
		return true
	})
}

// acceptances returns what was accepted, as the database has it.
func acceptances(ctx context.Context, s *store.Store, keys []crypto.PublicKey) ([]Acceptance, error) {
	events, err := s.AuditEventsOf(ctx, ActionAccepted)
	if err != nil {
		return nil, err
	}
	var all []Acceptance
	for _, e := range events {
		var a Acceptance
		if json.Unmarshal(e.Detail, &a) == nil {
			all = append(all, a)
		}
	}
	return genuine(all, keys), nil
}

// Accept settles what is wrong with the record, for a reason that stays in it, and
// returns that. It is fault.Conflict if nothing is wrong.
func (k *Keeper) Accept(ctx context.Context, reason, actor, requestID string) ([]Finding, error) {
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason {
		return nil, fault.New(fault.Malformed, "reason: say why, in at most %d octets", maxReason).
			Because("audit_reason")
	}
	v := Verifier{Store: k.store, Keys: []crypto.PublicKey{k.key.Public()}, Folder: &k.folder}
	r, err := v.Verify(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.Findings) == 0 && len(r.Warnings) == 0 {
		return nil, fault.New(fault.Conflict, "nothing is wrong with the audit record").Because("audit_sound")
	}
	a := Acceptance{
		ID: store.NewID(), At: k.now().UTC().Truncate(time.Microsecond), Actor: actor, Reason: reason,
		Late: len(r.Warnings) > 0, KeyID: k.keyID,
	}
	a.take(r)
	if a.Signature, err = sign(k.key, a.statement()); err != nil {
		return nil, fmt.Errorf("sign acceptance: %w", err)
	}
	detail, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("accept audit record: %w", err)
	}
	if err := k.store.AppendAudit(ctx, store.Event{
		At: a.At, Action: ActionAccepted, Outcome: "success", Actor: actor, Subject: k.node, RequestID: requestID,
		Detail: detail,
	}); err != nil {
		return nil, fmt.Errorf("accept audit record: %w", err)
	}
	return r.Findings, k.settle(ctx, a)
}

// take accepts what a report found.
func (a *Acceptance) take(r *Report) {
	a.Findings, a.UpTo = r.Findings[:min(len(r.Findings), maxShown)], map[string]int64{}
	for _, f := range r.Findings {
		if f.Seq == 0 {
			a.Others = append(a.Others, f.What)
		} else {
			a.UpTo[f.Node] = max(f.Seq, r.ends[f.Node])
		}
	}
}

// settle takes an acceptance into the folder, and looks again.
func (k *Keeper) settle(ctx context.Context, a Acceptance) error {
	k.mu.Lock()
	err := k.folder.accept(a)
	if err == nil {
		err = k.folder.inTime()
	}
	if err == nil {
		err = k.recall()
	}
	k.last = "" // look
	k.mu.Unlock()
	if err != nil {
		return err
	}
	return k.Checkpoint(ctx)
}
