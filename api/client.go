// Package api is the operator API of Privyseal: its operations, declared one by
// one, their types, their description in OpenAPI, and a client for Go programs.
//
//	c := api.Dial("/run/privyseal/privyseal.sock")
//	cert, err := c.Issue(ctx, api.IssueRequest{Profile: "tls-server", CSR: csrPEM})
//
// A refusal comes back as a *Problem: switch on its Reason or Kind, show its
// Detail. An operation is an Operation: what the server serves, what the client
// calls and openapi.yaml, which `make generate` writes, come from it.
package api

import (
	"cmp"
	"context"
	_ "embed" // for Spec
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

//go:generate go run ../test/openapi

// Spec is the OpenAPI description.
//
//go:embed openapi.yaml
var Spec []byte

// ErrUnreachable is in the chain of every error that means that no server
// answered: the socket is not there, not ours to open, or nobody listens on it or at
// the address.
var ErrUnreachable = errors.New("server not reachable")

// answerTime is what a client waits for an answer beyond the operation's own limit.
const answerTime = 10 * time.Second

// Client calls the operator API over a unix socket or the network. It is safe for concurrent
// use and keeps connections open; Close drops the idle ones. What has no method
// of its own is called by its declaration: GetHealth.Call(ctx, c, …).
type Client struct {
	http   *http.Client
	base   string // the origin
	bearer string // secret of a session or token
}

// Dial returns a client of the server that listens on the unix socket at path.
// It does not connect: the first call does.
func Dial(path string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			return conn, nil
		},
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: longTime + answerTime,
	}
	return &Client{http: &http.Client{Transport: transport}, base: "http://privyseal"}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

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
	text := cmp.Or(p.Detail, p.Title, http.StatusText(p.Status))
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
