package operator_test

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/store"
)

// TestFT6_IssuerList: a CA that is revoked, broken or only declared does not stand in
// the list as one that is well.
func TestFT6_IssuerList(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1", "web-a-2")
	broken := store.IssuerRecord{
		ID: "broken-1", Name: "broken-1", Generation: 1, State: "active", ParentID: "root",
		Certificate: []byte("x"), CreatedAt: time.Now(),
	}
	if err := s.Store.PutIssuer(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	records, err := s.Store.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rules := *s.Pipeline.Rules()
	rules.CAs = ca.Build(ca.Inputs{
		Declared: []ca.Declaration{
			{ID: "root-1", Offline: true}, {ID: "web-a-1", Pool: "web"}, {ID: "web-a-2"}, {ID: "broken-1"}, {ID: "later-1"},
		},
		Records: records, Now: time.Now(),
		Revoked: map[string]ca.Trust{"web-a-1": {
			State: ca.Revoked, Why: "root has revoked the certificate of web-a-1 for keyCompromise (list 7)",
		}},
	})
	s.Pipeline.Swap(rules)
	var out bytes.Buffer
	cmd := root()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"issuer", "list", "--socket", s.Socket})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^ID +POOL +GEN +STAGE +KEY +TRUST +DAYS +SUBJECT$`,
		`(?m)^web-a-1 +web +1 +active +- +revoked +\d+ +CN=Test Issuing CA web-a-1\n  why: root has revoked the certificate of web-a-1 for keyCompromise \(list 7\)$`,
		`(?m)^web-a-2 +- +1 +active +- +good +\d+ `,
		`(?m)^broken-1 +- +1 +active +- +- +- +-\n  why: it is not in use: read installed certificate`,
		`(?m)^later-1 +- +1 +declared +- +- +- +-\n  why: it has no certificate yet$`,
		`(?m)^root-1 +- +1 +declared +elsewhere +- +- +-$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the list lacks %s:\n%s", want, &out)
		}
	}
}
