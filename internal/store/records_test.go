package store_test

import (
	"bytes"
	"context"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestNewIDsSortByTime(t *testing.T) {
	var ids []string
	for range 50 {
		ids = append(ids, store.NewID())
		time.Sleep(time.Millisecond) // ids of one quarter millisecond are in no order
	}
	if !sort.StringsAreSorted(ids) || len(ids[0]) != 36 || ids[0][14] != '7' {
		t.Errorf("ids %v", ids[:3])
	}
}

func TestLimitIsGCRA(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		take := func(after time.Duration) (bool, time.Duration) {
			ok, wait, err := s.UpdateLimit(ctx, "k", base.Add(after), time.Minute, 2*time.Minute)
			noErr(t, err)
			return ok, wait
		}
		for i, step := range []struct {
			after time.Duration
			ok    bool
			wait  time.Duration
		}{
			{0, true, 0}, {0, true, 0}, {0, true, 0}, {0, false, time.Minute}, {30 * time.Second, false, 30 * time.Second},
			{time.Minute, true, 0}, {time.Minute, false, time.Minute}, {time.Hour, true, 0}, {time.Hour, true, 0}, {time.Hour, true, 0}, {time.Hour, false, time.Minute},
		} {
			if ok, wait := take(step.after); ok != step.ok || wait.Round(time.Millisecond) != step.wait {
				t.Errorf("step %d: %t, wait %s; want %t, %s", i, ok, wait, step.ok, step.wait)
			}
		}
		noErr(t, s.ClearLimit(ctx, "k"))
		if ok, _ := take(time.Hour); !ok {
			t.Error("a cleared limit refuses")
		}
		if wait, err := s.LimitWait(ctx, "unknown", base, 0); wait != 0 || err != nil {
			t.Error(wait, err)
		}
	})
}

func TestLeases(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		acquire := func(holder string, after time.Duration) (int64, bool) {
			token, ok, err := s.AcquireLease(ctx, "l", holder, base.Add(after), time.Minute)
			noErr(t, err)
			return token, ok
		}
		renew := func(token int64, after time.Duration) bool {
			ok, err := s.RenewLease(ctx, "l", token, base.Add(after), time.Minute)
			noErr(t, err)
			return ok
		}
		if token, ok := acquire("a", 0); !ok || token != 1 {
			t.Fatal(token, ok)
		}
		if _, ok := acquire("b", 59*time.Second); ok || !renew(1, 59*time.Second) {
			t.Error("a held lease was acquired, or not renewed")
		}
		if _, ok := acquire("b", 90*time.Second); ok {
			t.Error("a renewed lease was acquired")
		}
		if token, ok := acquire("b", 2*time.Minute); !ok || token != 2 || renew(1, 2*time.Minute) {
			t.Error("a lease that ran out was not acquired, or the old holder renewed it")
		}
		noErr(t, s.ReleaseLease(ctx, "l", 1, base)) // the old holder has nothing to release
		if _, ok := acquire("c", 2*time.Minute); ok {
			t.Error("the wrong holder released the lease")
		}
		noErr(t, s.ReleaseLease(ctx, "l", 2, base.Add(2*time.Minute)))
		if token, ok := acquire("c", 2*time.Minute); !ok || token != 3 {
			t.Error("a released lease was not acquired, or its token did not rise", token)
		}
	})
}

func TestSecretsAndNodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		_, err := s.Secret(ctx, "nonce")
		wantNotFound(t, err)
		for _, value := range []string{"one", "two"} {
			if winner, err := s.PutSecretOnce(ctx, "nonce", []byte(value)); err != nil || string(winner) != "one" {
				t.Errorf("winner %q, %v", winner, err)
			}
		}
		noErr(t, s.ReplaceSecret(ctx, "nonce", []byte("one"), []byte("sealed anew")))
		wantKind(t, s.ReplaceSecret(ctx, "nonce", []byte("one"), []byte("late")), fault.Conflict)
		if got, err := s.Secret(ctx, "nonce"); err != nil || string(got) != "sealed anew" {
			t.Errorf("secret %q, %v", got, err)
		}
		noErr(t, s.Heartbeat(ctx, "b", "1", "old", base))
		noErr(t, s.Heartbeat(ctx, "a", "1", "x", base))
		noErr(t, s.Heartbeat(ctx, "b", "2", "new", base.Add(time.Second)))
		got, err := s.Nodes(ctx)
		noErr(t, err)
		want := []store.Node{{Node: "a", Epoch: "1", ConfigDigest: "x", SeenAt: cut(base)}, {Node: "b", Epoch: "2", ConfigDigest: "new", SeenAt: cut(base.Add(time.Second))}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("nodes (-want +got):\n%s", diff)
		}
	})
}

func TestCRLNumbersOnlyRise(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		putIssuer(t, s, "ca-1")
		record := func(shard int, number int64) store.CRLRecord {
			return store.CRLRecord{IssuerID: "ca-1", Shard: shard, Number: number, Size: 3_200_000, ThisUpdate: cut(base), NextUpdate: cut(base.Add(time.Hour)), SHA256: []byte{1}}
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // four rows
		noErr(t, s.PutCRL(ctx, record(0, 5), 0, bytes.NewReader(big)))
		noErr(t, s.PutCRL(ctx, record(1, 7), 0, strings.NewReader("other shard")))
		noErr(t, s.PutCRL(ctx, record(0, 6), 5, bytes.NewReader(big))) // taken before the other shard's 7
		for _, number := range []int64{5, 6} {
			wantKind(t, s.PutCRL(ctx, record(0, number), 6, strings.NewReader("late")), fault.Conflict)
		}
		got, der, err := s.LatestCRL(ctx, "ca-1", 0)
		noErr(t, err)
		want := record(0, 6)
		if diff := cmp.Diff(&want, got); diff != "" || !bytes.Equal(der, big) {
			t.Errorf("latest has %d bytes (-want +got):\n%s", len(der), diff)
		}
		if r, err := s.Issuer(ctx, "ca-1"); err != nil || r.LastCRLNumber != 7 {
			t.Errorf("issuer %+v, %v", r, err)
		}
		_, _, err = s.LatestCRL(ctx, "ca-1", 9)
		wantNotFound(t, err)
		wantKind(t, s.PutCRL(ctx, store.CRLRecord{IssuerID: "none", SHA256: []byte{1}}, 0, strings.NewReader("x")), fault.NotFound)
	})
}

// TestRowBudget counts what the store writes for one certificate with one name:
// order, challenge, finalize, issuance. At most six commits and fourteen rows.
func TestRowBudget(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		ctx := context.Background()
		a := newAccount(t, s)
		before := s.Stats()
		o := newOrder(t, s, a.ID, base.Add(time.Hour), "a.test")
		if ok, err := s.StartChallenge(ctx, o.AuthorizationIDs[0], "http-01", "t", base); !ok || err != nil {
			t.Fatal(ok, err)
		}
		ev := event("authorization.valid")
		noErr(t, s.FinishChallenge(ctx, o.AuthorizationIDs[0], "http-01", true, nil, nil, base, base.Add(time.Hour), &ev))
		noErr(t, s.StartFinalize(ctx, o.ID, []byte("csr"), "node-1", base))
		issue(t, s, newCertificate("order:"+o.ID, "a.test"))
		commits, rows := s.Stats().Commits-before.Commits, s.Stats().Rows-before.Rows
		t.Logf("%d commits, %d rows", commits, rows)
		if commits > 6 || rows > 14 {
			t.Errorf("%d commits and %d rows, want at most 6 and 14", commits, rows)
		}
	})
}
