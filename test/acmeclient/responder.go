package acmeclient

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Responder answers http-01 challenges (RFC 8555, section 8.3) for every name.
type Responder struct {
	answers sync.Map // token → key authorization
	server  *http.Server
	addr    net.Addr
}

// NewResponder listens on an address of this machine, such as 127.0.0.1:5002.
func NewResponder(addr string) (*Responder, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	r := &Responder{addr: l.Addr()}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(l) }() // ends at Close
	return r, nil
}

// Port returns the port that the responder listens on.
func (r *Responder) Port() int { return r.addr.(*net.TCPAddr).Port }

// Set makes the responder answer a token.
func (r *Responder) Set(token, keyAuthorization string) { r.answers.Store(token, keyAuthorization) }

// ServeHTTP answers one challenge, as often as it is asked.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token, ok := strings.CutPrefix(req.URL.Path, "/.well-known/acme-challenge/")
	answer, known := r.answers.Load(token)
	if !ok || !known {
		http.NotFound(w, req)
		return
	}
	_, _ = w.Write([]byte(answer.(string))) // the validator notices a broken connection itself
}

// Close stops listening.
func (r *Responder) Close() error { return r.server.Close() }
