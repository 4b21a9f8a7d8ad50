// Package acme is the front-end for RFC 8555 and its family.
package acme
