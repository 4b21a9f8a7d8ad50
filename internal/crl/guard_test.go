package crl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// The clock jumps forward by a day and back: numbers rise, and the dates do not
// go back without a person's word.
func TestCRL_C1_ClockJumps(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	n.round(t)
	first := n.list(t, c, id)
	c.clock.add(25 * time.Hour)
	n.round(t)
	ahead := n.list(t, c, id)
	c.clock.add(-25 * time.Hour)
	cert := c.revoked(pki.KeyCompromise)
	n.round(t)
	if got := n.list(t, c, id); got.Number.Cmp(ahead.Number) != 0 {
		t.Errorf("a list dated %s replaced one dated %s", got.ThisUpdate, ahead.ThisUpdate)
	}
	if _, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"}); err == nil {
		t.Error("a list of an earlier date was published")
	} else {
		wantReason(t, err, "crl_clock")
	}
	if alarms := strings.Join(n.Alarms(), "\n"); !strings.Contains(alarms, "look at the clock") {
		t.Errorf("alarms: %s", alarms)
	}
	_, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0", ClockWasWrong: true})
	check(t, err)
	last := n.list(t, c, id)
	if last.Number.Cmp(ahead.Number) <= 0 || has(last, cert) < 0 || last.ThisUpdate.After(c.clock.now()) || last.Number.Cmp(first.Number) <= 0 {
		t.Errorf("after the correction: number %d of %s", last.Number, last.ThisUpdate)
	}
	for _, a := range n.Alarms() {
		if strings.HasPrefix(a, id+":") {
			t.Errorf("the alarm stays: %s", a)
		}
	}
	// A small step back, as clock synchronisation makes, needs nobody.
	c.clock.add(-3 * time.Minute)
	c.revoked(pki.KeyCompromise)
	c.clock.add(time.Second)
	_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
	check(t, err)
}

var errCrash = errors.New("the process is killed here")

// A process that dies between taking the number and the signature, or between the
// signature and the publication, leaves a gap in the numbers and nothing else.
func TestCRL_C1_KilledDuringAPublish(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		dir := t.TempDir()
		n := c.node(s, dir)
		n.round(t)
		first := n.list(t, c, id)
		cert := c.revoked(pki.Superseded)

		c.key.before = func() error { return errCrash } // before the signature
		c.clock.add(time.Hour)
		if _, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"}); !errors.Is(err, errCrash) {
			t.Fatalf("published without a key: %v", err)
		}
		row, err := s.Issuer(t.Context(), id)
		check(t, err)
		if row.LastCRLNumber <= first.Number.Int64() {
			t.Errorf("no number was taken before the signature: %d", row.LastCRLNumber)
		}
		taken := row.LastCRLNumber
		c.key.before = nil

		// After the signature: a list of which the last piece never came.
		storetest.Exec(t, url, `INSERT INTO crls (issuer_id, shard, number, this_update, next_update, sha256, size, entries, revocation_seq, complete)
			SELECT issuer_id, shard, number + 1, this_update, next_update, sha256, size, entries, revocation_seq, `+no(url)+` FROM crls`)
		n = c.node(s, dir) // the next process
		n.round(t)
		if got := n.list(t, c, id); got.Number.Cmp(first.Number) != 0 || has(got, cert) >= 0 {
			t.Errorf("after the crash list %d is served, want %d", got.Number, first.Number)
		}
		c.clock.add(time.Hour)
		_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		if got := n.list(t, c, id); got.Number.Int64() <= taken || has(got, cert) != int(pki.Superseded) {
			t.Errorf("list %d follows the number %d that was taken", got.Number, taken)
		}
		if got := storetest.Count(t, url, `SELECT count(*) FROM crls WHERE complete = `+no(url)); got != 0 {
			t.Errorf("%d unfinished lists are left", got)
		}
	})
}

// no is a false boolean of the engine.
func no(url string) string {
	if strings.HasPrefix(url, "sqlite:") {
		return "0"
	}
	return "false"
}

// A crash that leaves half a file on disk: it is cleared away or set aside, and
// the list comes from the store.
func TestCRL_C10_DamagedFolder(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	dir := t.TempDir()
	n := c.node(c.store, dir)
	n.round(t)
	want := n.list(t, c, id)
	files, err := filepath.Glob(filepath.Join(dir, "web-1.*.crl"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	der, err := os.ReadFile(files[0])
	check(t, err)
	check(t, os.WriteFile(files[0], der[:len(der)/2], 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "fetch-1.tmp"), der[:10], 0o600))
	n = c.node(c.store, dir)
	if !strings.Contains(n.log.String(), "list on disk not usable") {
		t.Errorf("nothing was said: %s", n.log)
	}
	n.round(t)
	if got := n.list(t, c, id); got.Number.Cmp(want.Number) != 0 {
		t.Errorf("list %d, want %d", got.Number, want.Number)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Two nodes on one database build at once: one list wins, both serve it, and no
// revocation gets lost.
func TestCRL_C1_TwoNodesAtOnce(t *testing.T) {
	t.Parallel()
	url := storetest.PostgresURL(t)
	one, two := storetest.Open(t, url, "node-1"), storetest.Open(t, url, "node-2")
	c := newCA(t, one)
	a, b := c.node(one, t.TempDir()), c.node(two, t.TempDir())
	var certs []store.Certificate
	last := int64(0)
	for range 8 {
		certs = append(certs, c.revoked(pki.KeyCompromise))
		c.clock.add(time.Second)
		var both sync.WaitGroup
		for _, n := range []*node{a, b} {
			both.Go(func() {
				if err := n.Round(context.Background(), func(work func()) { work() }); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		c.clock.add(time.Minute)
		a.round(t)
		b.round(t)
		la, lb := a.list(t, c, id), b.list(t, c, id)
		if la.Number.Cmp(lb.Number) != 0 || la.Number.Int64() <= last {
			t.Fatalf("node 1 serves %d, node 2 %d, before it was %d", la.Number, lb.Number, last)
		}
		last = la.Number.Int64()
		for _, cert := range certs {
			if has(la, cert) < 0 {
				t.Fatalf("serial %s is not on list %d", cert.Serial, la.Number)
			}
		}
	}
}

// A store restored from an old backup: what is on disk is newer and stays, what
// was lost is told, and once it is revoked again lists go on, with higher numbers.
func TestCRL_RestoredFromAnOldBackup(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		dir := t.TempDir()
		n := c.node(s, dir)
		early := c.revoked(pki.KeyCompromise)
		n.round(t)
		old := n.list(t, c, id)
		c.clock.add(time.Hour)
		late := c.issued(90 * 24 * time.Hour)
		c.revoke(late, pki.KeyCompromise)
		n.round(t)
		published := n.list(t, c, id)
		if has(published, late) < 0 {
			t.Fatal("the second list lacks the second revocation")
		}
		// Two hours of the database are gone.
		storetest.Exec(t, url,
			`DELETE FROM revocations WHERE certificate_id = '`+late.ID+`'`,
			`DELETE FROM crl_chunks WHERE number > `+old.Number.String(), `DELETE FROM crls WHERE number > `+old.Number.String(),
			`UPDATE issuers SET last_crl_number = `+old.Number.String()+`, revocation_seq = 1, crl_seq = 1 WHERE id = 'web-1'`)
		c.clock.add(time.Hour)
		n = c.node(s, dir)
		n.round(t)
		if got := n.list(t, c, id); got.Number.Cmp(published.Number) != 0 {
			t.Fatalf("list %d replaced list %d", got.Number, published.Number)
		}
		if !strings.Contains(n.log.String(), "was an old backup restored?") {
			t.Errorf("nothing was said: %s", n.log)
		}
		_, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		if err == nil || !strings.Contains(err.Error(), string(late.Serial)) || strings.Contains(err.Error(), string(early.Serial)) {
			t.Errorf("the lost serial is not told: %v", err)
		}
		wantReason(t, err, "crl_entries_lost")
		c.revoke(late, pki.KeyCompromise)
		_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		got := n.list(t, c, id)
		if got.Number.Cmp(published.Number) <= 0 || has(got, late) < 0 || has(got, early) < 0 {
			t.Errorf("list %d after %d: %v", got.Number, published.Number, got.RevokedCertificateEntries)
		}
	})
}

// A hold that is released leaves the list; nothing else does before it expires.
func TestCRL_C8_ReleasedHoldLeavesTheList(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	held := c.revoked(pki.CertificateHold)
	n.round(t)
	if has(n.list(t, c, id), held) != int(pki.CertificateHold) {
		t.Fatal("the hold is not on the list")
	}
	check(t, c.store.Release(t.Context(), held.ID, c.clock.now(), store.Event{At: c.clock.now(), Action: "test", Actor: "test"}))
	c.clock.add(25 * time.Hour)
	n.round(t)
	if has(n.list(t, c, id), held) >= 0 {
		t.Error("the released hold is on the list")
	}
}
