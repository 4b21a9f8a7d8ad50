package store_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// checkChains reads every chain and checks that it has no gap and no fork.
func checkChains(t testing.TB, s *store.Store) {
	t.Helper()
	heads, err := s.AuditHeads(context.Background())
	noErr(t, err)
	for _, head := range heads {
		events, err := s.AuditEvents(context.Background(), head.Node, 0, int(head.Seq)+1)
		noErr(t, err)
		var prev []byte
		for i, e := range events {
			if !bytes.Equal(e.Hash, e.Digest()) {
				t.Fatalf("event %s/%d: hash does not match", e.Node, e.Seq)
			}
			if i > 0 && (e.Seq != events[i-1].Seq+1 || !bytes.Equal(e.Prev, prev)) {
				t.Fatalf("event %s/%d does not follow %d", e.Node, e.Seq, events[i-1].Seq)
			}
			prev = e.Hash
		}
		if len(events) == 0 || !bytes.Equal(prev, head.Hash) {
			t.Fatalf("chain %s does not end at its head", head.Node)
		}
	}
}

func TestAuditChain(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		noErr(t, s.AppendAudit(ctx))
		noErr(t, s.AppendAudit(ctx, event("one"), event("two")))
		_, lost := race(100, func(i int) error { return s.AppendAudit(ctx, event(fmt.Sprint("three ", i))) })
		if len(lost) > 0 {
			t.Fatal(lost)
		}
		other := storetest.Open(t, url, "node-2")
		noErr(t, other.AppendAudit(ctx, event("other")))
		again := storetest.Open(t, url, "node-1") // a restart goes on where the chain ended
		noErr(t, again.AppendAudit(ctx, event("again")))
		noErr(t, s.AppendAudit(ctx, event("and the first, whose head is old")))
		checkChains(t, s)
		heads, err := s.AuditHeads(ctx)
		if err != nil || len(heads) != 2 || heads[0].Seq != 104 || heads[1].Seq != 1 {
			t.Fatalf("heads %+v, %v", heads, err)
		}
		events, err := s.AuditEvents(ctx, "node-1", 1, 1)
		noErr(t, err)
		want := event("one")
		want.Node, want.Seq, want.Prev, want.At = "node-1", 1, []byte{}, cut(base)
		want.Hash = want.Digest()
		if diff := cmp.Diff(want, events[0], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("first event (-want +got):\n%s", diff)
		}
	})
}

// TestAuditHeadsOfNoneAndOfMany: a chain is found wherever its name stands among
// the others.
func TestAuditHeadsOfNoneAndOfMany(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		heads, err := s.AuditHeads(ctx)
		noErr(t, err)
		if len(heads) != 0 {
			t.Fatalf("heads of an empty record: %+v", heads)
		}
		nodes := []string{"node-10", "node-2", "a", "B", "ä", "node-1"}
		for i, node := range nodes {
			n := storetest.Open(t, url, node)
			for range i + 1 {
				noErr(t, n.AppendAudit(ctx, event(node)))
			}
		}
		heads, err = s.AuditHeads(ctx)
		noErr(t, err)
		got := map[string]int64{}
		for _, h := range heads {
			got[h.Node] = h.Seq
			last, err := s.AuditEvents(ctx, h.Node, h.Seq, 1)
			noErr(t, err)
			if len(last) != 1 || !bytes.Equal(last[0].Hash, h.Hash) {
				t.Errorf("head %+v is not %+v", h, last)
			}
		}
		want := map[string]int64{"node-10": 1, "node-2": 2, "a": 3, "B": 4, "ä": 5, "node-1": 6}
		if diff := cmp.Diff(want, got); diff != "" || len(heads) != len(nodes) {
			t.Errorf("heads (-want +got):\n%s", diff)
		}
	})
}

func TestEventDigestCoversEveryField(t *testing.T) {
	e := event("a")
	e.Node, e.Seq, e.Prev = "n", 7, []byte{1}
	seen := map[string]string{string(e.Digest()): "the event itself"}
	for name, change := range map[string]func(*store.Event){
		"node": func(e *store.Event) { e.Node = "m" }, "seq": func(e *store.Event) { e.Seq++ }, "prev": func(e *store.Event) { e.Prev = []byte{2} },
		"at": func(e *store.Event) { e.At = e.At.Add(time.Microsecond) }, "action": func(e *store.Event) { e.Action = "b" },
		"outcome": func(e *store.Event) { e.Outcome = "no" }, "actor": func(e *store.Event) { e.Actor = "x" },
		"subject": func(e *store.Event) { e.Subject = "x" }, "request": func(e *store.Event) { e.RequestID = "x" },
		"detail": func(e *store.Event) { e.Detail = []byte(`{}`) }, "moved border": func(e *store.Event) { e.Action, e.Outcome = "aok", "" },
	} {
		c := e
		change(&c)
		if other, taken := seen[string(c.Digest())]; taken {
			t.Errorf("a change of %s has the digest of %s", name, other)
		}
		seen[string(c.Digest())] = name
	}
}

func TestAuditTailPages(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		other := storetest.Open(t, url, "node-2")
		for i := range 25 { // several of one time, on two nodes
			e := event(fmt.Sprint(i))
			e.At = base.Add(time.Duration(i/4) * time.Second)
			noErr(t, []*store.Store{s, other}[i%2].AppendAudit(ctx, e))
		}
		var got []store.Event
		for before := ""; ; {
			page, next, err := s.AuditTail(ctx, 7, before)
			noErr(t, err)
			got = append(got, page...)
			if before = next; next == "" {
				break
			}
		}
		if len(got) != 25 || got[0].At.Before(got[24].At) {
			t.Errorf("%d events from %s to %s", len(got), got[0].At, got[len(got)-1].At)
		}
		for _, bad := range []string{"x", "!!", "MSAy", "MSB4IG4", "eCAxIG4"} {
			_, _, err := s.AuditTail(ctx, 7, bad)
			wantKind(t, err, fault.Malformed)
		}
	})
}

func TestDeleteAuditBeforeKeepsTheHead(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		ctx := context.Background()
		var events []store.Event
		for i := range 1203 {
			events = append(events, event(fmt.Sprint(i)))
		}
		noErr(t, s.AppendAudit(ctx, events...))
		if n, err := s.DeleteAuditBefore(ctx, "node-1", 11); n != 10 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := s.DeleteAuditBefore(ctx, "node-1", 5000); n != 1192 || err != nil {
			t.Fatal(n, err)
		}
		again := storetest.Open(t, url, "node-1")
		noErr(t, again.AppendAudit(ctx, event("next")))
		checkChains(t, s)
		if heads, err := s.AuditHeads(ctx); err != nil || heads[0].Seq != 1204 {
			t.Errorf("heads %v, %v", heads, err)
		}
	})
}

func TestCheckpoints(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		_, err := s.LastCheckpoint(ctx)
		wantNotFound(t, err)
		var want []store.Checkpoint
		for i := range 3 {
			c := store.Checkpoint{ID: fmt.Sprint("c", i), Node: "node-1", At: cut(base.Add(time.Duration(i) * time.Minute)),
				Heads: []store.Head{{Node: "node-1", Seq: int64(i), Hash: []byte{byte(i)}}}, KeyID: "k", Signature: []byte{9}}
			noErr(t, s.PutCheckpoint(ctx, c))
			want = append(want, c)
		}
		got, err := s.Checkpoints(ctx, "c0", 10)
		noErr(t, err)
		if diff := cmp.Diff(want[1:], got); diff != "" {
			t.Errorf("checkpoints (-want +got):\n%s", diff)
		}
		if n, err := s.DeleteCheckpointsBefore(ctx, base.Add(time.Hour)); n != 2 || err != nil {
			t.Errorf("deleted %d, %v; want all but the newest", n, err)
		}
		last, err := s.LastCheckpoint(ctx)
		if err != nil || last.ID != "c2" {
			t.Errorf("last %+v, %v", last, err)
		}
		wantKind(t, s.PutCheckpoint(ctx, want[2]), fault.Conflict)
	})
}
