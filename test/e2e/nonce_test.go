package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/need"
	"golang.org/x/crypto/acme"
)

// recorder keeps the last POST that a client sent.
type recorder struct {
	base http.RoundTripper
	mu   sync.Mutex
	url  string
	body []byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPost && req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		r.url, r.body = req.URL.String(), body
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return r.base.RoundTrip(req)
}

// replay sends the last POST again, through client.
func (r *recorder) replay(t testing.TB, client *http.Client) (status int, problem string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jose+json")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var p struct{ Type string }
	_ = json.NewDecoder(resp.Body).Decode(&p)
	if resp.Header.Get("Replay-Nonce") == "" {
		t.Error("the answer carries no fresh nonce")
	}
	return resp.StatusCode, strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
}

func wantBadNonce(t testing.TB, where string, status int, problem string) {
	t.Helper()
	if status != http.StatusBadRequest || problem != "badNonce" {
		t.Errorf("a replay %s is answered %d %s, want 400 badNonce", where, status, problem)
	}
}

// TestACME_A5_NonceAfterCrash: a used nonce stays used after kill -9, and the
// client goes on with its account on the restarted server.
func TestACME_A5_NonceAfterCrash(t *testing.T) {
	each(t, func(t *testing.T, l *site) {
		c := l.goClient(t, "default")
		rec := &recorder{base: c.HTTPClient.Transport}
		c.HTTPClient.Transport = rec
		register(t, c)
		account, err := c.GetReg(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		status, problem := rec.replay(t, l.client(t, ""))
		wantBadNonce(t, "to the same process", status, problem)
		root := read(t, l.root())

		l.Kill()
		l.start(t)
		status, problem = rec.replay(t, l.client(t, ""))
		wantBadNonce(t, "after kill -9", status, problem)
		if !bytes.Equal(root, read(t, l.root())) {
			t.Error("the second start made another root")
		}
		again, err := c.GetReg(t.Context(), "")
		if err != nil || again.URI != account.URI {
			t.Errorf("the account after a restart: %+v, %v", again, err)
		}
	})
}

// secondNode starts `privyseal serve` beside the lab's server on the same
// database and returns the address of its https listener.
func (l *site) secondNode(t *testing.T) string {
	t.Helper()
	addr := freeAddresses(t)
	var cfg map[string]any
	if err := yaml.Unmarshal(read(t, l.config()), &cfg); err != nil {
		t.Fatal(err)
	}
	listeners, ok := cfg["listeners"].(map[string]any)
	if !ok {
		t.Fatalf("privyseal.yaml has no listeners: %v", cfg)
	}
	for name, a := range map[string]string{"https": addr.HTTPS, "est": addr.EST, "http": addr.HTTP, "ops": addr.Ops} {
		if lis, ok := listeners[name].(map[string]any); ok {
			lis["addr"] = a
		}
	}
	delete(listeners, "socket")
	state, _ := cfg["state"].(map[string]any)
	if state == nil {
		state = map[string]any{}
	}
	state["dir"] = t.TempDir()
	cfg["state"] = state
	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.Dir, "second.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, l.Dir, "serve", "--config", path)
	ready(t, p, addr)
	return addr.HTTPS
}

// TestACME_A5_TwoNodes: two processes on one PostgreSQL share accounts, orders
// and spent nonces.
func TestACME_A5_TwoNodes(t *testing.T) {
	need.Programs(t, "openssl")
	l := newSite(t, storetest.PostgresURL(t))
	second := l.secondNode(t)
	c := l.goClient(t, "default")
	rec := &recorder{base: c.HTTPClient.Transport}
	c.HTTPClient.Transport = rec
	register(t, c)
	if _, err := c.GetReg(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	status, problem := rec.replay(t, l.client(t, second))
	wantBadNonce(t, "to the other node", status, problem)

	r := newResponder(t, l.Addr.HTTP01)
	other := &acme.Client{Key: c.Key, KID: c.KID, DirectoryURL: c.DirectoryURL, HTTPClient: l.client(t, second)}
	for i, client := range []*acme.Client{c, other} {
		name := []string{"first.lab.test", "second.lab.test"}[i]
		chain, _, err := order(t.Context(), client, r, name)
		if err != nil {
			t.Fatalf("on node %d: %v", i+1, err)
		}
		l.checkChain(t, chain, name)
	}
	// Every step on another node than the one before.
	o, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("both.lab.test"))
	if err != nil {
		t.Fatal(err)
	}
	if err := authorize(t.Context(), other, r, o.AuthzURLs[0]); err != nil {
		t.Fatal(err)
	}
	if ready, err := c.WaitOrder(t.Context(), o.URI); err != nil || ready.Status != acme.StatusReady {
		t.Errorf("the order is %+v, %v, want ready", ready, err)
	}
}
