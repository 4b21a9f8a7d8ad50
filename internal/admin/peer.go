package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/privyseal/privyseal/internal/access"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/web"
)

type peerKey struct{}

// ConnContext puts the uid of a unix socket's peer into the context of the
// connection's requests. Give it to the listener that serves Routes.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(unix)
	if err != nil {
		return ctx // without a uid every request is refused
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peer is the caller at the other end of the socket.
func (s *Server) peer(r *http.Request) (access.Caller, error) {
	uid, ok := r.Context().Value(peerKey{}).(uint32)
	if !ok {
		return access.Caller{}, fault.New(fault.Unauthenticated, "the operator API is for peers of the unix socket").
			Because("no_peer")
	}
	return s.cfg.Access.Peer(r.Context(), uid)
}

// bearer is the caller whose secret the request shows (RFC 6750, section 2.1).
func (s *Server) bearer(r *http.Request) (access.Caller, error) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return access.Caller{}, fault.New(fault.Unauthenticated,
			"show the secret of a session or token: Authorization: Bearer SECRET").Because("no_session")
	}
	return s.cfg.Access.Bearer(r.Context(), secret, web.Client(r))
}

// requester names who asks, or nobody.
func requester(ctx context.Context) string {
	c, ok := access.From(ctx)
	if !ok {
		return ""
	}
	return c.String()
}

// control runs get on the connection's descriptor.
func control(c *net.UnixConn, get func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer of the socket: %w", err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = get(int(fd)) }); err != nil {
		return fmt.Errorf("peer of the socket: %w", err)
	}
	if inner != nil {
		return fmt.Errorf("peer of the socket: %w", inner)
	}
	return nil
}
