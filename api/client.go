package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ErrUnreachable is in the chain of every error that means that no server
// answered: the socket is not there, not ours to open, or nobody listens on it.
var ErrUnreachable = errors.New("server not reachable")

// answerTime is what a client waits for an answer beyond the operation's own limit.
const answerTime = 10 * time.Second

// Client calls the operator API over a unix socket. It is safe for concurrent
// use and keeps connections open; Close drops the idle ones. What has no method
// of its own is called by its declaration: GetHealth.Call(ctx, c, …).
type Client struct {
	http      *http.Client
	transport *http.Transport
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
	return &Client{transport: transport, http: &http.Client{Transport: transport}}
}

// Close drops idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
