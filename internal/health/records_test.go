package health

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// What is told of a failed certificate: permanent refusals are no reason to send
// clients elsewhere.
func TestOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state owncert.Health
		want  State
		says  string
	}{
		{owncert.Health{}, "", ""},
		{owncert.Health{Warning: "soon"}, Warning, "soon"},
		{owncert.Health{Failed: errors.New("away")}, Failed, "away"},
		{
			owncert.Health{Failed: fault.New(fault.RejectedIdentifier, "not below this CA")}, Warning,
			"its CA cannot certify it: not below this CA",
		},
		{owncert.Health{Failed: fault.New(fault.BadPublicKey, "compromised")}, Failed, "compromised"},
	} {
		if got := Own("x", "https", c.state); got.State != c.want || got.Detail != c.says {
			t.Errorf("%+v: %+v", c.state, got)
		}
	}
}

// What the records say: each state, and the listeners that cannot go on.
func TestRecords(t *testing.T) {
	t.Parallel()
	nodes := []store.Node{
		{Node: "a", ConfigDigest: "old", SeenAt: now},
		{Node: "b", ConfigDigest: "old", SeenAt: now},
		{Node: "c", ConfigDigest: "old", SeenAt: now.Add(-day)},
	}
	since := now.Add(-time.Hour)
	if c := Configuration(nodes, "a", "new", since); c.State != Warning || c.Remedy == "" ||
		c.Detail != "new; node b runs old" {
		t.Errorf("another configuration: %+v", c)
	}
	if c := Configuration(nodes, "a", "old", since); c.State != "" {
		t.Errorf("the same configuration: %+v", c)
	}
	for _, c := range []struct {
		of   audit.Condition
		want State
		all  bool
	}{
		{audit.Condition{}, "", false},
		{audit.Condition{Late: true}, Warning, false},
		{audit.Condition{Late: true, Err: errors.New("full")}, Warning, false},
		{audit.Condition{Findings: make([]audit.Finding, 1)}, Failed, true},
	} {
		if got := Audit(c.of); got.State != c.want || (len(got.Needs) > 0) != c.all {
			t.Errorf("%+v: %+v", c.of, got)
		}
	}
	folder := t.TempDir()
	if c := Archive(folder, false); c.State != "" || c.Remedy != "" {
		t.Errorf("an archive: %+v", c)
	}
	if c := Archive(folder, true); c.State != Warning || c.Remedy == "" {
		t.Errorf("an archive that failed: %+v", c)
	}
	if c := Archive(folder+"/none", false); c.State != Warning || c.Remedy == "" {
		t.Errorf("no archive: %+v", c)
	}
	if c := Parked(0); c != nil {
		t.Errorf("nothing parked: %+v", c)
	}
	if c := Parked(2); len(c) != 1 || c[0].State != Warning || !strings.HasPrefix(c[0].Detail, "2 rows") {
		t.Errorf("parked: %+v", c)
	}
	if c := Credentials(store.Unbound{}); c != nil {
		t.Errorf("all bound: %+v", c)
	}
	if c := Credentials(store.Unbound{EABKeys: 3}); len(c) != 1 || !strings.Contains(c[0].Detail, "3 EAB keys") {
		t.Errorf("unbound: %+v", c)
	}
}

// A database that does not answer takes away what needs it, and nothing else.
func TestDatabase(t *testing.T) {
	t.Parallel()
	storetest.EachURL(t, func(t *testing.T, url string, _ *store.Store) {
		s, err := store.Open(t.Context(), store.Config{URL: url, Node: "node-2"})
		if err != nil {
			t.Fatal(err)
		}
		ask := Database(s, "https")
		if c := ask(t.Context()); len(c) != 1 || c[0].State != "" {
			t.Errorf("it answers: %+v", c)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if c := ask(t.Context()); len(c) != 1 || c[0].State != Failed || len(c[0].Needs) != 1 || c[0].Remedy == "" {
			t.Errorf("it does not: %+v", c)
		}
	})
}
