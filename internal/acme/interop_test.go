package acme

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	client509 "golang.org/x/crypto/acme"

	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// listen serves e over TLS and returns a client of golang.org/x/crypto/acme.
func listen(t *testing.T) (*env, *client509.Client) {
	t.Helper()
	var e *env
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.handler.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	e = newIdleEnv(t, storetest.SQLite(t), func(c *Config, _ *limit.Config) { c.BaseURL = srv.URL })
	e.run(t)
	c := &client509.Client{
		Key: newECKey(t, elliptic.P256()), HTTPClient: srv.Client(), DirectoryURL: srv.URL + "/acme/default/directory",
		RetryBackoff: func(int, *http.Request, *http.Response) time.Duration { return 10 * time.Millisecond },
	}
	return e, c
}

func obtain(ctx context.Context, t *testing.T, e *env, c *client509.Client, names ...string) *x509.Certificate {
	t.Helper()
	o, err := c.AuthorizeOrder(ctx, client509.DomainIDs(names...))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range o.AuthzURLs {
		a, err := c.GetAuthorization(ctx, u)
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == client509.StatusValid {
			continue
		}
		answer, err := c.HTTP01ChallengeResponse(a.Challenges[0].Token)
		if err != nil {
			t.Fatal(err)
		}
		e.publish(a.Challenges[0].Token, answer)
		if _, err := c.Accept(ctx, a.Challenges[0]); err != nil {
			t.Fatal(err)
		}
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		t.Fatal(err)
	}
	chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csr(t, nil, names...), true)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(leaf.DNSNames, " "); got != strings.Join(names, " ") {
		t.Errorf("names %s", got)
	}
	return leaf
}

func TestInteropGoClient(t *testing.T) {
	t.Parallel()
	e, c := listen(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Register(ctx, &client509.Account{Contact: []string{"mailto:a@example.com"}}, client509.AcceptTOS); err != nil {
		t.Fatal(err)
	}
	leaf := obtain(ctx, t, e, c, "one.localhost")
	if err := c.AccountKeyRollover(ctx, newECKey(t, elliptic.P384())); err != nil {
		t.Fatal(err)
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("n%02d.localhost", i)
	}
	obtain(ctx, t, e, c, many...)
	var wg sync.WaitGroup
	for i := range 16 { // one account, orders at once
		wg.Go(func() { obtain(ctx, t, e, c, fmt.Sprintf("p%d.localhost", i)) })
	}
	wg.Wait()
	if err := c.RevokeCert(ctx, nil, leaf.Raw, client509.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if err := c.DeactivateReg(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthorizeOrder(ctx, client509.DomainIDs("late.localhost")); err == nil {
		t.Error("a deactivated account orders")
	}
}
