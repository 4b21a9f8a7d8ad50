package credential

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/strictyaml"
)

// KindWebhook begins the identity of who was authenticated by a webhook.
const KindWebhook = "webhook"

// SignatureHeader and TimestampHeader carry the proof that a call is ours; see
// docs/webhooks.md.
const (
	SignatureHeader = "Privyseal-Signature"
	TimestampHeader = "Privyseal-Timestamp"
)

const (
	webhookTimeout = 5 * time.Second
	maxVerdict     = 64 << 10
)

// WebhookConfig is a service of the operator's, such as an MDM, that knows which
// device may enrol.
type WebhookConfig struct {
	// Name names the webhook in the audit record and in endpoints.
	Name string `yaml:"name" json:"name"`
	// URL is asked before a certificate is issued. It is https, or http on this
	// machine.
	URL string `yaml:"url" json:"url"`
	// NotifyURL is told what became of the request; nothing is told if left out.
	NotifyURL string `yaml:"notify_url,omitempty" json:"notify_url,omitempty"`
	// Timeout bounds a call. Default: 5s.
	Timeout time.Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`
	// KeyRef refers to the key that signs our calls: file:PATH, env:NAME or
	// credential:NAME, 32 bytes or more, taken as they stand there.
	KeyRef string `yaml:"key" json:"key"`
	// CA is a PEM file of the CAs that the service's TLS certificate may come from.
	// Default: those that the system trusts.
	CA string `yaml:"ca,omitempty" json:"ca,omitempty" path:"file"`
}

// Patience is how long a call may take.
func (c *WebhookConfig) Patience() time.Duration { return cmp.Or(c.Timeout, webhookTimeout) }

// Check reports what is wrong with the configuration by itself.
func (c *WebhookConfig) Check() error {
	const wanted = "want an https URL, or http on this machine"
	return errors.Join(
		strictyaml.WrongIf(c.Name == "", "name", "it needs a name"),
		strictyaml.WrongIf(c.Timeout < 0 || c.Timeout > 15*time.Second, "timeout", "%s: want 15s at most", c.Timeout),
		strictyaml.WrongIf(!callable(c.URL), "url", wanted),
		strictyaml.WrongIf(c.NotifyURL != "" && !callable(c.NotifyURL), "notify_url", wanted),
	)
}

func callable(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && u.Fragment == "" &&
		(u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()))
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Webhook is one that can be called.
type Webhook struct {
	WebhookConfig
	Key []byte // what KeyRef refers to
	// Client makes the calls. It comes from challenge.Dialer, so that a URL can
	// only lead where the configuration allows.
	Client *http.Client
}

// Check reports what is wrong with the webhook.
func (h *Webhook) Check() error {
	return errors.Join(
		strictyaml.WrongIf(len(h.Key) < minKey, "key", "it has %d bytes, want %d or more", len(h.Key), minKey),
		h.WebhookConfig.Check(),
	)
}

// minKey is as long as the output of the signature's hash.
const minKey = 32

// Webhooks asks services of the operator's about devices and tells them the
// outcome. It is safe for concurrent use.
type Webhooks struct {
	store   *store.Store
	guard   guard
	now     func() time.Time
	log     *slog.Logger
	hooks   atomic.Pointer[map[string]Webhook]
	refused chan notice
}

// NewWebhooks returns Webhooks that knows none until Swap.
func NewWebhooks(st *store.Store, limits *limit.Limiter, now func() time.Time, log *slog.Logger) *Webhooks {
	w := &Webhooks{store: st, guard: guard{limits}, now: now, log: log, refused: make(chan notice, 256)}
	w.hooks.Store(&map[string]Webhook{})
	return w
}

// Swap puts these webhooks in force, all or none.
func (w *Webhooks) Swap(hooks []Webhook) error {
	all := make(map[string]Webhook, len(hooks))
	for _, h := range hooks {
		if err := h.Check(); err != nil {
			return fmt.Errorf("webhook %s: %w", h.Name, err)
		}
		if _, twice := all[h.Name]; twice {
			return fmt.Errorf("webhook %s: defined twice", h.Name)
		}
		all[h.Name] = h
	}
	w.hooks.Store(&all)
	return nil
}

// question is what a webhook is asked.
type question struct {
	Event         string    `json:"event"` // "scep.challenge"
	ID            string    `json:"id"`    // of this call
	At            time.Time `json:"at"`
	Endpoint      string    `json:"endpoint"`
	Source        string    `json:"source"`
	TransactionID string    `json:"transaction_id"`
	Challenge     string    `json:"challenge"`
	CSR           []byte    `json:"csr"` // DER in base64
	Subject       string    `json:"subject"`
}

// answer is what it says.
type answer struct {
	Allow   *bool  `json:"allow"`
	Profile string `json:"profile"` // that the certificate shall have; the endpoint's if left out
	Reason  string `json:"reason"`  // why not, for the log
}

// Check asks a webhook whether a device with this challenge password may have
// what the request asks for (rule S22). A request that is on record is not asked
// about again, because the challenge may be good for one question only.
//
// Faults: RateLimited; Denied if the webhook says no, which counts as a wrong
// secret; Unavailable if it does not answer.
func (w *Webhooks) Check(
	ctx context.Context, name string, a Attempt, transactionID, challenge string, csr *pki.CSR,
) (*Proof, error) {
	hook, ok := (*w.hooks.Load())[name]
	if !ok {
		return nil, fmt.Errorf("check challenge: there is no webhook %q", name)
	}
	guess := a.Named(csr)
	if challenge == "" { // no guess: it locks out nobody who presents one
		guess.Endpoint += " without challenge"
	}
	if err := w.guard.limits.MayGuess(ctx, guess); err != nil {
		return nil, err
	}
	proof := &Proof{Identity: KindWebhook + ":" + name, Evidence: evidence(KindWebhook, name), Hook: name}
	sum := sha256.Sum256(csr.Raw)
	row, err := w.store.RequestByKey(ctx, store.RequestKey{
		Endpoint: a.Endpoint, Identity: proof.Identity, CSRDigest: sum[:], TransactionID: transactionID,
	}, w.now())
	if err == nil {
		proof.Profile = row.Profile
		return proof, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("check challenge: %w", err)
	}
	q := question{
		Event: "scep.challenge", ID: store.NewID(), At: w.now().UTC(), Endpoint: a.Endpoint, Source: a.Source,
		TransactionID: transactionID, Challenge: challenge, CSR: csr.Raw, Subject: csr.Subject.String(),
	}
	verdict, err := w.ask(ctx, &hook, q)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the service that knows the devices does not answer").
			Because("webhook_away").After(10 * time.Second)
	}
	if !*verdict.Allow {
		if err := w.guard.limits.WrongSecret(ctx, guess); err != nil {
			return nil, err
		}
		return nil, fault.Wrap(fault.Denied, fmt.Errorf("webhook %s: %s", name, verdict.Reason),
			"the challenge was refused").Because("webhook_refused")
	}
	if proof.Profile = verdict.Profile; proof.Profile != "" {
		t := terms{kind: KindWebhook, profile: proof.Profile}
		if _, err := t.admit(&a, w.now()); err != nil {
			return nil, err
		}
	}
	return proof, nil
}

func (w *Webhooks) ask(ctx context.Context, hook *Webhook, q question) (*answer, error) {
	body, err := w.call(ctx, hook, hook.URL, q)
	if err != nil {
		return nil, err
	}
	var v answer
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, fmt.Errorf("webhook %s: its answer: %w", hook.Name, err)
	}
	if v.Allow == nil {
		return nil, fmt.Errorf(`webhook %s: its answer has no "allow"`, hook.Name)
	}
	return &v, nil
}

// call posts a signed body and returns the body of a 2xx answer.
func (w *Webhooks) call(ctx context.Context, hook *Webhook, to string, v any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, hook.Patience())
	defer cancel()
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", hook.Name, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", hook.Name, err)
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(TimestampHeader, stamp)
	r.Header.Set(SignatureHeader, Sign(hook.Key, stamp, body))
	resp, err := hook.Client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", hook.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxVerdict+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("webhook %s: %w", hook.Name, err)
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("webhook %s: status %d", hook.Name, resp.StatusCode)
	case len(text) > maxVerdict:
		return nil, fmt.Errorf("webhook %s: its answer is longer than %d bytes", hook.Name, maxVerdict)
	}
	return text, nil
}

// Sign returns the signature of a body that was sent at a time, as the header
// carries it.
func Sign(key []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}
