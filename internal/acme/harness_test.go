package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
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
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/profile"
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
	signer  *testSigner
	root    *x509.Certificate
	eab     *credential.EAB
	dns     *dnstest.Server
	ahead   atomic.Int64 // nanoseconds that the clock runs ahead

	mu     sync.Mutex
	tokens map[string]string // what http-01 answers, by token
	events []Event
}

func (e *env) now() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) }

// sleep lets time pass on the server's clock.
func (e *env) sleep(d time.Duration) { e.ahead.Add(int64(d)) }

// testSigner is a CA key that a test can break.
type testSigner struct {
	key    *ecdsa.PrivateKey
	broken atomic.Pointer[error]
	used   atomic.Int64
}

func (s *testSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s *testSigner) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.used.Add(1)
	if err := s.broken.Load(); err != nil {
		return nil, *err
	}
	return s.key.Sign(rand.Reader, digest, opts)
}

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
	e := &env{store: st, tokens: map[string]string{}, signer: &testSigner{key: newECKey(t, elliptic.P256())}}
	e.dns = dnstest.Start(t)
	web := httptest.NewServer(http.HandlerFunc(e.answer))
	t.Cleanup(web.Close)
	port, _ := strconv.Atoi(web.URL[strings.LastIndex(web.URL, ":")+1:])
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
	sealer, err := credential.NewSealer(bytes.Repeat([]byte{7}, credential.KEKSize))
	if err != nil {
		t.Fatal(err)
	}
	e.eab = credential.NewEAB(st, sealer, e.now)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	e.server, err = New(cfg, Deps{
		Store: st, Pipeline: e.newPipeline(t, log), Validator: validator, EAB: e.eab, Limits: limits, Node: st.Node(), Alone: true,
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

// newPipeline makes a root and the issuing CA "web".
func (e *env) newPipeline(t testing.TB, log *slog.Logger) *issuance.Pipeline {
	t.Helper()
	rootKey, now := newECKey(t, elliptic.P256()), time.Now()
	ca := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: now.Add(-2 * time.Hour), NotAfter: now.AddDate(15-5*int(serial), 0, 0),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: 2 - int(serial), MaxPathLenZero: true,
		}
	}
	e.root = certify(t, ca(1, "Test Root"), ca(1, "Test Root"), rootKey.Public(), rootKey)
	issuing := certify(t, ca(2, "Test Issuing CA"), e.root, e.signer.Public(), rootKey)
	for _, ca := range []struct {
		id, parent, state string
		cert              *x509.Certificate
	}{{"root", "", "offline", e.root}, {"web", "root", "active", issuing}} {
		err := e.store.PutIssuer(t.Context(), store.IssuerRecord{
			ID: ca.id, Name: ca.id, Generation: 1, State: ca.state, ParentID: ca.parent, Certificate: ca.cert.Raw,
			Subject: ca.cert.Subject.String(), NotAfter: ca.cert.NotAfter, CreatedAt: now,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	iss, err := issuer.New("web", []*x509.Certificate{issuing, e.root}, e.signer, issuer.Locations{
		CRL: "http://ca.test/crl/web.crl", OCSP: "http://ca.test/ocsp/web", CAIssuers: "http://ca.test/issuers/web.cer",
	})
	if err != nil {
		t.Fatal(err)
	}
	rules := issuance.Rules{
		Profiles: map[string]*profile.Profile{}, Issuers: map[string][]*issuer.Issuer{"web": {iss}},
	}
	for name, cfg := range profile.BuiltIn() {
		p, err := profile.Compile(name, cfg)
		if err != nil {
			t.Fatal(err)
		}
		rules.Profiles[name] = p
	}
	pipeline := issuance.New(issuance.Config{Store: e.store, Node: e.store.Node(), Now: e.now, Log: log})
	pipeline.Swap(rules)
	return pipeline
}

func certify(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// answer is the web server of every name that resolves to this machine.
func (e *env) answer(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	text, ok := e.tokens[strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")]
	e.mu.Unlock()
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
	e.handler.ServeHTTP(w, r)
	return &response{w.Code, w.Header(), w.Body.Bytes()}
}

func (e *env) get(method, path string) *response {
	return e.send(httptest.NewRequest(method, testBase+path, nil))
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
