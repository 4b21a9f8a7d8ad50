package api

import (
	"fmt"
	"net/http"
)

// Problem is a problem document (RFC 9457).
type Problem struct {
	Detail      string       `json:"detail,omitempty"`
	Identifier  Identifier   `json:"identifier,omitzero"`
	Kind        string       `json:"kind,omitempty"`        // The class of the fault, such as rejected_identifier.
	Reason      string       `json:"reason,omitempty"`      // A stable code, such as path_length.
	RequestID   string       `json:"request_id,omitempty"`  // Finds the request in the server's log.
	RetryAfter  int          `json:"retry_after,omitempty"` // Seconds.
	Status      int          `json:"status"`
	Subproblems []Subproblem `json:"subproblems,omitempty"`
	Title       string       `json:"title"`
	Type        string       `json:"type"` // about:blank; the reason is what to switch on.
}

// Subproblem is what is wrong with one name.
type Subproblem struct {
	Detail     string     `json:"detail,omitempty"`
	Identifier Identifier `json:"identifier,omitzero"`
	Kind       string     `json:"kind"`
	Reason     string     `json:"reason,omitempty"`
}

// Identifier is a name in a certificate.
type Identifier struct {
	Type  string `json:"type"` // dns, ip, email, uri, upn, permanent-identifier, hardware-module or dirname.
	Value string `json:"value"`
}

// Error makes a problem document an error: its detail, then the reason code.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = http.StatusText(p.Status)
	}
	if p.Reason != "" {
		text += " (" + p.Reason + ")"
	}
	for _, s := range p.Subproblems {
		text += fmt.Sprintf("\n  %s %s: %s", s.Identifier.Type, s.Identifier.Value, s.Detail)
	}
	return text
}

// Refused reports whether the server understood and said no, in contrast to
// having failed: nothing is gained by asking again unchanged.
func (p *Problem) Refused() bool { return p.Status < http.StatusInternalServerError }

// Waiting reports whether the request is on record and a person has to decide
// it; its id is the identifier's value.
func (p *Problem) Waiting() bool {
	return p.Status == http.StatusAccepted && p.Identifier.Type == "request"
}
