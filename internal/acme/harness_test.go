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
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
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
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
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
	for id, cert := range map[string]*x509.Certificate{"root": e.root, "web": issuing} {
		err := e.store.PutIssuer(t.Context(), store.IssuerRecord{
			ID: id, Name: id, Generation: 1, State: "active", Certificate: cert.Raw, Subject: cert.Subject.String(),
			NotAfter: cert.NotAfter, CreatedAt: now,
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

// client is a tiny ACME client.
type client struct {
	t    testing.TB
	e    *env
	base string // of the endpoint
	key  crypto.Signer
	kid  string
}

func (e *env) client(t testing.TB, endpoint string) *client {
	t.Helper()
	return &client{t: t, e: e, base: testBase + "/acme/" + endpoint, key: newECKey(t, elliptic.P256())}
}

// account registers a new account at /acme/default.
func (e *env) account(t testing.TB) *client {
	t.Helper()
	c := e.client(t, "default")
	c.register(map[string]any{"termsOfServiceAgreed": true})
	return c
}

func (c *client) register(payload map[string]any) *response {
	c.t.Helper()
	r := c.postJWK(c.base+"/new-account", payload)
	want(c.t, r, http.StatusCreated)
	c.kid = r.header.Get("Location")
	return r
}

func text(t testing.TB, payload any) string {
	t.Helper()
	if s, ok := payload.(string); ok {
		return s
	}
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// postJWK signs with the key itself, post with the account.
func (c *client) postJWK(target string, payload any) *response {
	c.t.Helper()
	return c.e.postRaw(target, sign(c.t, c.key, map[string]any{
		"nonce": c.e.server.nonces.next(), "url": target, "jwk": jwkOf(c.t, c.key.Public()),
	}, text(c.t, payload)))
}

func (c *client) post(target string, payload any) *response {
	c.t.Helper()
	return c.e.postRaw(target, c.signed(target, payload))
}

func (c *client) signed(target string, payload any) []byte {
	c.t.Helper()
	return sign(c.t, c.key, map[string]any{"nonce": c.e.server.nonces.next(), "url": target, "kid": c.kid}, text(c.t, payload))
}

func (c *client) read(target string) *response {
	c.t.Helper()
	r := c.post(target, "")
	want(c.t, r, http.StatusOK)
	return r
}

func dnsNames(names ...string) []map[string]string {
	var ids []map[string]string
	for _, n := range names {
		typ := "dns"
		if net.ParseIP(n) != nil {
			typ = "ip"
		}
		ids = append(ids, map[string]string{"type": typ, "value": n})
	}
	return ids
}

// order places an order and returns it with its URL.
func (c *client) order(names ...string) (orderView, string) {
	c.t.Helper()
	r := c.post(c.base+"/new-order", map[string]any{"identifiers": dnsNames(names...)})
	want(c.t, r, http.StatusCreated)
	return decodeInto[orderView](c.t, r), r.header.Get("Location")
}

// thumbprint is that of the client's key now.
func (c *client) thumbprint() string {
	k, err := newPublicKey(c.key.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	return k.thumbprint
}

// respond publishes the answer of a challenge and asks for its validation.
func (c *client) respond(authzURL, typ string) (authorizationView, *response) {
	c.t.Helper()
	a := decodeInto[authorizationView](c.t, c.read(authzURL))
	for _, ch := range a.Challenges {
		if ch.Type != typ {
			continue
		}
		keyAuth := ch.Token + "." + c.thumbprint()
		switch typ {
		case "http-01":
			c.e.publish(ch.Token, keyAuth)
		case "dns-01":
			sum := crypto.SHA256.New()
			sum.Write([]byte(keyAuth))
			c.e.dns.SetTXT("_acme-challenge."+a.Identifier.Value, base64.RawURLEncoding.EncodeToString(sum.Sum(nil)))
		}
		return a, c.post(ch.URL, "{}")
	}
	c.t.Fatalf("no %s in %v", typ, a.Challenges)
	return a, nil
}

// await polls until the object's status is none of the given ones.
func (c *client) await(target string, while ...string) (status string, r *response) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		r = c.read(target)
		status = decodeInto[struct{ Status string }](c.t, r).Status
		if !strings.Contains(strings.Join(while, " "), status) {
			return status, r
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is still %s", target, r.body)
		}
		time.Sleep(5 * time.Millisecond) // polling a condition
	}
}

// authorize makes every authorization of an order valid.
func (c *client) authorize(o orderView) {
	c.t.Helper()
	for _, u := range o.Authorizations {
		a := decodeInto[authorizationView](c.t, c.read(u))
		if a.Status == statusValid {
			continue
		}
		typ := "http-01"
		if a.Wildcard {
			typ = "dns-01"
		}
		_, r := c.respond(u, typ)
		want(c.t, r, http.StatusOK)
		if status, r := c.await(u, statusPending); status != statusValid {
			c.t.Fatalf("authorization %s", r.body)
		}
	}
}

// csr returns a request for names, SAN only, with a new key unless one is given.
func csr(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	return csrOf(t, template, key)
}

func csrOf(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	if key == nil {
		key = newECKey(t, elliptic.P256())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func csrPayload(der []byte) map[string]string {
	return map[string]string{"csr": base64.RawURLEncoding.EncodeToString(der)}
}

// ready places an order and proves its names.
func (c *client) ready(names ...string) (orderView, string) {
	c.t.Helper()
	o, u := c.order(names...)
	c.authorize(o)
	o = decodeInto[orderView](c.t, c.read(u))
	if o.Status != statusReady {
		c.t.Fatalf("order is %s", o.Status)
	}
	return o, u
}

// issue goes all the way and returns the chain, leaf first.
func (c *client) issue(key crypto.Signer, names ...string) []*x509.Certificate {
	c.t.Helper()
	o, u := c.ready(names...)
	r := c.post(o.Finalize, csrPayload(csr(c.t, key, names...)))
	want(c.t, r, http.StatusOK)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		c.t.Fatalf("order %s", r.body)
	}
	o = decodeInto[orderView](c.t, c.read(u))
	return chainOf(c.t, c.read(o.Certificate).body)
}

func chainOf(t testing.TB, text []byte) []*x509.Certificate {
	t.Helper()
	var chain []*x509.Certificate
	for len(text) > 0 {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			t.Fatalf("not PEM: %q", text)
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}
