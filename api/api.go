// Package api is the operator API of Privyseal: its OpenAPI description, the
// types and the server's frame generated from it, and a client for Go programs.
//
//	c := api.Dial("/run/privyseal/privyseal.sock")
//	cert, err := c.Issue(ctx, api.IssueRequest{Profile: "tls-server", CSR: csrPEM})
//
// A refusal comes back as a *Problem: switch on its Reason or Kind, show its
// Detail. The files *.gen.go are made by `make generate`; openapi.yaml is what
// to edit.
package api

import (
	_ "embed"
	"fmt"
	"net/http"
)

//go:generate go run gen.go

// Spec is the OpenAPI description.
//
//go:embed openapi.yaml
var Spec []byte

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
