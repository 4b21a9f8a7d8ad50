package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/web"
)

// TestFS14_Served is no test: it serves the folder that the environment names, for
// TestFS14_IdleConnections, until its input ends.
func TestFS14_Served(t *testing.T) {
	dir := os.Getenv("PRIVYSEAL_TEST_FS14")
	if dir == "" {
		return
	}
	r := (&lab{dir: dir}).serve(t)
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = r.stop()
}

// serveWith serves a lab in a process that may have so many files open.
func (l *lab) serveWith(t *testing.T, files int) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c", //nolint:gosec // this test's own program
		fmt.Sprintf(`ulimit -n %d && exec "$0" -test.run '^TestFS14_Served$'`, files), os.Args[0])
	cmd.Env = append(os.Environ(), "PRIVYSEAL_TEST_FS14="+l.dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	t.Cleanup(func() {
		_ = in.Close()
		rest, _ := io.ReadAll(said)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s\n%s", err, rest, &log)
		}
	})
	if line, err := said.ReadString('\n'); err != nil || line != "serving\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// TestFS14_IdleConnections: connections that use up the plain listener, silent ones and
// ones that were answered, from many addresses, leave everything else working.
func TestFS14_IdleConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serveWith(t, 192)
	flood := func(request string) (all []net.Conn) {
		t.Helper()
		for n := range 300 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%50))}, Timeout: 10 * time.Second}
			c, err := d.DialContext(t.Context(), "tcp", l.addr.http)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
			_, _ = io.WriteString(c, request) // if it was refused, all the better
		}
		return all
	}
	for what, request := range map[string]string{
		"silent": "", "half a request": "GET / HTTP/1.1\r\n",
		"idle": "GET /roots.pem HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		all := flood(request)
		_, port, _ := net.SplitHostPort(l.addr.https)
		if res, _ := l.get(t, "https://localhost:"+port+"/acme/default/directory"); res.StatusCode != http.StatusOK {
			t.Errorf("%s: ACME: %d", what, res.StatusCode)
		}
		made, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
		if err != nil || made.Chain == "" {
			t.Errorf("%s: issuing, by way of socket and database: %v", what, err)
		}
		_, err = api.PublishCRLs.Call(t.Context(), l.client(), api.IssuerRef{Issuer: "dev-a-1"}, api.PublishRequest{})
		if err != nil {
			t.Errorf("%s: publishing a list: %v", what, err)
		}
		if status, h := l.readyz(t); status != http.StatusOK {
			t.Errorf("%s: readyz: %+v", what, h)
		}
		if what == "idle" { // which make room; the others have to end, which they do by themselves
			l.awaitHTTP(t)
		}
		for _, c := range all {
			_ = c.Close()
		}
	}
	_, body := l.get(t, "http://"+l.addr.ops+"/metrics")
	for _, want := range []string{
		`privyseal_connections_refused_total{listener="http",reason="listener_full"}`,
		`privyseal_connections_open{listener="http"}`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	l.awaitHTTP(t)
}

// awaitHTTP asks the plain listener until it answers.
func (l *lab) awaitHTTP(t *testing.T) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.addr.http+"/roots.pem", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK {
			return
		}
		if time.Since(begun) > upWithin {
			t.Fatalf("the plain listener does not answer: %v", err)
		}
	}
}

// TestFS14_Budget: all connections together leave files for the server.
func TestFS14_Budget(t *testing.T) {
	t.Parallel()
	for files, want := range map[int]web.Bounds{ // of http
		1 << 20: {Total: 4096, PerSource: 1024}, 1024: {Total: 163, PerSource: 40}, 256: {Total: 40, PerSource: 10},
		32: {Total: 5, PerSource: 4},
	} {
		all, sum := bounds(files, config.Listeners{}), 0
		for _, b := range all {
			sum += b.Total
		}
		if got := all[listenHTTP]; got != want || sum > files-min(files/4, 512 /* that it needs besides */) {
			t.Errorf("%d files: %+v, %d connections in all", files, got, sum)
		}
	}
	var l config.Listeners
	l.HTTP.Connections = config.Connections{Max: 9, MaxPerSource: 20}
	if got := bounds(1<<20, l)[listenHTTP]; got != (web.Bounds{Total: 9, PerSource: 9}) {
		t.Errorf("as configured: %+v", got)
	}
}
