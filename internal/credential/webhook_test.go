package credential_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/challenge"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

var hookKey = []byte("0123456789abcdef0123456789abcdef")

// mdm is a service that knows the devices.
type mdm struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []map[string]any
	bad    []string // what was wrong with calls
	status int
	answer string
}

func newMDM(t *testing.T) *mdm {
	t.Helper()
	m := &mdm{status: http.StatusOK, answer: `{"allow": true}`}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		if got := r.Header.Get(credential.SignatureHeader); got != credential.Sign(hookKey, r.Header.Get(credential.TimestampHeader), body) {
			m.bad = append(m.bad, "signature "+got)
		}
		call := map[string]any{}
		if err := json.Unmarshal(body, &call); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			m.bad = append(m.bad, string(body))
		}
		m.calls = append(m.calls, call)
		w.WriteHeader(m.status)
		_, _ = io.WriteString(w, m.answer)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mdm) says(status int, answer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status, m.answer = status, answer
}

func (m *mdm) heard(t *testing.T) []map[string]any {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.bad {
		t.Errorf("a call was not well formed: %s", b)
	}
	return m.calls
}

func newWebhooks(t *testing.T, d *devices, st *store.Store, m *mdm) *credential.Webhooks {
	t.Helper()
	dialer, err := challenge.NewDialer(challenge.Config{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := credential.NewWebhooks(st, d.limit, d.now, slog.New(slog.DiscardHandler))
	err = w.Swap([]credential.Webhook{{
		WebhookConfig: credential.WebhookConfig{Name: "mdm", URL: m.URL + "/ask", NotifyURL: m.URL + "/told"}, Key: hookKey,
		Client: dialer.Client(nil, 5*time.Second),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// S22: asked before, with a challenge of any length; told after, until it hears.
func TestSCEP_S22_WebhookIsAskedBeforeAndToldAfter(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, d, m := t.Context(), newDevices(t, st), newMDM(t)
		w, srv := newWebhooks(t, d, st, m), admintest.Start(t, st, "web-a-1")
		queue := approval.New(st, srv.Pipeline, d.now, slog.New(slog.DiscardHandler))
		csr := subjectCSR(t, "router-7")
		long := strings.Repeat("x", 5000)
		p, err := w.Check(ctx, "mdm", here("192.0.2.1"), "t-1", long, csr)
		if err != nil || p.Identity != "webhook:mdm" || p.Hook != "mdm" {
			t.Fatalf("%+v, %v", p, err)
		}
		if q := m.heard(t)[0]; q["event"] != "scep.challenge" || q["challenge"] != long || q["transaction_id"] != "t-1" ||
			q["endpoint"] != "devices" || q["source"] != "192.0.2.1" || q["subject"] != "CN=router-7,O=Example" || q["csr"] == "" {
			t.Errorf("asked %v", q)
		}
		cert, err := queue.Enrol(ctx, approval.Key{
			Endpoint: "devices", Identity: p.Identity, CSR: csr.Raw, TransactionID: "t-1", Keep: approval.KeepSCEP, Hook: p.Hook, OneCSR: true,
		}, issuance.Request{Protocol: "scep", Profile: "tls-server", Issuer: "web-a-1", PublicKey: csr.PublicKey,
			Names: []pki.Identifier{{Type: pki.DNS, Value: "router-7.test"}}, Requester: p.Identity, Evidence: p.Evidence})
		if err != nil {
			t.Fatal(err)
		}
		// The same message again is not asked about: the challenge may be spent.
		m.says(http.StatusOK, `{"allow": false}`)
		if _, err := w.Check(ctx, "mdm", here("192.0.2.1"), "t-1", long, csr); err != nil || len(m.heard(t)) != 1 {
			t.Errorf("the same message again: %v, %d calls", err, len(m.heard(t)))
		}

		m.says(http.StatusInternalServerError, "")
		if err := w.Notify(ctx); err != nil {
			t.Fatal(err)
		}
		m.says(http.StatusOK, "")
		if err := w.Notify(ctx); err != nil || len(m.heard(t)) != 2 {
			t.Fatalf("called again at once: %v, %d calls", err, len(m.heard(t)))
		}
		d.ahead.Store(int64(11 * time.Second))
		for range 2 {
			if err := w.Notify(ctx); err != nil {
				t.Fatal(err)
			}
		}
		calls := m.heard(t)
		if len(calls) != 3 || calls[1]["id"] != calls[2]["id"] {
			t.Fatalf("%d calls, want the question, a failed notification and the same again", len(calls))
		}
		told, _ := calls[2]["certificate"].(map[string]any)
		if calls[2]["event"] != "scep.issued" || told["serial"] != string(cert.Serial) || told["thumbprint_sha256"] != pki.Fingerprint(cert.DER) ||
			len(told["thumbprint_sha1"].(string)) != 40 || told["issuer"] == "" || told["not_after"] == "" {
			t.Errorf("told %v", calls[2])
		}
	})
}

func TestWebhookThatRefusesOrIsAway(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	ctx, d, m := t.Context(), newDevices(t, st), newMDM(t)
	w := newWebhooks(t, d, st, m)
	csr := subjectCSR(t, "router-7")
	for _, tt := range []struct {
		status int
		answer string
		kind   fault.Kind
		reason string
	}{
		{200, `{"allow": false, "reason": "stolen"}`, fault.Denied, "webhook_refused"},
		{200, `{"allow": true, "profile": "root-ca"}`, fault.Denied, "webhook_wrong_profile"},
		{200, `{}`, fault.Unavailable, "webhook_away"},
		{200, `<html>`, fault.Unavailable, "webhook_away"},
		{200, `{"allow": true, "x": "` + strings.Repeat("x", 70000) + `"}`, fault.Unavailable, "webhook_away"},
		{403, `{"allow": true}`, fault.Unavailable, "webhook_away"},
		{302, ``, fault.Unavailable, "webhook_away"},
	} {
		m.says(tt.status, tt.answer)
		_, err := w.Check(ctx, "mdm", here("a"), "t", "c", csr)
		refused(t, err, tt.kind, tt.reason)
	}
	m.Close()
	_, err := w.Check(ctx, "mdm", here("a"), "t", "c", csr)
	refused(t, err, fault.Unavailable, "webhook_away")
	if _, err := w.Check(ctx, "other", here("a"), "t", "c", csr); !fault.Is(err, fault.Internal) {
		t.Errorf("a webhook that does not exist: %v", err)
	}
}

func TestWebhookRefusalsLockOut(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	ctx, d, m := t.Context(), newDevices(t, st), newMDM(t)
	w := newWebhooks(t, d, st, m)
	m.says(200, `{"allow": false}`)
	var last error
	for range 11 {
		_, last = w.Check(ctx, "mdm", here("a"), "t", "c", subjectCSR(t, "x"))
	}
	refused(t, last, fault.RateLimited, "")
	if n := len(m.heard(t)); n != 10 {
		t.Errorf("asked %d times, want 10", n)
	}
	m.says(200, `{"allow": true}`)
	if _, err := w.Check(ctx, "mdm", here("a"), "t", "c", subjectCSR(t, "y")); err != nil {
		t.Errorf("another device (FR20): %v", err)
	}
	m.says(200, `{"allow": false}`)
	for n := range 100 {
		_, last = w.Check(ctx, "mdm", here("a"), "t", "c", subjectCSR(t, fmt.Sprint("x", n)))
	}
	refused(t, last, fault.RateLimited, "")
	if n := len(m.heard(t)); n > 102 {
		t.Errorf("asked %d times, want 102 at most: a webhook's secrets may be short", n)
	}
}

func TestWebhookRefusedIsTold(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	d, m := newDevices(t, st), newMDM(t)
	w := newWebhooks(t, d, st, m)
	w.Refused("mdm", "devices", "t-9", subjectCSR(t, "x"), fault.New(fault.BadPublicKey, "too short").Because("key_size"))
	go w.Run(t.Context())
	for end := time.Now().Add(10 * time.Second); len(m.heard(t)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was told")
		}
	}
	if c := m.heard(t)[0]; c["event"] != "scep.failed" || c["reason"] != "key_size" || c["transaction_id"] != "t-9" || c["detail"] != "too short" {
		t.Errorf("told %v", c)
	}
}

// A webhook leads only where the configuration allows.
func TestWebhookIsGuarded(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	d, m := newDevices(t, st), newMDM(t)
	dialer, err := challenge.NewDialer(challenge.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := credential.NewWebhooks(st, d.limit, d.now, slog.New(slog.DiscardHandler))
	hook := credential.Webhook{WebhookConfig: credential.WebhookConfig{Name: "mdm", URL: m.URL}, Key: hookKey, Client: dialer.Client(nil, time.Second)}
	if err := w.Swap([]credential.Webhook{hook}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Check(t.Context(), "mdm", here("a"), "t", "c", subjectCSR(t, "x"))
	refused(t, err, fault.Unavailable, "webhook_away")
	if len(m.heard(t)) != 0 {
		t.Error("an address that is not allowed was dialled")
	}
	for name, change := range map[string]func(*credential.Webhook){
		"plain http":     func(h *credential.Webhook) { h.URL = "http://mdm.example.test/" },
		"no URL":         func(h *credential.Webhook) { h.URL = "" },
		"user in URL":    func(h *credential.Webhook) { h.NotifyURL = "https://u:p@mdm.example.test/" },
		"no name":        func(h *credential.Webhook) { h.Name = "" },
		"short key":      func(h *credential.Webhook) { h.Key = h.Key[:31] },
		"long timeout":   func(h *credential.Webhook) { h.Timeout = time.Minute },
		"twice the same": nil,
	} {
		hooks := []credential.Webhook{hook}
		if change != nil {
			change(&hooks[0])
		} else {
			hooks = append(hooks, hook)
		}
		if err := w.Swap(hooks); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestFR2_NoChallengeLocksOutNobodyElse: who presents none is asked about, and
// counted apart from those who do.
func TestFR2_NoChallengeLocksOutNobodyElse(t *testing.T) {
	t.Parallel()
	st := storetest.SQLite(t)
	ctx, d, m := t.Context(), newDevices(t, st), newMDM(t)
	w := newWebhooks(t, d, st, m)
	csr := subjectCSR(t, "router-7")
	m.says(http.StatusOK, `{"allow": false}`)
	for range limit.Defaults().WrongSecrets.Count {
		_, err := w.Check(ctx, "mdm", here("a"), "t", "", csr)
		refused(t, err, fault.Denied, "webhook_refused")
	}
	if _, err := w.Check(ctx, "mdm", here("a"), "t", "", csr); !fault.Is(err, fault.RateLimited) {
		t.Errorf("without a challenge, once more: %v", err)
	}
	m.says(http.StatusOK, `{"allow": true}`)
	if _, err := w.Check(ctx, "mdm", here("a"), "t", "c", csr); err != nil {
		t.Errorf("with a challenge: %v", err)
	}
}
