package web

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
)

// Pair is a listener's certificate and key, which may be replaced while it
// serves: connections that are open keep the one they began with.
type Pair struct {
	current atomic.Pointer[tls.Certificate]
}

// Set replaces the pair. Its Leaf must be set.
func (p *Pair) Set(c *tls.Certificate) { p.current.Store(c) }

// Current returns the pair in use, nil before the first Set.
func (p *Pair) Current() *tls.Certificate { return p.current.Load() }

// Config returns a server's TLS settings that always present the pair in use:
// TLS 1.2 or better, and never a request for a client certificate, so that a
// browser or an ACME client is not asked for one.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := p.current.Load()
			if c == nil {
				return nil, errors.New("no certificate is installed yet")
			}
			return c, nil
		},
	}
}
