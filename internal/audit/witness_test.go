package audit_test

import (
	"crypto"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// again is the keeper of the same node's next process, over a store and a folder.
func (r *record) again(t *testing.T, s *store.Store, folder audit.Folder) *audit.Keeper {
	t.Helper()
	k, err := audit.NewKeeper(s, r.private, s.Node(), folder, func() time.Time { r.now = r.now.Add(time.Second); return r.now },
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Open(t.Context(), r.Node()); err != nil {
		t.Fatal(err)
	}
	return k
}

func (r *record) witnessed(t *testing.T) *audit.Report {
	t.Helper()
	v := audit.Verifier{Store: r.Store, Keys: []crypto.PublicKey{r.key}, Folder: &r.folder}
	report, err := v.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// reopen opens the store once more, as another process does.
func reopen(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url, Node: store.NewID()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestFT1_TheStateFolderIsAWitness: a record that was set back, cut or rewritten is
// found, also when all its checkpoints say nothing of it, until an operator accepts
// it; and what happens later is found again.
func TestFT1_TheStateFolderIsAWitness(t *testing.T) {
	for name, tamper := range map[string][]string{
		"newest chain deleted": {`DELETE FROM audit_events`, `DELETE FROM audit_checkpoints`},
		"cut":                  {`DELETE FROM audit_events WHERE seq > 5`, `DELETE FROM audit_checkpoints`},
		"head cut off":         {`DELETE FROM audit_events WHERE seq < 5`, `DELETE FROM audit_checkpoints`},
		"rewritten": {
			`UPDATE audit_events SET hash = prev WHERE seq = 11`, `DELETE FROM audit_checkpoints`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
				r := newRecord(t, s, 10)
				if report := r.witnessed(t); first(report) != -1 || len(report.Warnings) > 0 {
					t.Fatalf("untouched: %+v", report)
				}
				storetest.Exec(t, url, tamper...)
				s = reopen(t, url)
				k := r.again(t, s, r.folder)
				looked := name == "head cut off" || len(k.Condition().Findings) == 1 // that is for verify
				if report := r.witnessed(t); first(report) < 1 || !looked {
					t.Fatalf("verify: %v, the next process: %+v", report.Findings, k.Condition())
				}
				found, err := k.Accept(t.Context(), "an old backup", "uid:0", "r")
				if err != nil || len(found) != 1 {
					t.Fatalf("accept: %v, %v", found, err)
				}
				if report := r.witnessed(t); first(report) != -1 || report.Accepted == 0 || k.Condition().String() != "" {
					t.Errorf("accepted: %+v, %+v", report, k.Condition())
				}
				if _, err := k.Accept(t.Context(), "again", "uid:0", "r"); fault.Of(err).Reason != "audit_sound" {
					t.Errorf("nothing to accept: %v", err)
				}
				if k = r.again(t, reopen(t, url), r.folder); k.Condition().String() != "" {
					t.Errorf("the process after that: %+v", k.Condition())
				}
				storetest.Exec(t, url, `DELETE FROM audit_events WHERE node = '`+s.Node()+`'`, `DELETE FROM audit_checkpoints`)
				if report := r.witnessed(t); first(report) < 1 {
					t.Error("what was deleted after that is not found")
				}
			})
		})
	}
}

// TestFT1_AFolderWithoutAWitness: it is a warning until somebody looked.
func TestFT1_AFolderWithoutAWitness(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		r := newRecord(t, s, 3)
		r.folder = audit.FolderIn(t.TempDir())
		if report := r.witnessed(t); len(report.Warnings) != 1 {
			t.Errorf("no folder: %+v", report)
		}
		r.again(t, reopen(t, url), r.folder)
		k := r.again(t, reopen(t, url), r.folder) // time alone mends nothing
		if report := r.witnessed(t); len(report.Warnings) != 1 || !k.Condition().Late || first(report) != -1 {
			t.Errorf("a new folder: %+v, %+v", report, k.Condition())
		}
		for _, reason := range []string{"", " ", strings.Repeat("x", 1001)} {
			if _, err := k.Accept(t.Context(), reason, "uid:0", "r"); fault.Of(err).Reason != "audit_reason" {
				t.Errorf("reason of %d octets: %v", len(reason), err)
			}
		}
		if _, err := k.Accept(t.Context(), "a new host", "uid:0", "r"); err != nil {
			t.Fatal(err)
		}
		if report := r.witnessed(t); len(report.Warnings) != 0 || k.Condition().Late {
			t.Errorf("accepted: %+v", report)
		}
	})
}

// TestFT1_AcceptanceIsSigned: who can write to the database alone accepts nothing,
// and what one node was told holds for the others.
func TestFT1_AcceptanceIsSigned(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		r := newRecord(t, s, 10)
		other := audit.FolderIn(t.TempDir())
		r.again(t, reopen(t, url), other)
		storetest.Exec(t, url, `DELETE FROM audit_events WHERE node = '`+s.Node()+`' AND seq > 5`, `DELETE FROM audit_checkpoints`)
		k := r.again(t, reopen(t, url), r.folder)
		if err := s.AppendAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
		forged := store.Event{At: r.now, Action: audit.ActionAccepted, Outcome: "success", Actor: "uid:0",
			Detail: []byte(`{"id":"x","up_to":{"` + s.Node() + `":99},"key_id":"","signature":"AAAA"}`)}
		at := reopen(t, url)
		if err := at.AppendAudit(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
		if report := r.witnessed(t); first(report) < 1 {
			t.Fatal("a forged acceptance is taken")
		}
		if _, err := k.Accept(t.Context(), "known", "uid:0", "r"); err != nil {
			t.Fatal(err)
		}
		if second := r.again(t, reopen(t, url), other); len(second.Condition().Findings) > 0 {
			t.Errorf("the other node was not told: %+v", second.Condition())
		}
	})
}
