// Package acmeclient is a small ACME client (RFC 8555) for load and fault runs:
// it keeps its connections and nonces, spends little time of its own, and tells
// how long each step took. It takes nothing for granted: an answer of another
// status than the one that the RFC names is an error with the server's problem.
package acmeclient

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Problem is a problem document (RFC 8555, section 6.7).
type Problem struct {
	Type       string `json:"type"`
	Detail     string `json:"detail"`
	Status     int    `json:"status"`
	RetryAfter time.Duration
}

func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Type, p.Detail) }

// Directory is the part of the directory that the client uses.
type Directory struct {
	NewNonce   string `json:"newNonce"`
	NewAccount string `json:"newAccount"`
	NewOrder   string `json:"newOrder"`
	RevokeCert string `json:"revokeCert"`
}

// Client is one account. It may be used from many goroutines.
type Client struct {
	Posts atomic.Int64 // signed requests sent so far

	http       *http.Client
	dir        Directory
	key        *ecdsa.PrivateKey
	jwk        string
	kid        string
	thumbprint string
	responder  *Responder

	mu     sync.Mutex
	nonces []string
}

// New reads the directory and makes an account key. Register makes the account.
func New(ctx context.Context, hc *http.Client, directory string, responder *Responder) (*Client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &Client{http: hc, key: key, responder: responder}
	point := make([]byte, 64)
	key.X.FillBytes(point[:32])
	key.Y.FillBytes(point[32:])
	c.jwk = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, b64(point[:32]), b64(point[32:]))
	sum := sha256.Sum256([]byte(c.jwk)) // the members are in the order of RFC 7638
	c.thumbprint = b64(sum[:])
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, directory, nil)
	if err != nil {
		return nil, err
	}
	return c, c.do(req, http.StatusOK, &c.dir, nil)
}

// Register makes the account.
func (c *Client) Register(ctx context.Context) error {
	return c.register(ctx, `{"termsOfServiceAgreed":true}`)
}

// RegisterBound makes the account with an external account binding (RFC 8555, section
// 7.3.4). hmacKey is in base64url.
func (c *Client) RegisterBound(ctx context.Context, kid, hmacKey string) error {
	key, err := base64.RawURLEncoding.DecodeString(hmacKey)
	if err != nil {
		return err
	}
	protected, payload := b64([]byte(`{"alg":"HS256","kid":"`+kid+`","url":"`+c.dir.NewAccount+`"}`)),
		b64([]byte(c.jwk))
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(protected + "." + payload)) // a hash never fails
	return c.register(ctx, `{"termsOfServiceAgreed":true,"externalAccountBinding":{"protected":"`+protected+
		`","payload":"`+payload+`","signature":"`+b64(mac.Sum(nil))+`"}}`)
}

func (c *Client) register(ctx context.Context, payload string) error {
	var h http.Header
	err := c.post(ctx, c.dir.NewAccount, payload, http.StatusCreated, nil, &h)
	if err == nil {
		c.kid = h.Get("Location")
	}
	return err
}

type order struct {
	Status         string   `json:"status"`
	Authorizations []string `json:"authorizations"`
	Finalize       string   `json:"finalize"`
	Certificate    string   `json:"certificate"`
	Error          *Problem `json:"error"`
}

type authorization struct {
	Status     string `json:"status"`
	Challenges []struct {
		Type  string   `json:"type"`
		URL   string   `json:"url"`
		Token string   `json:"token"`
		Error *Problem `json:"error"`
	} `json:"challenges"`
}

// Steps is told how long each step of Certify took, waiting included.
type Steps func(step string, took time.Duration)

// Certify gets a certificate for the names by http-01 and returns the PEM chain.
// The key of the certificate is key.
func (c *Client) Certify(ctx context.Context, key *ecdsa.PrivateKey, steps Steps, names ...string) ([]byte, error) {
	began := time.Now()
	mark := func(step string) {
		now := time.Now()
		steps(step, now.Sub(began))
		began = now
	}
	var o order
	var h http.Header
	if err := c.post(ctx, c.dir.NewOrder, identifiers(names), http.StatusCreated, &o, &h); err != nil {
		return nil, fmt.Errorf("new order: %w", err)
	}
	url := h.Get("Location")
	mark("order")
	for _, authz := range o.Authorizations {
		if err := c.authorize(ctx, authz, mark); err != nil {
			return nil, err
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		return nil, err
	}
	began = time.Now()
	if err := c.post(ctx, o.Finalize, `{"csr":"`+b64(csr)+`"}`, http.StatusOK, &o, &h); err != nil {
		return nil, fmt.Errorf("finalize: %w", err)
	}
	for wait := firstPoll; o.Status == "processing"; wait *= 2 {
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		if err := c.post(ctx, url, "", http.StatusOK, &o, &h); err != nil {
			return nil, fmt.Errorf("poll order: %w", err)
		}
	}
	mark("finalize")
	if o.Status != "valid" {
		return nil, fmt.Errorf("order is %s: %w", o.Status, problem(o.Error))
	}
	chain, err := c.download(ctx, o.Certificate)
	mark("download")
	return chain, err
}

// Provoke orders a certificate for a name and asks for the validation by http-01, whose
// outcome it does not wait for.
func (c *Client) Provoke(ctx context.Context, name string) error {
	var o order
	if err := c.post(ctx, c.dir.NewOrder, identifiers([]string{name}), http.StatusCreated, &o, nil); err != nil {
		return fmt.Errorf("new order: %w", err)
	}
	var a authorization
	if err := c.post(ctx, o.Authorizations[0], "", http.StatusOK, &a, nil); err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	for _, ch := range a.Challenges {
		if ch.Type != "http-01" {
			continue
		}
		if err := c.post(ctx, ch.URL, "{}", http.StatusOK, nil, nil); err != nil {
			return fmt.Errorf("challenge: %w", err)
		}
	}
	return nil
}

// authorize answers the http-01 challenge and waits until the name is proved.
func (c *Client) authorize(ctx context.Context, url string, mark func(string)) error {
	var a authorization
	if err := c.post(ctx, url, "", http.StatusOK, &a, nil); err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	mark("authorization")
	if a.Status == "valid" {
		return nil
	}
	for _, ch := range a.Challenges {
		if ch.Type != "http-01" {
			continue
		}
		c.responder.Set(ch.Token, ch.Token+"."+c.thumbprint)
		if err := c.post(ctx, ch.URL, "{}", http.StatusOK, nil, nil); err != nil {
			return fmt.Errorf("challenge: %w", err)
		}
		mark("challenge")
	}
	for wait := firstPoll; ; wait *= 2 {
		if err := c.post(ctx, url, "", http.StatusOK, &a, nil); err != nil {
			return fmt.Errorf("poll authorization: %w", err)
		}
		switch a.Status {
		case "valid":
			mark("validated")
			return nil
		case "pending":
			if err := pause(ctx, wait); err != nil {
				return err
			}
		default:
			return fmt.Errorf("authorization is %s: %w", a.Status, problem(a.Challenges[0].Error))
		}
	}
}

func (c *Client) download(ctx context.Context, url string) ([]byte, error) {
	var chain []byte
	if err := c.post(ctx, url, "", http.StatusOK, &chain, nil); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return chain, nil
}

func problem(p *Problem) error {
	if p == nil {
		return fmt.Errorf("the server does not say why")
	}
	return p
}

// firstPoll is how long the client waits before it asks again, the first time.
// Retry-After counts in whole seconds, which is longer than a whole flow takes.
const firstPoll = 20 * time.Millisecond

func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(wait, time.Second)):
		return nil
	}
}

func identifiers(names []string) string {
	type id struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	var body struct {
		Identifiers []id `json:"identifiers"`
	}
	for _, n := range names {
		body.Identifiers = append(body.Identifiers, id{"dns", n})
	}
	text, _ := json.Marshal(body) // strings always encode
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// post sends a signed request; a refused nonce is tried again (RFC 8555, section
// 6.5), as every client does.
func (c *Client) post(ctx context.Context, url, payload string, status int, into any, header *http.Header) error {
	for try := 0; ; try++ {
		body, err := c.sign(ctx, url, payload)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/jose+json")
		c.Posts.Add(1)
		err = c.do(req, status, into, header)
		if p, ok := err.(*Problem); ok && p.Type == "urn:ietf:params:acme:error:badNonce" && try < 3 { //nolint:errorlint // do returns it bare
			continue
		}
		return err
	}
}

func (c *Client) do(req *http.Request, status int, into any, header *http.Header) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n := resp.Header.Get("Replay-Nonce"); n != "" {
		c.mu.Lock()
		c.nonces = append(c.nonces, n)
		c.mu.Unlock()
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if header != nil {
		*header = resp.Header
	}
	if resp.StatusCode != status {
		p := &Problem{Status: resp.StatusCode, Detail: string(body)}
		_ = json.Unmarshal(body, p) // a body that is no problem document stays as the detail
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			p.RetryAfter = time.Duration(s) * time.Second
		}
		return p
	}
	switch into := into.(type) {
	case nil:
		return nil
	case *[]byte:
		*into = body
		return nil
	default:
		return json.Unmarshal(body, into)
	}
}

func (c *Client) sign(ctx context.Context, url, payload string) ([]byte, error) {
	nonce, err := c.nonce(ctx)
	if err != nil {
		return nil, err
	}
	who := `"kid":"` + c.kid + `"`
	if c.kid == "" {
		who = `"jwk":` + c.jwk
	}
	protected := b64([]byte(`{"alg":"ES256",` + who + `,"nonce":"` + nonce + `","url":"` + url + `"}`))
	text := b64([]byte(payload))
	digest := sha256.Sum256([]byte(protected + "." + text))
	r, s, err := ecdsa.Sign(rand.Reader, c.key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return []byte(`{"protected":"` + protected + `","payload":"` + text + `","signature":"` + b64(signature) + `"}`),
		nil
}

func (c *Client) nonce(ctx context.Context) (string, error) {
	for try := 0; ; try++ {
		c.mu.Lock()
		if n := len(c.nonces); n > 0 {
			nonce := c.nonces[n-1]
			c.nonces = c.nonces[:n-1]
			c.mu.Unlock()
			return nonce, nil
		}
		c.mu.Unlock()
		if try > 0 {
			return "", fmt.Errorf("the server gave no nonce")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.dir.NewNonce, nil)
		if err != nil {
			return "", err
		}
		if err := c.do(req, http.StatusOK, nil, nil); err != nil {
			return "", fmt.Errorf("new nonce: %w", err)
		}
	}
}
