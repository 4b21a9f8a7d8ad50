package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/dnstest"
)

// lab is a running server with a name server of its own, and the ports where
// clients answer challenges.
type lab struct {
	dns      *dnstest.Server
	dir      string // DIR of privyseal dev
	database string
	addr     addresses
	server   *process
}

type addresses struct {
	https, est, http, ops string
	http01, alpn          string // 127.0.0.1:PORT, free for a client
}

func freeAddresses(t testing.TB) addresses {
	t.Helper()
	var held []net.Listener
	next := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
		return l.Addr().String()
	}
	a := addresses{https: next(), est: next(), http: next(), ops: next(), http01: next(), alpn: next()}
	for _, l := range held {
		_ = l.Close()
	}
	return a
}

// each runs a scenario on both engines, each with a server of its own.
func each(t *testing.T, scenario func(t *testing.T, l *lab)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { scenario(t, newLab(t, "")) })
	t.Run("postgres", func(t *testing.T) { scenario(t, newLab(t, storetest.PostgresURL(t))) })
}

// newLab starts `privyseal dev` in a new folder. After the test the server is
// stopped and the whole store is verified.
func newLab(t *testing.T, database string) *lab {
	t.Helper()
	l := &lab{dns: dnstest.Start(t), dir: filepath.Join(t.TempDir(), "privyseal-dev"), database: database, addr: freeAddresses(t)}
	t.Cleanup(func() { l.verify(t) })
	l.server = launch(t, filepath.Dir(l.dir), l.devArgs()...)
	l.ready(t, l.server, l.addr.ops)
	t.Cleanup(func() { l.server.stop(t) })
	return l
}

func (l *lab) devArgs() []string {
	args := []string{"dev", "--dir", l.dir, "--https-addr", l.addr.https, "--est-addr", l.addr.est, "--http-addr", l.addr.http,
		"--ops-addr", l.addr.ops, "--http01-port", port(l.addr.http01), "--tls-alpn01-port", port(l.addr.alpn), "--dns-resolver", l.dns.Addr()}
	if l.database != "" {
		args = append(args, "--database", l.database)
	}
	return args
}

func port(hostport string) string {
	_, p, _ := net.SplitHostPort(hostport)
	return p
}

// ready waits until a server says that it is.
func (l *lab) ready(t testing.TB, p *process, ops string) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	last := "no answer"
	for time.Now().Before(deadline) {
		select {
		case <-p.exited:
			t.Fatalf("the server ended at start: %v\n%s", p.err, p.log.tail(4000))
		case <-time.After(50 * time.Millisecond):
		}
		resp, err := http.Get("http://" + ops + "/readyz")
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		last = fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	t.Fatalf("the server is not ready after 60 s: %s", last)
}

// verify runs the oracle over everything that was written.
func (l *lab) verify(t testing.TB) {
	t.Helper()
	out, err := attempt(t, l.dir, nil, binary, "verify", "--config", l.config())
	if err != nil {
		t.Errorf("privyseal verify: %v\n%s", err, out)
	}
}

func (l *lab) config() string { return filepath.Join(l.dir, "privyseal.yaml") }
func (l *lab) root() string   { return filepath.Join(l.dir, "root.pem") }

// directory is the URL of an endpoint's directory.
func (l *lab) directory(endpoint string) string {
	return "https://localhost:" + port(l.addr.https) + "/acme/" + endpoint + "/directory"
}

// client trusts the lab's root and nothing else. It always connects to addr.
func (l *lab) client(t testing.TB, addr string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(t, l.root())) {
		t.Fatal("root.pem holds no certificate")
	}
	var d net.Dialer
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 16,
	}
	if addr != "" {
		transport.DialContext = dialTo(&d, addr)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// operate runs an operator command against the lab's socket.
func (l *lab) operate(t testing.TB, args ...string) string {
	t.Helper()
	return execute(t, l.dir, []string{"PRIVYSEAL_SOCKET=" + l.socket(t)}, binary, args...)
}

// socket is the operator socket; a path too long for the system is kept in a
// file of its name.
func (l *lab) socket(t testing.TB) string {
	t.Helper()
	if moved, err := os.ReadFile(filepath.Join(l.dir, "socket")); err == nil {
		return string(trim(moved))
	}
	return filepath.Join(l.dir, "privyseal.sock")
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
