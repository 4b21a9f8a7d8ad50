package server

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/deviceclient"
)

const hookKey = "0123456789abcdef0123456789abcdef"

// mdm is an operator's service that knows the devices, on loopback.
type mdm struct {
	*httptest.Server
	mu      sync.Mutex
	verdict string
	fails   int // notifications still to be answered 500
	asked   []map[string]any
	told    chan map[string]any
}

func newMDM(t *testing.T) *mdm {
	t.Helper()
	m := &mdm{verdict: `{"allow": true}`, told: make(chan map[string]any, 16)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get(credential.SignatureHeader) != credential.Sign([]byte(hookKey), r.Header.Get(credential.TimestampHeader), body) {
			t.Errorf("the signature of %s is wrong", body)
		}
		call := map[string]any{}
		if err := json.Unmarshal(body, &call); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if r.URL.Path == "/ask" {
			m.asked = append(m.asked, call)
			_, _ = io.WriteString(w, m.verdict)
			return
		}
		if m.fails > 0 {
			m.fails--
			w.WriteHeader(http.StatusInternalServerError)
		}
		m.told <- call
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mdm) says(verdict string, fails int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verdict, m.fails = verdict, fails
}

func (m *mdm) hears(t *testing.T) map[string]any {
	t.Helper()
	select {
	case call := <-m.told:
		return call
	case <-time.After(30 * time.Second):
		t.Fatal("the webhook is told nothing")
		return nil
	}
}

// withWebhook puts a webhook into the lab's configuration.
func (l *lab) withWebhook(t *testing.T, url string) {
	t.Helper()
	for name, key := range map[string]string{"mdm": hookKey, "short": hookKey[1:]} {
		if err := os.WriteFile(filepath.Join(l.dir, "secrets", name), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.write(t, l.read(t)+"webhooks:\n  - name: mdm\n    url: "+url+"/ask\n    notify_url: "+url+"/told\n    key: file:secrets/mdm\n")
	l.change(t, "path: default", "path: default\n      webhook: mdm")
}

// TestSCEP_S22_Webhook runs the whole server beside an MDM: asked before, told
// after and again where that failed, refused in clear words when it is away; and
// all of it put in force by a reload.
func TestSCEP_S22_Webhook(t *testing.T) {
	t.Parallel()
	l, m := newLab(t), newMDM(t)
	l.serve(t)
	l.withWebhook(t, m.URL)
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	device, err := deviceclient.NewDevice(key)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(hc.CloseIdleConnections)
	scep, err := deviceclient.NewSCEP(t.Context(), hc, "http://"+l.addr.http+"/scep/default")
	if err != nil {
		t.Fatal(err)
	}
	send := func(transaction, cn, challenge string) (*deviceclient.Answer, error) {
		csr, err := deviceclient.ChallengeCSR(key, cn, challenge)
		if err != nil {
			t.Fatal(err)
		}
		return scep.Send(t.Context(), device, deviceclient.PKCSReq, transaction, csr)
	}

	m.says(`{"allow": true, "profile": "device"}`, 1)
	a, err := send("t-1", "router-7", "what only the MDM knows")
	if err != nil || a.Status != deviceclient.Success || len(a.Certificates) != 1 {
		t.Fatalf("%+v %v", a, err)
	}
	if q := m.asked[0]; q["challenge"] != "what only the MDM knows" || q["subject"] != "CN=router-7" || q["endpoint"] != "scep" || q["transaction_id"] != "t-1" {
		t.Errorf("asked %v", q)
	}
	first, again := m.hears(t), m.hears(t)
	told, _ := again["certificate"].(map[string]any)
	if first["id"] != again["id"] || again["event"] != "scep.issued" || told["thumbprint_sha256"] != pki.Fingerprint(a.Certificates[0].Raw) {
		t.Errorf("told %v, then %v", first, again)
	}

	a, err = send("t-2", "", "x") // the MDM allows it, the profile does not
	if err != nil || a.Status != deviceclient.Failure {
		t.Fatalf("%+v %v", a, err)
	}
	if c := m.hears(t); c["event"] != "scep.failed" || c["transaction_id"] != "t-2" || c["reason"] == "" || !strings.Contains(a.Text, c["reason"].(string)) {
		t.Errorf("%q; told %v", a.Text, c)
	}

	m.says(`{"allow": false, "reason": "stolen"}`, 0)
	if a, err = send("t-3", "router-8", "x"); err != nil || a.Status != deviceclient.Failure || !strings.Contains(a.Text, "[webhook_refused]") || strings.Contains(a.Text, "stolen") {
		t.Errorf("%+v %v", a, err)
	}
	m.Close()
	away := new(deviceclient.StatusError)
	if a, err = send("t-4", "router-9", "x"); !asStatus(err, &away) || away.Code != 503 || away.RetryAfter != "10" || !strings.Contains(away.Text, "does not answer") {
		t.Errorf("the MDM is away: %+v %v", a, err)
	}
	// The secret of the endpoint needs no MDM.
	secret, err := os.ReadFile(filepath.Join(l.dir, devca.ChallengeFile))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = send("t-5", "router-9", strings.TrimSpace(string(secret))); err != nil || a.Status != deviceclient.Success {
		t.Errorf("%+v %v", a, err)
	}
	if len(m.told) != 0 {
		t.Errorf("told more: %v", <-m.told)
	}
}

func asStatus(err error, to **deviceclient.StatusError) bool {
	e, ok := err.(*deviceclient.StatusError) //nolint:errorlint // it is returned as it is
	*to = e
	return ok
}
