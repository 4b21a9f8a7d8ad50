package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// heard collects what Changes tells.
type heard struct {
	mu      sync.Mutex
	changes []store.Change
}

func listen(t *testing.T, s *store.Store) *heard {
	t.Helper()
	h := &heard{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		s.Changes(ctx, func(c store.Change) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changes = append(h.changes, c)
		})
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return h
}

func (h *heard) has(c store.Change) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, got := range h.changes {
		if got == c {
			return true
		}
	}
	return false
}

func (h *heard) await(t *testing.T, c store.Change) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if h.has(c) {
			return
		}
	}
	t.Fatalf("%+v was not told, but %+v", c, h.changes)
}

func TestChangesOfThisProcess(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		putIssuer(t, s, "ca-1")
		c := issue(t, s, newCertificate("order:1", "a.example.test"))
		h := listen(t, s)
		time.Sleep(100 * time.Millisecond) // connected, and said so
		h.mu.Lock()
		h.changes = nil
		h.mu.Unlock()
		noErr(t, s.Revoke(context.Background(), c.ID, store.Revocation{RevokedAt: base}, false, event("certificate.revoked")))
		h.await(t, store.Change{})
	})
}

func TestChangesOfAnotherNode(t *testing.T) {
	dsn := storetest.PostgresURL(t)
	one, two := storetest.Open(t, dsn, "node-1"), storetest.Open(t, dsn, "node-2")
	noErr(t, one.Migrate(context.Background()))
	putIssuer(t, one, "ca-1")
	h := listen(t, two)
	h.await(t, store.Change{})
	void := newCertificate("order:2", "b.example.test")
	noErr(t, one.Reserve(context.Background(), void, nil, event("certificate.intent")))
	noErr(t, one.Abandon(context.Background(), void.ID, true, event("certificate.void")))
	h.await(t, store.Change{IssuerID: "ca-1", Seq: 1})

	// Many at once: every batch is told once, with the last sequence.
	var all sync.WaitGroup
	for i := range 50 {
		c := issue(t, one, newCertificate(fmt.Sprint("order:m", i), "c.example.test"))
		all.Go(func() {
			noErr(t, one.Revoke(context.Background(), c.ID, store.Revocation{RevokedAt: base}, false, event("certificate.revoked")))
		})
	}
	all.Wait()
	h.await(t, store.Change{IssuerID: "ca-1", Seq: 51})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.changes) > 52 {
		t.Errorf("%d notifications of 51 changes", len(h.changes))
	}
}

func TestChangesConnectAgain(t *testing.T) {
	dsn := storetest.PostgresURL(t)
	one, two := storetest.Open(t, dsn, "node-1"), storetest.Open(t, dsn, "node-2")
	noErr(t, one.Migrate(context.Background()))
	putIssuer(t, one, "ca-1")
	h := listen(t, two)
	h.await(t, store.Change{})
	storetest.Exec(t, dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'listen privyseal_revocations'`)
	for i := 0; !h.has(store.Change{IssuerID: "ca-1", Seq: int64(i)}) || i == 0; i++ {
		c := issue(t, one, newCertificate(fmt.Sprint("order:r", i), "a.example.test"))
		noErr(t, one.Revoke(context.Background(), c.ID, store.Revocation{RevokedAt: base}, false, event("certificate.revoked")))
		time.Sleep(50 * time.Millisecond)
		if i == 100 {
			t.Fatalf("nothing is told any more: %+v", h.changes)
		}
	}
}

func TestStandings(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		good := issue(t, s, newCertificate("order:1", "a.example.test"))
		revoked := issue(t, s, newCertificate("order:2", "b.example.test"))
		reserved := newCertificate("order:3", "c.example.test")
		noErr(t, s.Reserve(ctx, reserved, nil, event("certificate.intent")))
		noErr(t, s.Revoke(ctx, revoked.ID, store.Revocation{Reason: pki.Superseded, RevokedAt: base}, false, event("certificate.revoked")))
		foreign := newCertificate("order:4", "d.example.test")
		foreign.IssuerID, foreign.Serial = "ca-2", pki.NewSerial()
		issue(t, s, foreign)
		found, seq, err := s.Standings(ctx, "ca-1", []pki.Serial{good.Serial, revoked.Serial, reserved.Serial, foreign.Serial, pki.NewSerial()})
		noErr(t, err)
		if seq != 1 || len(found) != 3 || found[good.Serial].Status != "issued" || found[good.Serial].Revocation != nil ||
			found[reserved.Serial].Status != "reserved" || found[revoked.Serial].Revocation == nil {
			t.Fatalf("sequence %d, %+v", seq, found)
		}
		if r := found[revoked.Serial].Revocation; r.Reason != pki.Superseded || !r.RevokedAt.Equal(base.Truncate(time.Microsecond)) {
			t.Errorf("%+v", r)
		}
		stamps, err := s.ChangedSince(ctx, "ca-1", 0, 10)
		noErr(t, err)
		want := []store.Stamp{{Serial: revoked.Serial, Seq: 1, RevokedAt: base.Truncate(time.Microsecond).UTC()}}
		if diff := cmp.Diff(want, stamps); diff != "" {
			t.Error(diff)
		}
		all, err := s.RevocationSequences(ctx)
		noErr(t, err)
		if all["ca-1"].Revocation != 1 {
			t.Errorf("%+v", all)
		}
		_, _, err = s.Standings(ctx, "ca-9", []pki.Serial{good.Serial})
		wantNotFound(t, err)
	})
}

func TestOCSPResponders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		at := base.Truncate(time.Microsecond).UTC()
		var want []store.OCSPResponder
		for i, id := range []string{"new", "old"} {
			r := store.OCSPResponder{CertificateID: id, IssuerID: "ca-1", Serial: "01", Node: "node-1", KeyRef: id + ".key",
				Certificate: []byte("der"), NotBefore: at, NotAfter: at.Add(time.Duration(2-i) * time.Hour), CreatedAt: at}
			noErr(t, s.PutOCSPResponder(ctx, r))
			want = append(want, r)
		}
		got, err := s.OCSPResponders(ctx, "ca-1")
		noErr(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		p, err := s.Purge(ctx, at.Add(90*time.Minute), 10)
		noErr(t, err)
		if got, _ = s.OCSPResponders(ctx, "ca-1"); p.Responders != 1 || len(got) != 1 || got[0].CertificateID != "new" {
			t.Errorf("purged %+v, left %+v", p, got)
		}
	})
}
