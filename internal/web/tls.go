package web

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
)

// Pair is a listener's certificate and key, which may be replaced while it
// serves: connections that are open keep the one they began with. There may be
// others beside it with other kinds of key, for clients that know only those.
type Pair struct {
	current atomic.Pointer[[]*tls.Certificate]
}

// Set replaces the pair and those beside it. Their Leaf must be set.
func (p *Pair) Set(all ...*tls.Certificate) { p.current.Store(&all) }

// Current returns the pair in use, nil before the first Set.
func (p *Pair) Current() *tls.Certificate {
	if all := p.All(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// All returns the pairs in use, preferred first.
func (p *Pair) All() []*tls.Certificate {
	if all := p.current.Load(); all != nil {
		return *all
	}
	return nil
}

// fitting returns the first pair that a client can verify the signature of; if it
// knows none, the first of all, whose handshake then says why.
func (p *Pair) fitting(hello *tls.ClientHelloInfo) *tls.Certificate {
	asked := *hello
	asked.ServerName = "" // that the name fits is the client's to judge
	for _, c := range p.All() {
		if asked.SupportsCertificate(c) == nil {
			return c
		}
	}
	return p.Current()
}

// Config returns a server's TLS settings that always present the pair in use:
// TLS 1.2 or better, and never a request for a client certificate, so that a
// browser or an ACME client is not asked for one.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c := p.fitting(hello)
			if c == nil {
				return nil, errors.New("no certificate is installed yet")
			}
			return c, nil
		},
	}
}
