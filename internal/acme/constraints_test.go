package acme

import (
	"crypto/x509"
	"testing"

	"github.com/privyseal/privyseal/internal/limit"
)

// TestFR16_NamesThatTheCAMayNotCertify are refused before anybody proves them,
// each with a subproblem of its own.
func TestFR16_NamesThatTheCAMayNotCertify(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(cfg *Config, _ *limit.Config) {
		cfg.Endpoints = append(cfg.Endpoints, Endpoint{Name: "narrow", Issuer: "narrow", Profiles: []string{"tls-server"},
			DefaultProfile: "tls-server"})
	})
	e.ca.AddIssuer(t, e.store, e.now, "narrow", func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"in.localhost"}, []string{"no.in.localhost"}
	})
	c := e.client(t, "narrow")
	c.register(map[string]any{"termsOfServiceAgreed": true})
	order := func(names ...string) *response {
		return c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames(names...)})
	}
	p := wantProblem(t, order("a.out.localhost", "a.in.localhost", "*.no.in.localhost"), 403, "rejectedIdentifier")
	if p.Reason != "name_constraints" || len(p.Subproblems) != 2 ||
		p.Subproblems[0].Identifier.Value != "a.out.localhost" ||
		p.Subproblems[1].Identifier.Value != "*.no.in.localhost" || p.Subproblems[1].Type != errorURN+"rejectedIdentifier" {
		t.Errorf("%+v", p)
	}
	if p := wantProblem(t, order("a.out.localhost"), 403, "rejectedIdentifier"); len(p.Subproblems) != 1 {
		t.Errorf("one name: %+v", p)
	}
	want(t, order("a.in.localhost", "*.a.in.localhost"), 201)
}
