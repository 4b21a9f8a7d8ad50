// Package logintest runs a real OpenID provider over TLS, for tests.
package logintest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// ClientID is what the provider calls the CA.
const ClientID = "privyseal"

// Provider is a provider that runs. Its people are those of Person.
type Provider struct {
	Issuer string
	CA     string       // PEM file of the CA of its TLS certificate
	Client *http.Client // trusts it

	store *providerStore

	mu    sync.Mutex
	down  bool
	forge func(claims map[string]any) (token string)
}

// providerStore is the library's store in memory, with people, claims and keys of ours.
type providerStore struct {
	*storage.Storage
	mu     sync.Mutex
	people map[string]*storage.User
	claims map[string]map[string]any // by person
	key    *signingKey
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Key() any                                    { return k.key }

type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.key.Public() }

// client has its claims in the ID token, and device codes.
type client struct{ *storage.Client }

func (client) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c client) GrantTypes() []oidc.GrantType {
	return append(c.Client.GrantTypes(), oidc.GrantTypeDeviceCode)
}

// Start runs a provider until the test ends.
func Start(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{store: &providerStore{people: map[string]*storage.User{}, claims: map[string]map[string]any{}}}
	p.store.Storage = storage.NewStorageWithClients(p.store, map[string]*storage.Client{
		ClientID: storage.NativeClient(ClientID, "http://127.0.0.1/callback"),
	})
	p.Rotate(t)
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	p.Issuer, p.Client = server.URL, server.Client()
	p.CA = filepath.Join(t.TempDir(), "provider-ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(p.CA, text, 0o600); err != nil {
		t.Fatal(err)
	}
	config := &op.Config{CodeMethodS256: true, GrantTypeRefreshToken: true, DeviceAuthorization: op.DeviceAuthorizationConfig{
		Lifetime: 5 * time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20,
	}}
	_, _ = rand.Read(config.CryptoKey[:])
	handler, err := op.NewProvider(config, p.store, op.StaticIssuer(p.Issuer), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p.between(handler)
	return p
}

// between is where a test lets the provider fail or lie.
func (p *Provider) between(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down, forge := p.down, p.forge
		p.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler)
		}
		if forge == nil || r.URL.Path != "/oauth/token" {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		var answer map[string]any
		if json.Unmarshal(rec.Body.Bytes(), &answer) == nil && answer["id_token"] != nil {
			answer["id_token"] = forge(claimsOf(answer["id_token"].(string)))
		}
		text, _ := json.Marshal(answer)
		maps.Copy(w.Header(), rec.Header())
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(rec.Code)
		_, _ = io.Copy(w, bytes.NewReader(text))
	})
}

func claimsOf(token string) map[string]any {
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		panic(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), &claims); err != nil {
		panic(err)
	}
	return claims
}

// Forge lets f make the ID tokens, from the claims of the right one; nil ends that.
func (p *Provider) Forge(f func(claims map[string]any) (token string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forge = f
}

// Sign makes a token by the provider's own key.
func (p *Provider) Sign(claims map[string]any) string {
	key, err := p.store.SigningKey(context.Background())
	if err != nil {
		panic(err)
	}
	at := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key.Key(), KeyID: key.ID()}}
	signer, err := jose.NewSigner(at, nil)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

// Down stops or starts its answers.
func (p *Provider) Down(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// Rotate gives it another key and forgets the one that it had.
func (p *Provider) Rotate(t testing.TB) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.key = &signingKey{id: rand.Text(), key: key}
}

// Person makes or changes somebody: claims beside those of the mail address.
func (p *Provider) Person(sub, mail string, claims map[string]any) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.people[sub] = &storage.User{ID: sub, Username: sub, Password: "password of " + sub, Email: mail, EmailVerified: true}
	p.store.claims[sub] = claims
}

// Remove takes somebody out.
func (p *Provider) Remove(sub string) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	delete(p.store.people, sub)
}

// Browse does what a browser and a person do with an authorization URL, and returns the
// redirect back.
func (p *Provider) Browse(t testing.TB, authorize, sub string) *url.URL {
	t.Helper()
	browser := *p.Client
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	to := p.follow(t, &browser, authorize)
	id := to.Query().Get("authRequestID")
	if err := p.store.CheckUsernamePassword(sub, "password of "+sub, id); err != nil {
		t.Fatalf("log in as %s at %s: %v", sub, to, err)
	}
	return p.follow(t, &browser, p.Issuer+"/authorize/callback?id="+url.QueryEscape(id))
}

func (p *Provider) follow(t testing.TB, browser *http.Client, at string) *url.URL {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	to, err := resp.Location()
	if err != nil {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("no redirect from %s: %s %s", at, resp.Status, text)
	}
	return to
}

// Enter does what a person does with a user code.
func (p *Provider) Enter(t testing.TB, userCode, sub string) {
	t.Helper()
	if err := p.store.CompleteDeviceAuthorization(t.Context(), userCode, sub); err != nil {
		t.Fatal(err)
	}
}

// Roots are what trusts the provider's TLS certificate.
func (p *Provider) Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(p.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// GetUserByID is the library's.
func (s *providerStore) GetUserByID(id string) *storage.User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.people[id]
}

// GetUserByUsername is the library's.
func (s *providerStore) GetUserByUsername(name string) *storage.User { return s.GetUserByID(name) }

// ExampleClientID is the library's.
func (s *providerStore) ExampleClientID() string { return "" }

// GetClientByClientID is the library's.
func (s *providerStore) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{c.(*storage.Client)}, nil
}

// SetUserinfoFromRequest is the library's.
func (s *providerStore) SetUserinfoFromRequest(
	ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string,
) error {
	if err := s.Storage.SetUserinfoFromRequest(ctx, info, token, scopes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range s.claims[token.GetSubject()] {
		info.AppendClaims(name, value)
	}
	return nil
}

// TokenRequestByRefreshToken is the library's.
func (s *providerStore) TokenRequestByRefreshToken(ctx context.Context, token string) (op.RefreshTokenRequest, error) {
	r, err := s.Storage.TokenRequestByRefreshToken(ctx, token)
	if err == nil && s.GetUserByID(r.GetSubject()) == nil {
		return nil, op.ErrInvalidRefreshToken
	}
	return r, err
}

// SigningKey is the library's.
func (s *providerStore) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key, nil
}

// KeySet is the library's.
func (s *providerStore) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []op.Key{publicKey{s.key}}, nil
}
