package e2e

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/lab"
)

// site is a running server with a name server of its own.
type site struct {
	lab.Server
	dns *dnstest.Server
}

// each runs a scenario on both engines, each with a server of its own.
func each(t *testing.T, scenario func(t *testing.T, l *site)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { scenario(t, newSite(t, "")) })
	t.Run("postgres", func(t *testing.T) { scenario(t, newSite(t, storetest.PostgresURL(t))) })
}

// newSite starts `privyseal dev` in a new folder. After the test the server is
// stopped and the whole store is verified.
func newSite(t *testing.T, database string) *site {
	t.Helper()
	return newSiteOf(t, lab.Server{Binary: binary, Dir: filepath.Join(t.TempDir(), "privyseal-dev"), Database: database})
}

func newSiteOf(t *testing.T, server lab.Server) *site {
	t.Helper()
	l := &site{Server: server, dns: dnstest.Start(t)}
	l.Resolver = l.dns.Addr()
	l.Addr = freeAddresses(t)
	t.Cleanup(func() {
		if err := l.Verify(); err != nil {
			t.Error(err)
		}
	})
	l.start(t)
	return l
}

// start starts the server, again if it was killed or stopped.
func (l *site) start(t testing.TB) {
	t.Helper()
	err := l.Launch()
	if err == nil {
		mind(t, l.Process)
		err = l.Ready(time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddresses(t testing.TB) lab.Addresses {
	t.Helper()
	a, err := lab.FreeAddresses()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ready waits for a server that was not started by the site.
func ready(t testing.TB, p *lab.Process, addr lab.Addresses) {
	t.Helper()
	s := lab.Server{Addr: addr, Process: p}
	if err := s.Ready(time.Minute); err != nil {
		t.Fatal(err)
	}
}

func (l *site) config() string { return filepath.Join(l.Dir, "privyseal.yaml") }
func (l *site) root() string   { return filepath.Join(l.Dir, "root.pem") }

// client trusts the site's root and nothing else. If addr is given it connects
// there, whatever the URL says.
func (l *site) client(t testing.TB, addr string) *http.Client {
	t.Helper()
	c, err := l.Client(16)
	if err != nil {
		t.Fatal(err)
	}
	transport, ok := c.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the client's transport is a %T", c.Transport)
	}
	if addr != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, addr)
		}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// operate runs an operator command against the site's socket.
func (l *site) operate(t testing.TB, args ...string) string {
	t.Helper()
	out, err := l.try(t, args...)
	if err != nil {
		t.Fatalf("privyseal %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// try is operate for commands that may fail.
func (l *site) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return attempt(t, l.Dir, []string{"PRIVYSEAL_SOCKET=" + l.socket()}, binary, args...)
}

// socket is the path of the operators' socket.
func (l *site) socket() string {
	if moved, err := os.ReadFile(filepath.Join(l.Dir, "socket")); err == nil {
		return strings.TrimSpace(string(moved)) // the path was too long for the system
	}
	return filepath.Join(l.Dir, "privyseal.sock")
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
