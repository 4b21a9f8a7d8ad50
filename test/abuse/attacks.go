package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/test/acmeclient"
	"github.com/privyseal/privyseal/test/deviceclient"
)

// Bounds of the attacks: what they send, in all.
const (
	tarPits  = 400
	messages = 6000
	idle     = 3000
	rate     = 200 // a second; they share the processors with the server
	hugeBits = 254_000
)

// attack is one of them. It tells ready when it has prepared what it sends, and goes on
// until it has sent it all or ctx ends.
type attack struct {
	name string
	run  func(ctx context.Context, t *target, workers int, ready chan<- error) tally
}

var attacks = []attack{
	{"scep-key", hugeSCEP},       // FS2
	{"jws-key", hugeJWS},         // FS2
	{"ocsp", spellings},          // FS3
	{"tar-pit", tarPitted},       // FS4
	{"guesses", guesses},         // FS5's kind: passwords of an EST user
	{"unproved", unproved},       // FS12
	{"idle", connections(false)}, // FS14
	{"slow", connections(true)},  // FS14
}

// tally says what became of what was sent.
type tally struct {
	sent     int
	outcomes map[string]int
}

func (t tally) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(t.outcomes)) {
		parts = append(parts, fmt.Sprintf("%s: %d", k, t.outcomes[k]))
	}
	return fmt.Sprintf("%d sent; %s", t.sent, strings.Join(parts, ", "))
}

// flood calls send from several workers, at most so often and not faster than rate,
// until ctx ends. send returns what became of it in a word.
func flood(ctx context.Context, workers, most int, send func(n int) string) tally {
	began := time.Now()
	var mu sync.Mutex
	var working sync.WaitGroup
	var next atomic.Int64
	t := tally{outcomes: map[string]int{}}
	for range workers {
		working.Go(func() {
			for n := int(next.Add(1)) - 1; n < most && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/rate))) != nil {
					return
				}
				outcome := send(n)
				if ctx.Err() != nil {
					return // it was broken off
				}
				mu.Lock()
				t.sent++
				t.outcomes[outcome]++
				mu.Unlock()
			}
		})
	}
	working.Wait()
	return t
}

// post sends a body and returns the status of the answer.
func post(ctx context.Context, hc *http.Client, url, contentType string, body []byte) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Content-Type", contentType)
	return status(hc.Do(r))
}

func status(resp *http.Response, err error) string {
	if err != nil {
		return "no answer"
	}
	_, _ = io.Copy(io.Discard, resp.Body) // only keeps the connection
	_ = resp.Body.Close()
	return resp.Status[:3]
}

// device is what writes SCEP messages to an endpoint.
func device(ctx context.Context, t *target, workers int, path string) (*http.Client, string, *deviceclient.SCEP,
	*deviceclient.Device, error) {
	hc, err := t.client(ctx, attackers, workers)
	if err != nil {
		return nil, "", nil, nil, err
	}
	url := "http://" + t.server.Addr.HTTP + "/scep/" + path
	endpoint, err := deviceclient.NewSCEP(ctx, hc, url)
	if err != nil {
		return nil, "", nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, "", nil, nil, err
	}
	d, err := deviceclient.NewDevice(key)
	return hc, url + "?operation=PKIOperation", endpoint, d, err
}

// hugeSCEP sends requests for a key whose one operation takes seconds.
func hugeSCEP(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, url, endpoint, d, err := device(ctx, t, workers, "default")
	var message []byte
	if err == nil {
		var csr []byte
		if csr, err = deviceclient.CSR(pkitest.Huge(hugeBits), "huge"); err == nil {
			message, err = endpoint.Message(d, deviceclient.PKCSReq, "huge", csr)
		}
	}
	if ready <- err; err != nil {
		return tally{}
	}
	return flood(ctx, workers, messages, func(int) string {
		return post(ctx, hc, url, "application/x-pki-message", message)
	})
}

// hugeJWS sends new-account requests that are signed by such a key.
func hugeJWS(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, err := t.client(ctx, attackers, workers)
	huge := pkitest.Huge(40_000) // more does not fit into a message of 64 KiB
	if ready <- err; err != nil {
		return tally{}
	}
	base := strings.TrimSuffix(t.server.Directory("default"), "directory")
	return flood(ctx, workers, messages, func(int) string {
		resp, err := hc.Head(base + "new-nonce")
		if s := status(resp, err); s != "200" {
			return "nonce: " + s
		}
		body, err := hugeMessage(huge, base+"new-account", resp.Header.Get("Replay-Nonce"))
		if err != nil {
			return err.Error()
		}
		return post(ctx, hc, base+"new-account", "application/jose+json", body)
	})
}

func hugeMessage(key *pkitest.HugeKey, url, nonce string) ([]byte, error) {
	public, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a huge key is %T", key.Public())
	}
	b64 := base64.RawURLEncoding.EncodeToString
	protected := b64(fmt.Appendf(nil, `{"alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"%s"},"nonce":"%s","url":"%s"}`,
		b64(public.N.Bytes()), nonce, url))
	signature := make([]byte, public.Size())
	digest := sha256.Sum256([]byte(protected + "."))
	copy(signature, digest[:]) // it need not be right: what it costs is to find that out
	return json.Marshal(map[string]string{"protected": protected, "payload": "", "signature": b64(signature)})
}

// tarPitted asks for validations at a host that accepts and says nothing.
func tarPitted(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, err := t.client(ctx, attackers, workers)
	var c *acmeclient.Client
	if err == nil {
		if c, err = acmeclient.New(ctx, hc, t.server.Directory("default"), t.responder); err == nil {
			err = c.Register(ctx)
		}
	}
	if ready <- err; err != nil {
		return tally{}
	}
	return flood(ctx, workers, tarPits, func(n int) string { return provoke(ctx, c, n) })
}

// provoke does not wait for what the server holds back for a second, in case that the
// validation is over by then.
func provoke(ctx context.Context, c *acmeclient.Client, n int) string {
	impatient, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := c.Provoke(impatient, tarName(n))
	if errors.Is(err, context.DeadlineExceeded) {
		return "taken"
	}
	return told(err)
}

func told(err error) string {
	if err == nil {
		return "taken"
	}
	if _, problem, found := strings.Cut(err.Error(), "urn:ietf:params:acme:error:"); found {
		name, _, _ := strings.Cut(problem, ":")
		return name
	}
	return "no answer"
}

// guesses tries passwords of an EST user.
func guesses(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, err := t.client(ctx, attackers, workers)
	var csr []byte
	if err == nil {
		var key *rsa.PrivateKey
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			csr, err = deviceclient.CSR(key, "guess")
		}
	}
	if ready <- err; err != nil {
		return tally{}
	}
	body := base64.StdEncoding.AppendEncode(nil, csr)
	url := "https://localhost:" + port(t.server.Addr.EST) + "/.well-known/est/simpleenroll"
	return flood(ctx, workers, messages, func(n int) string {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		r.Header.Set("Content-Type", "application/pkcs10")
		r.Header.Set("Content-Transfer-Encoding", "base64")
		r.SetBasicAuth("dev", fmt.Sprint("guess-", n))
		return status(hc.Do(r))
	})
}

func port(hostport string) string { return hostport[strings.LastIndex(hostport, ":")+1:] }

// unproved sends requests that no secret proves to an endpoint where an operator decides.
func unproved(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, url, endpoint, d, err := device(ctx, t, workers, "manual")
	var prepared [][]byte
	for n := 0; n < 300 && err == nil; n++ {
		var csr, message []byte
		if csr, err = deviceclient.CSR(d.Key, fmt.Sprint("stranger-", n)); err == nil {
			message, err = endpoint.Message(d, deviceclient.PKCSReq, fmt.Sprint("stranger-", n), csr)
		}
		prepared = append(prepared, message)
	}
	if ready <- err; err != nil {
		return tally{}
	}
	return flood(ctx, workers, len(prepared), func(n int) string {
		return post(ctx, hc, url, "application/x-pki-message", prepared[n])
	})
}

// connections opens connections to every listener, one after the other, and keeps them:
// silent, or with a header that never ends.
func connections(slow bool) func(context.Context, *target, int, chan<- error) tally {
	return func(ctx context.Context, t *target, _ int, ready chan<- error) tally {
		ready <- nil
		listeners := []string{t.server.Addr.HTTP, t.server.Addr.HTTPS, t.server.Addr.EST, t.server.Addr.Ops}
		return flood(ctx, 200, idle, func(n int) string { return hold(ctx, listeners[n%len(listeners)], slow) })
	}
}

// hold opens a connection and keeps it until the other side or the attack ends.
func hold(ctx context.Context, addr string, slow bool) string {
	c, err := dialer(attackers).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "not opened"
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if slow {
		go trickle(ctx, c)
	}
	began := time.Now()
	_, err = io.Copy(io.Discard, c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // Copy returns it bare
		return "timed out"
	}
	if time.Since(began) < time.Second {
		return "closed at once"
	}
	return "closed later"
}

// trickle sends a header one octet at a time.
func trickle(ctx context.Context, c net.Conn) {
	for n := 0; pause(ctx, 200*time.Millisecond) == nil; n++ {
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaa"[min(n, 30):][:1])); err != nil {
			return
		}
	}
}
