package issuance_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// Two nodes, each with its own connections to one PostgreSQL, revoke the same
// certificates of two issuers in bulk while single ones are revoked on both: each
// is revoked once, and the sequence of its issuer tells of every one.
func TestBulkRevocationOnTwoNodes(t *testing.T) {
	t.Parallel()
	url := storetest.PostgresURL(t)
	c := newCA(t, storetest.Open(t, url, "node-1"), "web-1", "web-2")
	far := *c
	far.store = storetest.Open(t, url, "node-2")
	pipelines := []*issuance.Pipeline{c.pipeline, far.node("node-2")}
	const all, single = 400, 40
	for i := range all {
		r := request(t, fmt.Sprintf("request:%d", i), "a.old.test")
		r.Issuer = []string{"web-1", "web-2"}[i%2]
		if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	rows, _, err := c.store.SearchCertificates(t.Context(), store.Search{Limit: single})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	revoked := 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		revoked += n
	}
	var working sync.WaitGroup
	for i, p := range pipelines {
		working.Go(func() {
			s := c.selection(store.Match{Name: "a.old.test", Reason: pki.Superseded})
			s.Limit = 300
			for {
				page, err := p.RevokeMatching(t.Context(), s)
				if err != nil {
					t.Errorf("node %d: %v", i+1, err)
				}
				count(page.Revoked)
				if s.After = page.Next; err != nil || page.Next == "" {
					return
				}
			}
		})
		working.Go(func() {
			for _, row := range rows {
				err := p.Revoke(t.Context(), issuance.Revocation{CertificateID: row.ID, Reason: pki.Superseded, Requester: "uid:0"})
				var f *fault.Error
				switch {
				case err == nil:
					count(1)
				case errors.As(err, &f) && f.Kind == fault.AlreadyRevoked:
				default:
					t.Errorf("node %d: %v", i+1, err)
				}
			}
		})
	}
	working.Wait()
	if revoked != all {
		t.Errorf("%d revocations of %d certificates", revoked, all)
	}
	for _, id := range []string{"web-1", "web-2"} {
		row, err := c.store.Issuer(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		entries := 0
		seq, err := c.store.CRLEntries(t.Context(), id, 0, c.now(), func(e store.CRLEntry) error {
			if entries++; e.Seq < 1 || e.Seq > row.RevocationSeq {
				t.Errorf("serial %s has the sequence %d of %d", e.Serial, e.Seq, row.RevocationSeq)
			}
			return nil
		})
		if err != nil || entries != all/2 || seq != row.RevocationSeq {
			t.Errorf("%s: %d entries up to %d of %d, %v", id, entries, seq, row.RevocationSeq, err)
		}
	}
	if events := storetest.Count(t, url, `SELECT count(*) FROM audit_events WHERE action = 'certificate.revoked'`); events != all {
		t.Errorf("%d events of %d revocations", events, all)
	}
	c.holds(t)
}
