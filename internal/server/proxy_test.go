package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestFR20_AsConfigured: the listeners take clients' addresses from the proxies that the
// configuration names; the log shows them.
func TestFR20_AsConfigured(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	plain, ops := "    addr: "+l.addr.http+"\n", "    addr: "+l.addr.ops+"\n"
	l.change(t, plain, plain+"    connections: { forwarded_from: [127.0.0.0/8], forwarded_header: forwarded }\n")
	l.change(t, ops, ops+"    connections: { proxy_from: [127.0.0.2/32] }\n")
	r := l.serve(t)
	ask := func(from, addr, head string) int {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, head+"\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := ask("127.0.0.1", l.addr.http, "GET /roots HTTP/1.0\r\nForwarded: for=198.51.100.7\r\n"); got != 200 {
		t.Errorf("through a proxy: %d", got)
	}
	const header = "PROXY TCP4 198.51.100.8 192.0.2.1 4711 80\r\n"
	if got := ask("127.0.0.2", l.addr.ops, header+"GET /healthz HTTP/1.0\r\n"); got != 200 {
		t.Errorf("through a balancer: %d", got)
	}
	if got := ask("127.0.0.1", l.addr.ops, header+"GET /healthz HTTP/1.0\r\n"); got != 0 {
		t.Errorf("through nobody's balancer: %d", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	log := r.log.String()
	for _, want := range []string{"remote=198.51.100.7", `msg="connection refused"`, "reason=proxy_header"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}
