package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/privyseal/privyseal/internal/store"
)

// witnessed is the detail of an event that witnesses a state.
type witnessed struct {
	Number int64  `json:"number"`
	Digest string `json:"digest"`
}

func newest(events []store.Event) (last witnessed) {
	for _, e := range events {
		var w witnessed
		if json.Unmarshal(e.Detail, &w) == nil && w.Number > last.Number {
			last = w
		}
	}
	return last
}

// disagree holds the set against the state, and the state against the audit chain and
// what this process has seen.
func (a *Access) disagree(st store.AccessState, rows []store.AccessRecord, last witnessed) (found []string) {
	behind := last.Number != st.Number || a.highest > st.Number
	if behind || last.Number > 0 && last.Digest != hex.EncodeToString(st.Digest) {
		found = append(found, fmt.Sprintf("they are those of change %d, and the audit record has %d", st.Number,
			max(last.Number, a.highest)))
	}
	switch {
	case st.Number == 0 && len(rows) == 0:
		return found
	case a.cfg.Sealer.CheckMAC("access state", coveredState(st), st.MAC) != nil:
		found = append(found, "their state was altered")
	case !slices.Equal(setDigest(rows), st.Digest):
		found = append(found, "a record was put back or taken out")
	}
	return found
}

// covered is what a row's MAC covers: each field with its length before it.
func covered(r store.AccessRecord) []byte {
	text, err := json.Marshal([]any{"record 1", r.Kind, r.ID, r.Number, hex.EncodeToString(r.Digest), r.Body})
	if err != nil {
		panic(fmt.Sprintf("access: encode a record: %v", err)) // texts and numbers always encode
	}
	return text
}

func coveredState(st store.AccessState) []byte {
	return fmt.Appendf(nil, "state 1 %d %x", st.Number, st.Digest)
}

// setDigest covers each row with its number. The MACs themselves are left out, so that
// the digest stays when they are made anew under another key.
func setDigest(rows []store.AccessRecord) []byte {
	h := sha256.New()
	for _, r := range rows {
		sum := sha256.Sum256(covered(r))
		_, _ = h.Write(sum[:])
	}
	return h.Sum(nil)
}

// Remake writes every MAC anew under the first key-encryption key, and returns how many
// rows there are. Accepted is a reason to take the rows as they are even if the set is in
// doubt; rows whose own MAC does not hold are then removed.
func (a *Access) Remake(
	ctx context.Context, accepted string, ev store.Event,
) (rows int, dropped []string, err error) {
	s, err := a.current(ctx)
	if err != nil {
		return 0, nil, err
	}
	if accepted == "" {
		if err := s.trusted(); err != nil {
			return 0, nil, err
		}
	}
	if s.state.Number == 0 && len(s.doubt) == 0 || accepted == "" && !a.stale(s) {
		return 0, nil, nil
	}
	e := edit{event: ev}
	for at, r := range s.rows {
		if a.cfg.Sealer.CheckMAC("access", covered(r), r.MAC) != nil {
			e.remove(at.kind, at.id)
			dropped = append(dropped, at.kind+" "+at.id)
			continue
		}
		e.put = append(e.put, r)
	}
	e.event.Detail, err = json.Marshal(map[string]any{"reason": accepted, "found": s.doubt, "removed": dropped})
	if err != nil {
		return 0, nil, fmt.Errorf("remake records of access: %w", err)
	}
	return len(e.put), dropped, a.save(ctx, s, max(s.state.Number, s.witness), &e)
}

// stale reports whether a MAC is under another key than the first.
func (a *Access) stale(s *snapshot) bool {
	for _, r := range s.rows {
		if a.cfg.Sealer.Stale(r.MAC) {
			return true
		}
	}
	return a.cfg.Sealer.Stale(s.state.MAC)
}
