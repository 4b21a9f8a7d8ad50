package operator

import (
	"strings"

	"github.com/privyseal/privyseal/api"
)

// authorization adds the lines of an authorization.
func (s *sheet) authorization(a *api.ACMEAuthorization) {
	s.line("authorization", a.ID)
	s.line("name", a.Name.Type+":"+a.Name.Value)
	s.line("status", string(a.Status))
	s.line("account", a.Account)
	s.line("created", stamp(a.CreatedAt))
	s.line("expires", stamp(a.ExpiresAt))
	for i := range a.Challenges {
		s.challenge(&a.Challenges[i])
	}
}

// challenge adds what was expected, and what was tried.
func (s *sheet) challenge(c *api.ACMEChallenge) {
	s.line("challenge", c.Type)
	s.line("expected at", c.ExpectedAt)
	s.line("expected", c.Expected)
	s.line("validated", stamp(c.ValidatedAt))
	s.problem(c.Problem)
	if c.Attempts > 0 {
		s.line("next attempt", stamp(c.NextAttemptAt))
	}
	s.line("last attempt", stamp(c.Record.At))
	for _, h := range c.Record.Hops {
		s.line("connection", h.URL)
		s.line("  resolved", strings.Join(h.Resolved, ", "))
		s.line("  refused", strings.Join(h.Refused, ", "))
		s.line("  tried", strings.Join(h.Tried, ", "))
		s.line("  answered", h.Used)
	}
	s.line("TXT of", c.Record.TXT)
	s.line("CAA", c.Record.CAA)
}

// problem adds what a client was told.
func (s *sheet) problem(p api.ACMEProblem) {
	s.line("reason", reason(p))
	s.line("problem", p.Detail)
	for _, sub := range p.Subproblems {
		s.line("  "+sub.Identifier.Value, sub.Detail)
	}
}
