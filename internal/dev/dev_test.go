package dev

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/server"
	"github.com/privyseal/privyseal/test/logtest"
)

// upWithin is when a server that does not start is given up: opening keys takes
// seconds under the race detector.
const upWithin = 2 * time.Minute

// newOptions are the flags of a test's own folder, on free ports.
func newOptions(t *testing.T, tiers int) *devca.Options {
	t.Helper()
	o := &devca.Options{
		Dir: filepath.Join(t.TempDir(), "d"), HTTP01: 5002, ALPN: 5001, Tiers: tiers, Given: func(string) bool { return true },
	}
	for _, a := range []*string{&o.HTTPS, &o.EST, &o.HTTP, &o.Ops} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed when all four are known
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		*a = ln.Addr().String()
	}
	return o
}

// start runs dev until it says how to stop it. stop ends it and returns its log.
func start(t *testing.T, o *devca.Options) (said string, stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out, log logtest.Buffer
	done := make(chan error, 1)
	env := func(l config.Log) server.Env {
		var level slog.Level
		if l.Level != "" && level.UnmarshalText([]byte(l.Level)) != nil {
			t.Errorf("level %q", l.Level)
		}
		h := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})
		return server.Env{Version: "test", Log: slog.New(h), Now: time.Now}
	}
	go func() { done <- run(ctx, o, time.Now, env, &out) }()
	stop = sync.OnceValue(func() string {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("dev ended: %v", err)
		}
		return log.String()
	})
	t.Cleanup(func() { stop() })
	for begun := time.Now(); !strings.Contains(out.String(), "Stop with Ctrl-C"); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("dev ended: %v\n%s", err, out.String())
		default:
		}
		if time.Since(begun) > upWithin {
			t.Fatalf("dev is not up\n%s", out.String())
		}
	}
	return out.String(), stop
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func newCSR(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// One tier is served by dev only, and never quietly.
func TestG1_03_G2_24_OneTierIsForDev(t *testing.T) {
	t.Parallel()
	o := newOptions(t, 1)
	said, stop := start(t, o)
	if !strings.Contains(said, "INSECURE: one tier") {
		t.Errorf("no banner: %s", said)
	}
	if body := get(t, "http://"+o.Ops+"/metrics"); !bytes.Contains(body, []byte("privyseal_insecure_mode 1")) {
		t.Error("metrics say nothing")
	}
	var health api.Health
	if err := json.Unmarshal(get(t, "http://"+o.Ops+"/readyz"), &health); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(health.Checks, func(c api.HealthCheck) bool {
		return c.Name == "tiers" && strings.Contains(c.Detail, "insecure")
	}) {
		t.Errorf("readyz: %+v", health)
	}
	client := api.Dial(filepath.Join(o.Dir, "privyseal.sock"))
	made, err := client.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
	if err != nil {
		t.Fatal(err)
	}
	root, err := config.ReadChain(filepath.Join(o.Dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain([]byte(made.Chain))
	if err != nil || len(chain) != 1 || chain[0].CheckSignatureFrom(root[0]) != nil {
		t.Errorf("chain %v, %v", chain, err)
	}
	list, err := x509.ParseRevocationList(get(t, "http://"+o.HTTP+"/crl/dev-a-1.crl"))
	if err != nil || list.CheckSignatureFrom(root[0]) != nil {
		t.Errorf("list: %v", err)
	}
	stop()
	_, err = config.Load(filepath.Join(o.Dir, devca.ConfigFile))
	if err == nil || !strings.Contains(err.Error(), "a root does not sign on a server") {
		t.Errorf("serve takes a folder of one tier: %v", err)
	}
	o.Tiers = 2
	_, err = o.SetUp(t.Context(), time.Now, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "another number of tiers") {
		t.Errorf("two tiers in a folder of one: %v", err)
	}
	if o.Tiers = 3; o.Check() == nil {
		t.Error("three tiers were taken")
	}
}

// TestDevMakesItsESTUserOnce and keeps the password.
func TestDevMakesItsESTUserOnce(t *testing.T) {
	t.Parallel()
	o := newOptions(t, 2)
	file := filepath.Join(o.Dir, estPasswordFile)
	again := func() string {
		_, stop := start(t, o)
		return stop()
	}
	again()
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || len(bytes.TrimSpace(first)) < 20 {
		t.Errorf("%v %v, %d octets", info.Mode(), err, len(first))
	}
	again()
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, first) {
		t.Errorf("the password changed: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	log := again()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(log, "in no file any more") {
		t.Errorf("%v\n%s", err, log)
	}
}

// TestFR8_LogLevel: the folder's configuration says how dev logs, as with serve.
func TestFR8_LogLevel(t *testing.T) {
	t.Parallel()
	o := newOptions(t, 2)
	_, stop := start(t, o)
	if log := stop(); !strings.Contains(log, "level=INFO") || strings.Contains(log, "level=DEBUG") {
		t.Errorf("without a level:\n%s", log)
	}
	file := filepath.Join(o.Dir, devca.ConfigFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "log:\n  level: warn\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stop = start(t, o)
	if log := stop(); strings.Contains(log, "level=INFO") {
		t.Errorf("at level warn:\n%s", log)
	}
}
