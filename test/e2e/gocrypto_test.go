package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/privyseal/privyseal/test/need"
)

// responder answers http-01 for any number of orders at once.
type responder struct {
	answers sync.Map // token → key authorization
}

func newResponder(t testing.TB, addr string) *responder {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &responder{}
	s := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return r
}

func (r *responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token := strings.TrimPrefix(req.URL.Path, "/.well-known/acme-challenge/")
	answer, ok := r.answers.Load(token)
	if !ok {
		http.NotFound(w, req)
		return
	}
	_, _ = fmt.Fprint(w, answer)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// goClient returns a client of golang.org/x/crypto/acme with a new account key.
func (l *site) goClient(t testing.TB, endpoint string) *acme.Client {
	t.Helper()
	return &acme.Client{Key: newKey(t), DirectoryURL: l.Directory(endpoint), HTTPClient: l.client(t, ""), UserAgent: "privyseal-e2e"}
}

func register(t testing.TB, c *acme.Client) {
	t.Helper()
	if _, err := c.Register(t.Context(), &acme.Account{Contact: []string{"mailto:a@lab.test"}}, acme.AcceptTOS); err != nil {
		t.Fatalf("register: %v", err)
	}
}

// order takes an order from the beginning to the certificate and returns the
// chain in PEM and the certificate's key.
func order(ctx context.Context, c *acme.Client, r *responder, names ...string) ([]byte, crypto.Signer, error) {
	template, ids := x509.CertificateRequest{}, []acme.AuthzID(nil)
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses, ids = append(template.IPAddresses, ip), append(ids, acme.IPIDs(name)...)
		} else {
			template.DNSNames, ids = append(template.DNSNames, name), append(ids, acme.DomainIDs(name)...)
		}
	}
	o, err := c.AuthorizeOrder(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("new order: %w", err)
	}
	if err := authorizeAll(ctx, c, r, o.AuthzURLs); err != nil {
		return nil, nil, err
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		return nil, nil, fmt.Errorf("wait for order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return nil, nil, err
	}
	ders, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr, true)
	if err != nil {
		return nil, nil, fmt.Errorf("finalize: %w", err)
	}
	var chain []byte
	for _, der := range ders {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return chain, key, nil
}

// authorizeAll works on eight authorizations at a time.
func authorizeAll(ctx context.Context, c *acme.Client, r *responder, uris []string) error {
	slots := make(chan struct{}, 8)
	errs := make([]error, len(uris))
	var wg sync.WaitGroup
	for i, u := range uris {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = authorize(ctx, c, r, u)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func authorize(ctx context.Context, c *acme.Client, r *responder, uri string) error {
	z, err := c.GetAuthorization(ctx, uri)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if z.Status == acme.StatusValid {
		return nil
	}
	for _, ch := range z.Challenges {
		if ch.Type != "http-01" {
			continue
		}
		answer, err := c.HTTP01ChallengeResponse(ch.Token)
		if err != nil {
			return err
		}
		r.answers.Store(ch.Token, answer)
		if _, err := c.Accept(ctx, ch); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if _, err := c.WaitAuthorization(ctx, uri); err != nil {
			return fmt.Errorf("wait for authorization: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%s: no http-01 among the challenges", z.Identifier.Value)
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%03d.lab.test", i)
	}
	return names
}

func TestGoClient(t *testing.T) {
	need.Programs(t, "openssl")
	each(t, func(t *testing.T, l *site) {
		r := newResponder(t, l.Addr.HTTP01)
		c := l.goClient(t, "default")
		register(t, c)
		mustOrder := func(t *testing.T, names ...string) ([]byte, crypto.Signer) {
			t.Helper()
			chain, key, err := order(t.Context(), c, r, names...)
			if err != nil {
				t.Fatal(err)
			}
			l.checkChain(t, chain, names...)
			return chain, key
		}
		t.Run("1 name", func(t *testing.T) { mustOrder(t, "one.lab.test") })
		t.Run("100 names", func(t *testing.T) {
			start := time.Now()
			mustOrder(t, manyNames(100)...)
			t.Logf("100 names took %s", time.Since(start).Round(time.Millisecond))
		})
		t.Run("an address", func(t *testing.T) {
			mustOrder(t, "127.0.0.1")
			mustOrder(t, "127.0.0.1", "one.lab.test")
		})
		t.Run("revoke by the certificate's key", func(t *testing.T) {
			chain, key := mustOrder(t, "gone.lab.test")
			leaf := parseChain(t, chain)[0]
			if err := c.RevokeCert(t.Context(), key, leaf.Raw, acme.CRLReasonKeyCompromise); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("key rollover", func(t *testing.T) { rollover(t, l, c, r) })
		t.Run("deactivate", func(t *testing.T) {
			if err := c.DeactivateReg(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.AuthorizeOrder(t.Context(), acme.DomainIDs("x.lab.test")); err == nil {
				t.Error("a deactivated account may order")
			}
		})
	})
}

func rollover(t *testing.T, l *site, c *acme.Client, r *responder) {
	old := c.Key
	account, err := c.GetReg(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AccountKeyRollover(t.Context(), newKey(t)); err != nil {
		t.Fatal(err)
	}
	after, err := c.GetReg(t.Context(), "")
	if err != nil || after.URI != account.URI {
		t.Fatalf("after the rollover the account is %+v, %v, want %s", after, err, account.URI)
	}
	chain, _, err := order(t.Context(), c, r, "rolled.lab.test")
	if err != nil {
		t.Fatal(err)
	}
	l.checkChain(t, chain, "rolled.lab.test")
	stale := &acme.Client{Key: old, KID: acme.KeyID(account.URI), DirectoryURL: c.DirectoryURL, HTTPClient: c.HTTPClient}
	if _, err := stale.AuthorizeOrder(t.Context(), acme.DomainIDs("x.lab.test")); err == nil {
		t.Error("the old key still signs for the account")
	}
}

// TestConcurrentOrders takes 16 orders at once on one account.
func TestConcurrentOrders(t *testing.T) {
	need.Programs(t, "openssl")
	each(t, func(t *testing.T, l *site) {
		r := newResponder(t, l.Addr.HTTP01)
		c := l.goClient(t, "default")
		register(t, c)
		const parallel, rounds = 16, 3
		chains := make([][]byte, parallel*rounds)
		var wg sync.WaitGroup
		for i := range parallel {
			wg.Go(func() {
				for j := range rounds {
					n := i*rounds + j
					chain, _, err := order(t.Context(), c, r, fmt.Sprintf("c%d.lab.test", n))
					if err != nil {
						t.Errorf("order %d: %v", n, err)
						return
					}
					chains[n] = chain
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		serials := map[string]bool{}
		for i, chain := range chains {
			leaf := parseChain(t, chain)[0]
			serials[leaf.SerialNumber.String()] = true
			if i%8 == 0 {
				l.checkChain(t, chain, fmt.Sprintf("c%d.lab.test", i))
			}
		}
		if len(serials) != len(chains) {
			t.Errorf("%d serials for %d certificates", len(serials), len(chains))
		}
	})
}

// createEAB has the operator make an EAB key for the endpoint that requires one.
func (l *site) createEAB(t testing.TB) (kid, hmac string) {
	t.Helper()
	out := l.operate(t, "eab", "create", "--endpoint", "eab", "--any-name", "--json")
	var key struct{ KID, HMAC string }
	if err := json.Unmarshal([]byte(out), &key); err != nil || key.KID == "" || key.HMAC == "" {
		t.Fatalf("eab create --json printed %q (%v)", out, err)
	}
	return key.KID, key.HMAC
}

func TestGoClientEAB(t *testing.T) {
	need.Programs(t, "openssl")
	each(t, func(t *testing.T, l *site) {
		r := newResponder(t, l.Addr.HTTP01)
		c := l.goClient(t, "eab")
		dir, err := c.Discover(t.Context())
		if err != nil || !dir.ExternalAccountRequired {
			t.Fatalf("directory %+v, %v: want externalAccountRequired", dir, err)
		}
		if _, err := c.Register(t.Context(), &acme.Account{}, acme.AcceptTOS); err == nil {
			t.Error("an account without EAB was made")
		}
		kid, hmac := l.createEAB(t)
		key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(hmac, "="))
		if err != nil {
			t.Fatalf("hmac %q: %v", hmac, err)
		}
		account := &acme.Account{ExternalAccountBinding: &acme.ExternalAccountBinding{KID: kid, Key: key}}
		if _, err := c.Register(t.Context(), account, acme.AcceptTOS); err != nil {
			t.Fatalf("register with EAB: %v", err)
		}
		chain, _, err := order(t.Context(), c, r, "bound.lab.test")
		if err != nil {
			t.Fatal(err)
		}
		l.checkChain(t, chain, "bound.lab.test")
	})
}
