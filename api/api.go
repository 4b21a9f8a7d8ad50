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

import _ "embed" // for Spec

//go:generate go run ../test/openapi

// Spec is the OpenAPI description.
//
//go:embed openapi.yaml
var Spec []byte
