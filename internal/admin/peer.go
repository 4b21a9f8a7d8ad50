package admin

import (
	"context"
	"fmt"
	"net"
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

// requester names the operator at the other end of the socket, or nobody.
func requester(ctx context.Context) string {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if !ok {
		return ""
	}
	return fmt.Sprintf("uid:%d", uid)
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
