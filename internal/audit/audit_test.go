package audit_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// record is a store with one chain of events and the keeper of its checkpoints.
type record struct {
	*store.Store
	keeper  *audit.Keeper
	key     ed25519.PublicKey
	private ed25519.PrivateKey
	folder  audit.Folder
	now     time.Time
}

func newRecord(t *testing.T, s *store.Store, events int) *record {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &record{Store: s, key: pub, private: key, now: time.Now(), folder: audit.FolderIn(t.TempDir())}
	r.keeper, err = audit.NewKeeper(s, key, s.Node(), r.folder, func() time.Time { r.now = r.now.Add(time.Second); return r.now },
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.keeper.Open(t.Context(), "former"); err != nil {
		t.Fatal(err)
	}
	r.add(t, events)
	if err := r.keeper.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *record) add(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		r.now = r.now.Add(time.Second)
		err := r.AppendAudit(t.Context(), store.Event{At: r.now, Action: "test.act", Outcome: "success", Actor: "uid:0", Subject: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (r *record) verify(t *testing.T, archives ...string) *audit.Report {
	t.Helper()
	v := audit.Verifier{Store: r.Store, Keys: []crypto.PublicKey{r.key}, Archives: archives}
	report, err := v.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// first returns the sequence number of the first finding, or -1 for none.
func first(r *audit.Report) int64 {
	if len(r.Findings) == 0 {
		return -1
	}
	return r.Findings[0].Seq
}

func TestVerifyFindsTheFirstBadEvent(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper []string
		want   int64 // 0 is a finding about a checkpoint
	}{
		"untouched":           {nil, -1},
		"altered":             {[]string{`UPDATE audit_events SET subject = 'other' WHERE seq = 5`}, 5},
		"altered, rehashed":   {[]string{`UPDATE audit_events SET actor = 'x', hash = prev WHERE seq = 5`}, 5},
		"deleted inside":      {[]string{`DELETE FROM audit_events WHERE seq = 5`}, 6},
		"deleted at the end":  {[]string{`DELETE FROM audit_events WHERE seq >= 9`}, 9},
		"deleted at the head": {[]string{`DELETE FROM audit_events WHERE seq <= 4`}, 5},
		"deleted whole":       {[]string{`DELETE FROM audit_events`}, 1},
		"swapped": {[]string{
			`UPDATE audit_events SET seq = 1000 WHERE seq = 5`, `UPDATE audit_events SET seq = 5 WHERE seq = 6`,
			`UPDATE audit_events SET seq = 6 WHERE seq = 1000`,
		}, 5},
		"checkpoint altered": {[]string{`UPDATE audit_checkpoints SET heads = REPLACE(heads, '1', '2')`}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
				r := newRecord(t, s, 10)
				storetest.Exec(t, url, tt.tamper...)
				report := r.verify(t)
				if got := first(report); got != tt.want {
					t.Errorf("first finding %d %v, want event %d", got, report.Findings, tt.want)
				}
			})
		})
	}
}

func TestVerifyNeedsTheKey(t *testing.T) {
	r := newRecord(t, storetest.SQLite(t), 1)
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := audit.Verifier{Store: r.Store, Keys: []crypto.PublicKey{other}}
	report, err := v.Verify(t.Context())
	if err != nil || len(report.Findings) == 0 {
		t.Errorf("checkpoints of an unknown key gave %v, %v; want findings", report, err)
	}
}

func TestArchive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newRecord(t, s, 10)
		cut := r.now.Add(time.Minute)
		r.now = cut
		r.add(t, 5) // after the cut: they stay
		dir := t.TempDir()
		files, err := r.keeper.Archive(t.Context(), dir, cut)
		if err != nil || len(files) != 1 {
			t.Fatalf("Archive = %v, %v; want one segment", files, err)
		}
		kept, err := r.AuditEvents(t.Context(), s.Node(), 0, 100)
		if err != nil || len(kept) != 5 {
			t.Fatalf("%d events kept, %v; want the 5 after the cut", len(kept), err)
		}
		if report := r.verify(t); first(report) != -1 {
			t.Errorf("without the archive: %v", report.Findings)
		}
		if report := r.verify(t, files...); first(report) != -1 || report.Events != 16 {
			t.Errorf("with the archive: %d events, %v; want 16 and no finding", report.Events, report.Findings)
		}
		if again, err := r.keeper.Archive(t.Context(), dir, cut); err != nil || len(again) != 0 {
			t.Errorf("a second Archive = %v, %v; want nothing to do", again, err)
		}

		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(dir, "bad.jsonl")
		text[len(text)/2] ^= 1
		if err := os.WriteFile(bad, text, 0o600); err != nil {
			t.Fatal(err)
		}
		v := audit.Verifier{Store: r.Store, Keys: []crypto.PublicKey{r.key}, Archives: []string{bad}}
		if report, err := v.Verify(t.Context()); err == nil && first(report) == -1 {
			t.Error("an altered segment was not noticed")
		}
	})
}

// inFolder verifies with the segments of a folder.
func (r *record) inFolder(t *testing.T, dir string, each func(*store.Event)) *audit.Report {
	t.Helper()
	v := audit.Verifier{Store: r.Store, Keys: []crypto.PublicKey{r.key}, Dir: dir, Each: each}
	report, err := v.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// The segments of a folder are found, and what is in none is counted.
func TestFT12_Folder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newRecord(t, s, 10)
		r.now = r.now.Add(time.Minute)
		cut, dir := r.now, t.TempDir()
		r.add(t, 5)
		if _, err := r.keeper.Archive(t.Context(), dir, cut); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"notes.txt", ".privyseal-1", "audit.log"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("not ours"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if report := r.inFolder(t, dir, nil); first(report) != -1 || report.Events != 16 || report.NotRead() != 0 {
			t.Errorf("%+v; want 16 events", report)
		}
		report := r.inFolder(t, filepath.Join(dir, "gone"), nil)
		if first(report) != -1 || report.Events != 5 || report.NotRead() != 11 {
			t.Errorf("without the folder: %+v; want 5 events and 11 not read", report)
		}
	})
}

// Events that are archived while the record is read are neither missed nor missing.
func TestFT12_ArchivedMeanwhile(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := newRecord(t, s, 0)
		var many []store.Event
		for range 1500 {
			many = append(many, store.Event{At: r.now, Action: "test.act", Outcome: "success", Actor: "uid:0"})
		}
		if err := r.AppendAudit(t.Context(), many...); err != nil {
			t.Fatal(err)
		}
		if err := r.keeper.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(time.Minute)
		cut, dir := r.now, t.TempDir()
		r.add(t, 5)
		report := r.inFolder(t, dir, func(e *store.Event) {
			if e.Seq != 1 {
				return
			}
			if files, err := r.keeper.Archive(t.Context(), dir, cut); err != nil || len(files) != 1 {
				t.Errorf("Archive = %v, %v", files, err)
			}
		})
		if first(report) != -1 || report.Events != 1506 || report.NotRead() != 0 {
			t.Errorf("%d events, %d not read, %v; want 1506", report.Events, report.NotRead(), report.Findings)
		}
	})
}

func TestFT12_Probe(t *testing.T) {
	dir := t.TempDir()
	if err := audit.Probe(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "gone"), file} {
		if err := audit.Probe(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestArchiveOfAnEndedChain(t *testing.T) {
	r := newRecord(t, storetest.SQLite(t), 10)
	r.now = r.now.Add(time.Minute)
	files, err := r.keeper.Archive(t.Context(), t.TempDir(), r.now)
	if err != nil || len(files) != 1 {
		t.Fatalf("Archive = %v, %v", files, err)
	}
	for _, archives := range [][]string{nil, files} {
		if report := r.verify(t, archives...); first(report) != -1 {
			t.Errorf("with archives %v: %v", archives, report.Findings)
		}
	}
}

func TestCloseLeavesAChainThatVerifies(t *testing.T) {
	r := newRecord(t, storetest.SQLite(t), 3)
	if err := r.keeper.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := r.verify(t)
	if first(report) != -1 || report.Events != 5 || report.Checkpoints != 3 {
		t.Errorf("%+v; want opened, 3 acts, closed under 3 checkpoints", report)
	}
}
