package crl_test

import (
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestCRL_C1_C2_C10_Schedule(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s)
		n := c.node(s, t.TempDir())
		if got := n.get(id).StatusCode; got != 503 {
			t.Errorf("before the first look: %d", got)
		}
		n.round(t)
		first := n.list(t, c, id)
		now := c.clock.now()
		if len(first.RevokedCertificateEntries) != 0 || !first.ThisUpdate.Equal(now.Add(-10*time.Minute)) || !first.NextUpdate.Equal(now.Add(7*24*time.Hour)) {
			t.Errorf("first list: %d entries, %s to %s", len(first.RevokedCertificateEntries), first.ThisUpdate, first.NextUpdate)
		}
		if string(first.AuthorityKeyId) != string(c.cert.SubjectKeyId) || first.Number.Int64() < now.UnixMilli() {
			t.Errorf("AKI %x, number %d", first.AuthorityKeyId, first.Number)
		}
		plain := c.revoked(pki.Unspecified)
		superseded := c.revoked(pki.Superseded)
		c.clock.add(23 * time.Hour)
		n.round(t)
		if n.list(t, c, id).Number.Cmp(first.Number) != 0 {
			t.Error("a list came before its time")
		}
		c.clock.add(2 * time.Hour)
		n.round(t)
		second := n.list(t, c, id)
		if second.Number.Cmp(first.Number) <= 0 || has(second, plain) != 0 || has(second, superseded) != int(pki.Superseded) {
			t.Errorf("second list: number %d, %v", second.Number, second.RevokedCertificateEntries)
		}
	})
}

func TestCRL_C11_ImmediateForTheReasonsThatSaySo(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s)
		n := c.node(s, t.TempDir())
		n.round(t)
		first := n.list(t, c, id)
		quiet := c.revoked(pki.CessationOfOperation)
		n.round(t)
		if n.list(t, c, id).Number.Cmp(first.Number) != 0 {
			t.Error("cessationOfOperation was published at once")
		}
		c.clock.add(700 * time.Millisecond)
		loud := c.revoked(pki.KeyCompromise)
		c.clock.add(300 * time.Millisecond)
		n.round(t)
		l := n.list(t, c, id)
		if has(l, loud) != int(pki.KeyCompromise) || has(l, quiet) < 0 {
			t.Errorf("after a compromise: %v", l.RevokedCertificateEntries)
		}
		last := n.seen[len(n.seen)-1]
		if len(last.Latencies) != 2 || last.Outcome != "published" {
			t.Errorf("observed %+v", last)
		}
		n.round(t)
		if n.list(t, c, id).Number.Cmp(l.Number) != 0 {
			t.Error("published again without a reason")
		}
	})
}

func TestCRL_C3_ExpiredStayForOneMoreList(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s)
		n := c.node(s, t.TempDir())
		short := c.issued(30 * time.Hour)
		c.revoke(short, pki.Superseded)
		never := c.issued(time.Hour)
		c.revoke(never, pki.Superseded)
		want := []bool{true, true, true, false} // lists at 0 h, 25 h, 50 h, 75 h
		for i, w := range want {
			n.round(t)
			l := n.list(t, c, id)
			if got := has(l, short) >= 0; got != w {
				t.Errorf("list %d at %d h: has the certificate that expired at 30 h: %v", i, i*25, got)
			}
			c.clock.add(25 * time.Hour)
		}
	})
}
