package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/test/logtest"
)

// ceremonyText is what the ceremony of prepared showed: the passphrase of the root.
var ceremonyText string

// prepared is a folder that `privyseal dev` has set up, made once.
var prepared = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "privyseal-server-")
	if err != nil {
		return "", err
	}
	o := &devca.Options{
		Dir: dir, HTTPS: "127.0.0.1:1", EST: "127.0.0.1:2", HTTP: "127.0.0.1:3", Ops: "127.0.0.1:4",
		HTTP01: 5002, ALPN: 5001, Tiers: 2, Given: func(string) bool { return false },
	}
	var out bytes.Buffer
	if _, err := o.SetUp(context.Background(), time.Now, &out); err != nil {
		return "", err
	}
	ceremonyText = out.String()
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := prepared(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// literal is a secret that is kept nowhere. Its readers wipe what they get.
func literal(s string) keys.Secret { return func() ([]byte, error) { return []byte(s), nil } }

func testEnv(log io.Writer) Env {
	return Env{Version: "test", Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now}
}

// lab is a configured folder of a test's own, on free ports.
type lab struct {
	dir  string
	addr struct{ https, est, http, ops string }
}

func newLab(t *testing.T) *lab {
	t.Helper()
	from, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{dir: filepath.Join(t.TempDir(), "d")}
	if err := os.CopyFS(l.dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, files := range []string{"keys/*", "secrets/*", "scep-challenge"} {
		found, err := filepath.Glob(filepath.Join(l.dir, filepath.FromSlash(files)))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", files, found, err)
		}
		for _, f := range found {
			if err := os.Chmod(f, 0o600); err != nil { // CopyFS adds to the mode
				t.Fatal(err)
			}
		}
	}
	text := l.read(t)
	for i, a := range []*string{&l.addr.https, &l.addr.est, &l.addr.http, &l.addr.ops} {
		*a = freeAddress(t)
		_, port, _ := net.SplitHostPort(*a)
		old := string(rune('1' + i))
		text = strings.ReplaceAll(text, "127.0.0.1:"+old+"\n", *a+"\n")
		text = strings.ReplaceAll(text, "localhost:"+old+"\n", "localhost:"+port+"\n")
	}
	l.write(t, text)
	return l
}

// handed are the addresses that freeAddress has given out: the system may offer
// one again as soon as it is closed.
var handed sync.Map

func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		_ = ln.Close()
		if _, again := handed.LoadOrStore(addr, true); !again {
			return addr
		}
	}
}

func (l *lab) file() string { return filepath.Join(l.dir, devca.ConfigFile) }

func (l *lab) read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(l.file())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (l *lab) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(l.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change replaces text in the configuration, which must be there.
func (l *lab) change(t *testing.T, from, to string) {
	t.Helper()
	text := l.read(t)
	if !strings.Contains(text, from) {
		t.Fatalf("the configuration has no %q:\n%s", from, text)
	}
	l.write(t, strings.Replace(text, from, to, 1))
}

// upWithin is when a server that does not start is given up: opening keys takes
// seconds under the race detector.
const upWithin = 2 * time.Minute

// running is a server that a test started.
type running struct {
	stop   func() error
	log    *logtest.Buffer
	server *server
}

// serve starts the server that the lab's file describes and waits until it is
// up.
func (l *lab) serve(t *testing.T) *running {
	t.Helper()
	r := &running{log: &logtest.Buffer{}}
	cfg, err := config.Load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	n, err := statedir.Claim(cfg.State.Dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}), make(chan error, 1)
	r.server = newServer(testEnv(r.log), n, cfg)
	go func() { done <- r.server.run(ctx, func() { close(up) }) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the server did not stop")
		}
	})
	select {
	case <-up:
	case err := <-done:
		t.Fatalf("the server did not start: %v\n%s", err, r.log)
	case <-time.After(upWithin):
		t.Fatalf("the server is not up after %v\n%s", upWithin, r.log)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Log(r.log)
		}
	})
	return r
}

// get fetches a URL, trusting the lab's root.
func (l *lab) get(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func (l *lab) readyz(t *testing.T) (int, api.Health) {
	t.Helper()
	res, body := l.get(t, "http://"+l.addr.ops+"/readyz")
	var h api.Health
	if err := json.Unmarshal(body, &h); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return res.StatusCode, h
}

func (l *lab) client() *api.Client { return api.Dial(filepath.Join(l.dir, "privyseal.sock")) }
