package crl_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Operators publish while the schedule builds, the round fetches what they
// publish, and clients and a recovery read: nobody loses the list in use.
func TestFT19_ManyPublicationsOfOneIssuer(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	c.config.Delta = time.Hour
	for range 200 {
		c.revoked(pki.Superseded)
	}
	n := c.node(c.store, t.TempDir())
	n.round(t)
	c.clock.add(time.Second)
	_, err := n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"}) // the second list has a delta list
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var readers, builders sync.WaitGroup
	again := func(what string, do func() error) {
		readers.Go(func() {
			for ctx.Err() == nil {
				if err := do(); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	for range 3 {
		again("round", func() error {
			return n.Round(ctx, func(work func()) { builders.Go(work) })
		})
	}
	again("recover", func() error {
		_, err := n.Recover(ctx, id, crl.Recovery{DryRun: true})
		return err
	})
	again("serve", func() error {
		for _, name := range []string{id, id + "-delta"} {
			resp := n.get(name)
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				return errors.Join(errors.New(name+": "+resp.Status), err)
			}
		}
		return nil
	})
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() {
			for range 3 {
				c.revoked(pki.KeyCompromise)
				c.clock.add(2 * time.Second)
				if _, err := n.Publish(ctx, id, crl.Options{Actor: "uid:0"}); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	publishers.Wait()
	stop()
	readers.Wait()
	builders.Wait()
	if log := n.log.String(); strings.Contains(log, "no such file") || strings.Contains(log, "lists not fetched") {
		t.Errorf("log:\n%s", log)
	}
	if l := n.list(t, c, id); len(l.RevokedCertificateEntries) != 212 {
		t.Errorf("%d entries, want 212", len(l.RevokedCertificateEntries))
	}
}

// A list is signed so slowly that its lease runs out: another node publishes, this
// one fetches that, and the list that the slow one is compared with goes away.
func TestFT19_TheLastListGoesAwayUnderTheGuard(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	slow, other := c.node(c.store, t.TempDir()), c.node(c.store, t.TempDir())
	slow.round(t)
	var once sync.Once
	c.clock.add(time.Second)
	c.key.before = func() error {
		once.Do(func() {
			c.clock.add(2 * time.Minute)
			c.key.before = nil
			_, err := other.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
			check(t, err)
			check(t, slow.Round(t.Context(), func(func()) {}))
		})
		return nil
	}
	_, err := slow.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("got %v, want a refusal", err)
	}
	wantReason(t, err, "crl_number")
	if a, b := slow.list(t, c, id), other.list(t, c, id); a.Number.Cmp(b.Number) != 0 {
		t.Errorf("this node serves list %d, the other one %d", a.Number, b.Number)
	}
}
