package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is one running listener and what it has logged and observed.
type bench struct {
	*Server
	log    *bytes.Buffer
	events *[]Event
	mu     *sync.Mutex
	client *http.Client
	url    string
}

// lines decodes the log lines written so far.
func (b bench) lines(t *testing.T) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []map[string]any
	for dec := json.NewDecoder(bytes.NewReader(b.log.Bytes())); ; {
		var line map[string]any
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func serve(t *testing.T, h http.Handler, change func(*Config)) bench {
	t.Helper()
	ln, err := Listen(t.Context(), "https", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := bench{log: new(bytes.Buffer), events: new([]Event), mu: new(sync.Mutex)}
	cfg := Config{
		Name: "https", Limits: DefaultLimits(), Now: time.Now,
		Log: slog.New(slog.NewJSONHandler(lockedWriter{b.mu, b.log}, nil)),
		Observe: func(e Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			*b.events = append(*b.events, e)
		},
	}
	if change != nil {
		change(&cfg)
	}
	b.Server = Start(ln, h, cfg)
	transport := &http.Transport{}
	b.client = &http.Client{Transport: transport}
	b.url = "http://" + b.Addr().String()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

func get(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestRequestIsLoggedAndObserved(t *testing.T) {
	t.Parallel()
	r := chi.NewRouter()
	r.Get("/order/{id}", func(w http.ResponseWriter, r *http.Request) {
		Note(r.Context(), slog.String("account", "a1"))
		_, _ = io.WriteString(w, RequestID(r.Context()))
	})
	b := serve(t, r, nil)
	res, body := get(t, b.client, b.url+"/order/7?secret=hunter2")
	if body == "" || body != res.Header.Get("X-Request-Id") {
		t.Errorf("the handler saw request id %q, the client %q", body, res.Header.Get("X-Request-Id"))
	}
	get(t, b.client, b.url+"/nothing/here")
	lines := b.lines(t)
	if len(lines) != 2 {
		t.Fatalf("%d log lines, want 2", len(lines))
	}
	for key, want := range map[string]any{"request": body, "account": "a1", "path": "/order/7", "status": 200.0, "remote": "127.0.0.1", "listener": "https"} {
		if lines[0][key] != want {
			t.Errorf("log line has %s = %v, want %v", key, lines[0][key], want)
		}
	}
	if strings.Contains(b.log.String(), "hunter2") {
		t.Error("the query is in the log")
	}
	events := *b.events
	if events[0].Route != "/order/{id}" || events[0].Status != 200 {
		t.Errorf("observed %+v, want route /order/{id}, 200", events[0])
	}
	if events[1].Status != 404 || strings.Contains(events[1].Route, "nothing") {
		t.Errorf("observed %+v, want 404 without the client's path", events[1])
	}
}

func TestHandlerRendersTheErrorOnce(t *testing.T) {
	t.Parallel()
	boom := errors.New("no such order")
	h := Handler(func(http.ResponseWriter, *http.Request) error { return boom },
		func(w http.ResponseWriter, _ *http.Request, err error) { http.Error(w, err.Error(), http.StatusTeapot) })
	b := serve(t, h, nil)
	res, body := get(t, b.client, b.url)
	if res.StatusCode != http.StatusTeapot || !strings.Contains(body, "no such order") {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	if line := b.lines(t)[0]; line["error"] != "no such order" {
		t.Errorf("log line %v lacks the error", line)
	}
}

func TestPanicIsAnswered500(t *testing.T) {
	t.Parallel()
	b := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("index out of range") }), nil)
	res, body := get(t, b.client, b.url)
	if res.StatusCode != 500 || strings.Contains(body, "index") {
		t.Errorf("got %d %q, want a 500 that hides the panic", res.StatusCode, body)
	}
	line := b.lines(t)[0]
	if line["panic"] != "index out of range" || line["level"] != "ERROR" || line["stack"] == nil {
		t.Errorf("log line %v lacks the panic", line)
	}
}

func TestBodyIsLimited(t *testing.T) {
	t.Parallel()
	got := make(chan error, 2)
	b := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		got <- err
	}), func(c *Config) { c.Limits.Body = 10 })
	for _, size := range []int{10, 11} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url, bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := b.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		var tooLarge *http.MaxBytesError
		if err := <-got; errors.As(err, &tooLarge) != (size > 10) {
			t.Errorf("%d bytes of at most 10: reading gave %v", size, err)
		}
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	b := serve(t, http.NotFoundHandler(), func(c *Config) { c.Limits.ReadHeader = 50 * time.Millisecond })
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func TestAddressInUseNamesTheListener(t *testing.T) {
	t.Parallel()
	ln, err := Listen(t.Context(), "https", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen(t.Context(), "ops", ln.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "listen on ops: address "+ln.Addr().String()+" is in use") {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(t.Context(), "ops", "nonsense"); err == nil || !strings.Contains(err.Error(), "listen on ops") {
		t.Errorf("a bad address gave %v", err)
	}
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "privyseal.sock")
	ln, err := ListenUnix(t.Context(), "socket", path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v (%v), want 0600", info.Mode(), err)
	}
	if _, err := ListenUnix(t.Context(), "socket", path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second server on the socket got %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err = ListenUnix(t.Context(), "socket", path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	_ = ln.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), "socket", path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}

func TestListenUnixLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 90))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := ListenUnix(t.Context(), "socket", filepath.Join(dir, "privyseal.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	noted, err := os.ReadFile(filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimSpace(string(noted))
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(path)) })
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder has mode %v (%v), want 0700", info.Mode(), err)
	}
	if path != ln.Addr().String() {
		t.Errorf("noted %s, listens on %s", path, ln.Addr())
	}
}

func TestShutdownWaitsForRequests(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	b := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "done")
	}), nil)
	answer := make(chan string, 1)
	go func() {
		res, err := b.client.Get(b.url) //nolint:noctx // the point is a plain client
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- b.Shutdown(context.Background()) }()
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestPairIsSwappedWhileServing(t *testing.T) {
	t.Parallel()
	var pair Pair
	first, second := certificate(t, 1), certificate(t, 2)
	b := serve(t, http.NotFoundHandler(), func(c *Config) { c.TLS = pair.Config() })
	serial := func() (int64, error) {
		c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", b.Addr().String()) //nolint:gosec // reads the serial only
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
	}
	if _, err := serial(); err == nil {
		t.Error("a handshake succeeded without a certificate")
	}
	for _, want := range []*tls.Certificate{first, second} {
		pair.Set(want)
		got, err := serial()
		if err != nil || got != want.Leaf.SerialNumber.Int64() {
			t.Errorf("got serial %d (%v), want %v", got, err, want.Leaf.SerialNumber)
		}
	}
	if pair.Current() != second {
		t.Error("Current is not the last pair set")
	}
}

func TestServeReportsWhyItStopped(t *testing.T) {
	t.Parallel()
	ln, err := Listen(t.Context(), "http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	s := Start(ln, http.NotFoundHandler(), Config{Name: "http", Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler), Now: time.Now, Observe: func(Event) {}})
	<-s.Done()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "serve http") {
		t.Errorf("got %v", err)
	}
}

func certificate(t *testing.T, serial int64) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, URIs: []*url.URL{}, NotAfter: time.Now().Add(time.Hour)}
	leaf := pkitest.Certify(t, tmpl, tmpl, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}
