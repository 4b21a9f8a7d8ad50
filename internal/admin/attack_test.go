package admin_test

import (
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
)

// TestCredentialSubjectWithinScope: the subject that a credential spells out is a name that
// it certifies, so that a scope has to hold it too.
func TestCredentialSubjectWithinScope(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	pattern := "CN=box.a.test"
	a := r.caller("a", of("operator", access.Scope{CAs: []string{"ou-a"}, Names: []string{"*.a.test", pattern}}))
	in := []string{"*.a.test"}
	for name, c := range map[string]struct {
		path   string
		body   any
		status int
	}{
		"EAB":             {"/v1/eab/keys", api.NewEABKey{Endpoint: "eab", Names: in, Subject: "CN=boss.b.test"}, 403},
		"EST":             {"/v1/est/users", api.NewESTUser{Name: "x", Endpoint: "eab", Names: in, Subject: "CN=b.test"}, 403},
		"SCEP":            {"/v1/scep/challenges", api.NewSCEPChallenge{Endpoint: "eab", Names: in, Subject: "CN=b.test"}, 403},
		"any name beside": {"/v1/eab/keys", api.NewEABKey{Endpoint: "eab", AnyName: true, Subject: pattern}, 403},
		"own":             {"/v1/eab/keys", api.NewEABKey{Endpoint: "eab", Names: in, Subject: pattern}, 201},
	} {
		if status, reason, text := r.ask(a, "POST", c.path, c.body); status != c.status {
			t.Errorf("%s: %d %s %s, want %d", name, status, reason, text, c.status)
		}
	}
}
