package verify_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

// Certificates whose intents were archived are held against the segments; without
// those one finding says for how many there is no telling.
func TestFT12_ArchivedIntents(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keeper, err := audit.NewKeeper(s, key, s.Node(), audit.FolderIn(t.TempDir()), time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		issued(t, s, 3)
		if err := keeper.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		cut, dir := time.Now().Add(time.Minute), t.TempDir()
		if err := s.AppendAudit(t.Context(), store.Event{At: cut, Action: "test.act", Outcome: "success"}); err != nil {
			t.Fatal(err)
		}
		if files, err := keeper.Archive(t.Context(), dir, cut); err != nil || len(files) != 1 {
			t.Fatalf("Archive = %v, %v", files, err)
		}
		for folder, want := range map[string]string{
			dir: "", filepath.Join(dir, "gone"): "gone has no segment of them; name the segments with --archive",
			"": "audit.archive is not configured",
		} {
			r, err := verify.CheckCA(t.Context(), s, verify.Config{
				AuditKeys: []crypto.PublicKey{pub}, Archive: folder, Now: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
			if want == "" && len(r.Findings) == 0 {
				continue
			}
			if len(r.Findings) != 1 || want == "" || !strings.Contains(r.Findings[0].What, want) ||
				!strings.HasPrefix(r.Findings[0].What, "3 certificates could not be held") {
				t.Errorf("folder %q: %v; want %q", folder, r.Findings, want)
			}
		}
	})
}
