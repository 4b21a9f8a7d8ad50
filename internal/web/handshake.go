package web

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
)

// handshakes gives the words of crypto/tls, which has no types for most of its
// errors, a reason that can be counted. The first that fits holds.
var handshakes = []struct{ text, reason string }{
	{"no certificate is installed", "no_certificate"},
	{"unsupported versions", "version"},
	{"protocol version", "version"},
	{"no cipher suite supported", "cipher"},
	{"no mutually supported protocols", "application_protocol"},
	{"no supported elliptic curves", "key_exchange"},
	{"no key exchange", "key_exchange"},
	{"signature algorithms", "signature_algorithm"},
	{"unsupported certificate", "signature_algorithm"},
	{"client's certificate", "client_certificate"},
	{"client certificate", "client_certificate"},
}

// tellHandshake logs and counts a TLS handshake that failed, and answers who speaks
// HTTP without TLS.
func (g *gate) tellHandshake(c *conn, err error) {
	reason := handshakeReason(err)
	if record := (tls.RecordHeaderError{}); errors.As(err, &record) && record.Conn != nil {
		if strings.HasPrefix("GET POST HEAD PUT OPTIONS", strings.TrimSpace(string(record.RecordHeader[:4]))) {
			_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"+
				"This port speaks HTTPS.\n")
		}
	}
	g.observe(HandshakeFailed, reason)
	g.tell(slog.LevelInfo, "TLS handshake failed", c.client,
		slog.String("reason", reason), slog.String("error", err.Error()))
}

// handshakeReason names why a handshake failed.
func handshakeReason(err error) string {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		return "not_tls"
	case errors.As(err, &op) && op.Op == "remote error", errors.As(err, &alert):
		return "refused_by_client"
	case errors.Is(err, context.Canceled):
		return "stopping"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "closed_by_client"
	}
	for _, h := range handshakes {
		if strings.Contains(err.Error(), h.text) {
			return h.reason
		}
	}
	return "other"
}
