package admin_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/admin/admintest"
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

// TestNobodyIssuesALogin: a certificate that logs in is worth every grant of who has its
// name, so that issuing one takes what giving all of them takes.
func TestNobodyIssuesALogin(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	csr := admintest.CSROf(t, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, EmailAddresses: []string{"admin@a.test"},
	})
	for name, c := range map[string]struct {
		grant  access.Grant
		status int
	}{
		"requester of a CA":           {of("requester", access.Scope{CAs: []string{"ou-a"}}), 403},
		"requester of everything":     {of("requester", access.Scope{All: true}), 403},
		"administrator of a CA":       {of("admin", access.Scope{CAs: []string{"ou-a"}}), 403},
		"administrator of everything": {of("admin", access.Scope{All: true}), 201},
	} {
		body := api.IssueRequest{Profile: "operator", Issuer: "ou-a", CSR: csr}
		if status, reason, text := r.ask(r.caller(name, c.grant), "POST", "/v1/certificates", body); status != c.status {
			t.Errorf("%s: %d %s %s, want %d", name, status, reason, text, c.status)
		}
	}
	made := api.NewESTUser{Name: "x", Endpoint: "eab", AnyName: true, Profile: "operator"}
	all := r.caller("maker", of("operator", access.Scope{All: true}))
	if status, reason, _ := r.ask(all, "POST", "/v1/est/users", made); status != 403 {
		t.Errorf("an EST user for it: %d %s", status, reason)
	}
}
