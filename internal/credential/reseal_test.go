package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func resealer(st *store.Store, sealer *seal.Sealer) *Resealer {
	return NewResealer(st, sealer, time.Now)
}

// sealedStore holds what is sealed under the key 1: more EAB keys than fit into a page,
// a shared secret, and one in the form of owncert.Sealed.
func sealedStore(t *testing.T, st *store.Store) (kids []string) {
	t.Helper()
	before := newSealer(t, kek(1))
	for i := range resealPage + 1 {
		kid := fmt.Sprintf("k%05d", i)
		key := store.EABKey{KID: kid, HMAC: before.Seal(eabName(kid), []byte(kid)), CreatedBy: "test", CreatedAt: time.Now()}
		if err := st.CreateEAB(t.Context(), key, store.Event{At: time.Now(), Action: "eab.created"}); err != nil {
			t.Fatal(err)
		}
		kids = append(kids, kid)
	}
	if _, err := SharedSecret(t.Context(), st, before, "acme-nonce", 32); err != nil {
		t.Fatal(err)
	}
	if _, err := st.PutSecretOnce(t.Context(), "scep-ra:e:i", before.Seal("scep-ra:e:i", []byte("ra"))); err != nil {
		t.Fatal(err)
	}
	return kids
}

// reseal goes on until there is no page left.
func reseal(ctx context.Context, r *Resealer, dryRun bool) (total Resealed, err error) {
	for {
		ev := store.Event{At: time.Now(), Action: "secrets.resealed", Outcome: "success"}
		page, err := r.Page(ctx, total.Next, dryRun, ev)
		if err != nil {
			return total, err
		}
		total.Checked, total.Again, total.Next = total.Checked+page.Checked, total.Again+page.Again, page.Next
		total.Unopened = append(total.Unopened, page.Unopened...)
		if page.Next == "" {
			return total, nil
		}
	}
}

func mustReseal(t *testing.T, r *Resealer, dryRun bool, checked, again, unopened int) Resealed {
	t.Helper()
	got, err := reseal(t.Context(), r, dryRun)
	if err != nil || got.Checked != checked || got.Again != again || len(got.Unopened) != unopened {
		t.Fatalf("reseal: %d checked, %d again, %d unopened, %v; want %d, %d, %d",
			got.Checked, got.Again, len(got.Unopened), err, checked, again, unopened)
	}
	return got
}

// After a reseal everything opens under the new key alone.
func TestFT17_Reseal(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		kids := sealedStore(t, st)
		all := len(kids) + 2
		during := resealer(st, newSealer(t, kek(2), kek(1)))
		mustReseal(t, during, true, all, all, 0)
		uses, err := during.Uses(t.Context())
		if err != nil || len(uses) != 1 || uses[0].ID != newSealer(t, kek(1)).Keys()[0].ID || uses[0].Secrets != all ||
			uses[0].What != "201 EAB keys (k00000 and others), 2 shared secrets (acme-nonce and others)" {
			t.Errorf("a dry run changed something, or the uses are wrong: %+v, %v", uses, err)
		}
		missing := mustReseal(t, resealer(st, newSealer(t, kek(2))), false, all, 0, all)
		if u := missing.Unopened[0]; u.Kind != "EAB key" || u.ID != "k00000" || !errors.Is(u.Err, seal.ErrKey) {
			t.Errorf("without the old key: %+v", u)
		}
		// One page, then the process is gone.
		if _, err := during.Page(t.Context(), "", false, store.Event{At: time.Now(), Action: "secrets.resealed"}); err != nil {
			t.Fatal(err)
		}
		mustReseal(t, during, false, all, all-resealPage, 0)
		mustReseal(t, during, false, all, 0, 0)
		mustReseal(t, resealer(st, newSealer(t, kek(2))), true, all, 0, 0)
		if uses, err := during.Uses(t.Context()); err != nil || len(uses) != 1 || uses[0].ID != during.sealer.Keys()[0].ID {
			t.Errorf("uses afterwards: %+v, %v", uses, err)
		}
		hmac, _, err := NewEAB(st, newSealer(t, kek(2)), time.Now).Key(t.Context(), kids[7], "")
		if err != nil || string(hmac) != kids[7] {
			t.Errorf("an EAB key afterwards: %q, %v", hmac, err)
		}
		ra, err := st.Secret(t.Context(), "scep-ra:e:i")
		if plain, openErr := newSealer(t, kek(2)).Open("scep-ra:e:i", ra); err != nil || openErr != nil || string(plain) != "ra" {
			t.Errorf("the RA's secret afterwards: %q, %v, %v", plain, err, openErr)
		}
	})
}

// Nodes that reseal at once, and a key that is made meanwhile, disturb nobody.
func TestFT17_TwoAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, st *store.Store) {
		nodes := []*store.Store{st, st}
		if strings.HasPrefix(url, "postgres") { // one process has a SQLite file
			nodes[1] = storetest.Open(t, url, "node-2")
		}
		kids := sealedStore(t, st)
		var done sync.WaitGroup
		var mu sync.Mutex
		again := 0
		for _, node := range nodes {
			done.Go(func() {
				got, err := reseal(context.Background(), resealer(node, newSealer(t, kek(2), kek(1))), false)
				mu.Lock()
				defer mu.Unlock()
				if again += got.Again; err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if again != len(kids)+2 {
			t.Errorf("%d secrets were sealed again by two nodes, want each once: %d", again, len(kids)+2)
		}
		mustReseal(t, resealer(st, newSealer(t, kek(2))), false, len(kids)+2, 0, 0)
	})
}

// What was changed while a page was looked at stays as it was changed.
func TestFT17_ChangedMeanwhile(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		old := newSealer(t, kek(1)).Seal("n", []byte("old"))
		newer := newSealer(t, kek(1)).Seal("n", []byte("newer"))
		if _, err := st.PutSecretOnce(t.Context(), "n", newer); err != nil {
			t.Fatal(err)
		}
		n, err := st.Reseal(t.Context(), store.SealedSecrets,
			[]store.SealedAgain{{ID: "n", Was: old, Becomes: []byte("older")}}, store.Event{At: time.Now(), Action: "secrets.resealed"})
		kept, readErr := st.Secret(t.Context(), "n")
		if n != 0 || err != nil || readErr != nil || !bytes.Equal(kept, newer) {
			t.Errorf("replaced %d, %v; kept %q, %v", n, err, kept, readErr)
		}
	})
}

// A key that makes no more accounts needs no line, and altered secrets are told.
func TestFT17_WhatNeedsALine(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ended := time.Now().Add(-time.Hour)
		for kid, key := range map[string]store.EABKey{
			"disabled": {DisabledAt: &ended}, "expired": {ExpiresAt: &ended}, "used-up": {MaxUses: 1, Uses: 1}, "active": {MaxUses: 1},
		} {
			key.KID, key.CreatedBy, key.CreatedAt = kid, "test", ended
			key.HMAC = newSealer(t, kek(1)).Seal(eabName(kid), []byte(kid))
			if err := st.CreateEAB(t.Context(), key, store.Event{At: ended, Action: "eab.created"}); err != nil {
				t.Fatal(err)
			}
		}
		r := resealer(st, newSealer(t, kek(2), kek(1)))
		if uses, err := r.Uses(t.Context()); err != nil || len(uses) != 1 || uses[0].What != "EAB key active" {
			t.Errorf("uses: %+v, %v", uses, err)
		}
		if _, err := st.PutSecretOnce(t.Context(), "altered", newSealer(t, kek(1)).Seal("another", nil)); err != nil {
			t.Fatal(err)
		}
		got := mustReseal(t, r, false, 5, 4, 1)
		if u := got.Unopened[0]; u.ID != "altered" || !errors.Is(u.Err, seal.ErrBroken) {
			t.Errorf("altered: %+v", u)
		}
	})
}

func FuzzResealCursor(f *testing.F) {
	for _, cursor := range []string{"", "0/", "1/61", "2/", "-1/", "0/zz", "9999999999999999999/"} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		at, _, err := parseResealCursor(cursor)
		if at < 0 || at >= len(sealed) || err != nil && !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %d, %v", cursor, at, err)
		}
	})
}

// The audit record has each page.
func TestFT17_OnRecord(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		sealedStore(t, st)
		mustReseal(t, resealer(st, newSealer(t, kek(2), kek(1))), false, resealPage+3, resealPage+3, 0)
		events, _, err := st.AuditTail(t.Context(), 10, "")
		if err != nil {
			t.Fatal(err)
		}
		events = slices.DeleteFunc(events, func(e store.Event) bool { return e.Action != "secrets.resealed" })
		if len(events) != 3 || string(events[2].Detail) != `{"kind":"EAB key","secrets":200}` ||
			events[0].Subject != "kek:"+newSealer(t, kek(2)).Keys()[0].ID.String() {
			t.Errorf("events: %+v", events)
		}
	})
}
