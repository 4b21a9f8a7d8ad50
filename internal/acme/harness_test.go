package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
	"github.com/privyseal/privyseal/test/dnstest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const testBase = "https://ca.test"

// env is a CA with an ACME server, all in memory but the store.
type env struct {
	store   *store.Store
	server  *Server
	handler http.Handler
	ca      *issuancetest.CA
	signer  *issuancetest.Key
	root    *x509.Certificate
	eab     *credential.EAB
	sealer  *seal.Sealer
	dns     *dnstest.Server
	ahead   atomic.Int64 // nanoseconds that the clock runs ahead

	port int                    // where http-01 asks
	from atomic.Pointer[string] // HOST:PORT of clients; nil is httptest's

	mu     sync.Mutex
	pit    chan struct{}     // until it is closed, http-01 hangs for tokens that are not there
	tokens map[string]string // what http-01 answers, by token
	events []Event
}

func (e *env) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

// sleep lets time pass on the server's clock.
func (e *env) sleep(d time.Duration) { e.ahead.Add(int64(d)) }

// newEnv returns a running server on SQLite.
func newEnv(t testing.TB, change ...func(*Config, *limit.Config)) *env {
	t.Helper()
	e := newIdleEnv(t, storetest.SQLite(t), change...)
	e.run(t)
	return e
}

// newIdleEnv returns a server whose workers do not run.
func newIdleEnv(t testing.TB, st *store.Store, change ...func(*Config, *limit.Config)) *env {
	t.Helper()
	e := &env{store: st, tokens: map[string]string{}}
	e.dns = dnstest.Start(t)
	web := httptest.NewServer(http.HandlerFunc(e.answer))
	t.Cleanup(web.Close)
	port, _ := strconv.Atoi(web.URL[strings.LastIndex(web.URL, ":")+1:])
	e.port = port
	validator, err := challenge.New(challenge.Config{
		Resolver: e.dns.Addr(), HTTPPort: port, AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		LocalhostIsLoopback: true, CAA: challenge.CAAAlways, CAAIdentities: []string{"ca.test"},
	}, nil, e.now)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		BaseURL: testBase, FormerBaseURLs: []string{"https://old.ca.test"},
		TermsOfService: "https://ca.test/terms", Website: "https://ca.test/", CAAIdentities: []string{"ca.test"},
		Endpoints: []Endpoint{
			{Name: "default", Issuer: "web", Profiles: []string{"tls-server", "tls-server-short"}, DefaultProfile: "tls-server"},
			{Name: "eab", Issuer: "web", Profiles: []string{"tls-server"}, DefaultProfile: "tls-server", RequireEAB: true},
		},
	}
	bounds := limit.Defaults()
	bounds.WrongSecrets.Count = 1000
	for _, f := range change {
		f(&cfg, &bounds)
	}
	limits, err := limit.New(bounds, st, e.now)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KEKSize))
	if err != nil {
		t.Fatal(err)
	}
	e.sealer = sealer
	e.eab = credential.NewEAB(st, sealer, e.now)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ca := issuancetest.New(t, st, e.now, "web", nil)
	e.ca, e.signer, e.root = ca, ca.Key, ca.Root
	e.server, err = New(cfg, Deps{
		Store: st, Pipeline: ca.Pipeline, Validator: validator, EAB: e.eab, Limits: limits, Node: st.Node(), Alone: true,
		Nonces: NewNonces(NonceConfig{Key: bytes.Repeat([]byte{9}, 32), OwnEpoch: true, Now: e.now}),
		Log:    log, Now: e.now, Observe: e.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.verify(t) })
	e.server.work.delays = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}
	r := chi.NewRouter()
	r.Mount("/acme", e.server.Routes())
	e.handler = r
	return e
}

// run starts the workers and stops them when the test ends.
func (e *env) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// verify holds the store against the invariants of a CA, once a test is over.
func (e *env) verify(t testing.TB) {
	t.Helper()
	report, err := verify.CheckCA(context.Background(), e.store, verify.Config{Now: e.now()})
	if fault.Is(err, fault.Unavailable) {
		return // the test took the store away
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Error(f)
	}
}

func (e *env) observe(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, ev)
}

// answer is the web server of every name that resolves to this machine.
func (e *env) answer(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	text, ok := e.tokens[strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")]
	pit := e.pit
	e.mu.Unlock()
	if !ok && pit != nil {
		select {
		case <-pit:
		case <-r.Context().Done():
		}
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, text)
}

func (e *env) publish(token, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tokens[token] = text
}

// response is what came back.
type response struct {
	code   int
	header http.Header
	body   []byte
}

func (e *env) send(r *http.Request) *response {
	w := httptest.NewRecorder()
	if from := e.from.Load(); from != nil {
		r.RemoteAddr = *from
	}
	e.handler.ServeHTTP(w, r)
	return &response{w.Code, w.Header(), w.Body.Bytes()}
}

func (e *env) get(method, path string) *response {
	return e.send(httptest.NewRequest(method, testBase+path, nil))
}

// getFor sends what a page of an origin does.
func (e *env) getFor(origin, method, path string) *response {
	r := httptest.NewRequest(method, testBase+path, nil)
	r.Header.Set("Origin", origin)
	return e.send(r)
}

// postRaw sends a body as it is.
func (e *env) postRaw(target string, body []byte) *response {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	r := httptest.NewRequest(http.MethodPost, u.RequestURI(), bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/jose+json")
	return e.send(r)
}

// links returns the targets of the Link fields with a relation.
func (r *response) links(rel string) []string {
	var out []string
	for _, l := range r.header.Values("Link") {
		if target, ok := strings.CutSuffix(l, `>;rel="`+rel+`"`); ok {
			out = append(out, strings.TrimPrefix(target, "<"))
		}
	}
	return out
}

func decodeInto[T any](t testing.TB, r *response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%d %s: %v", r.code, r.body, err)
	}
	return v
}

// wantProblem checks status, type and the header fields of every problem.
func wantProblem(t testing.TB, r *response, status int, typ string) problem {
	t.Helper()
	p := decodeInto[problem](t, r)
	if r.code != status || p.Type != errorURN+typ || p.Status != status {
		t.Fatalf("got %d %s, want %d %s", r.code, r.body, status, typ)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	if p.Detail == "" {
		t.Error("no detail")
	}
	return p
}

func want(t testing.TB, r *response, status int) {
	t.Helper()
	if r.code != status {
		t.Fatalf("got %d %s, want %d", r.code, r.body, status)
	}
}
