package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/statedir"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/test/logtest"
)

func TestServe(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	r := l.serve(t)

	status, h := l.readyz(t)
	if status != http.StatusOK || !h.Ready {
		t.Errorf("readyz: %d %+v", status, h)
	}
	for _, want := range []string{"database", "issuer dev-a-1", "configuration"} {
		if i := indexCheck(h, want); i < 0 || !h.Checks[i].OK {
			t.Errorf("readyz does not say that %s is well: %+v", want, h)
		}
	}
	_, port, _ := net.SplitHostPort(l.addr.https)
	if res, body := l.get(t, "https://localhost:"+port+"/acme/default/directory"); res.StatusCode != 200 || !bytes.Contains(body, []byte("https://localhost:"+port+"/acme/default/new-order")) {
		t.Errorf("directory: %d %s", res.StatusCode, body)
	}
	for _, path := range []string{"", "/", "/terms"} {
		if res, _ := l.get(t, "https://localhost:"+port+path); res.StatusCode != 200 {
			t.Errorf("%q: %d", path, res.StatusCode)
		}
	}
	_, port, _ = net.SplitHostPort(l.addr.est)
	if res, body := l.get(t, "https://localhost:"+port+"/.well-known/est/cacerts"); res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("EST: %d %s", res.StatusCode, body)
	}
	if res, body := l.get(t, "http://"+l.addr.ops+"/healthz"); res.StatusCode != 200 || string(body) != "ok\n" {
		t.Errorf("healthz: %d %s", res.StatusCode, body)
	}
	if res, _ := l.get(t, "http://"+l.addr.ops+"/debug/pprof/"); res.StatusCode != 404 {
		t.Errorf("pprof is on without being asked for: %d", res.StatusCode)
	}
	_, body := l.get(t, "http://"+l.addr.ops+"/metrics")
	for _, want := range []string{
		`privyseal_http_requests_total{code="200",listener="https",method="GET",route="/acme/{endpoint}/directory"} 1`,
		`privyseal_issuances_total{issuer="dev-a-1",profile="tls-server",protocol="server",result="issued"} 1`,
		`privyseal_issuances_total{issuer="dev-a-1",profile="est-server",protocol="server",result="issued"} 2`,
		`privyseal_key_operations_total{key="dev-a-1",op="sign",outcome="ok"} 6`,
		`privyseal_issuances_total{issuer="dev-a-1",profile="ocsp-signing",protocol="server",result="issued"} 1`,
		`privyseal_ocsp_responses_total{issuer="dev-a-1",status="successful"} 0`, "privyseal_ocsp_responder_not_after_seconds",
		"go_goroutines", "privyseal_issuance_seconds_bucket", "privyseal_issuer_not_after_seconds", "privyseal_store_commits_total",
	} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "privyseal.sock")); err == nil {
		t.Error("the socket is left behind")
	}
}

func indexCheck(h api.Health, name string) int {
	for i, c := range h.Checks {
		if c.Name == name {
			return i
		}
	}
	return -1
}

func TestPublishedFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	base := "http://" + l.addr.http
	root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	rootDER, _ := pem.Decode(root)

	for path, contentType := range map[string]string{
		"/issuers/dev-a-1.cer": "application/pkix-cert", "/issuers/dev-root.cer": "application/pkix-cert", "/roots/dev-root.cer": "application/pkix-cert",
		"/issuers/dev-a-1/chain.pem": "application/pem-certificate-chain", "/roots.pem": "application/x-pem-file",
		"/crl/dev-root.crl": "application/pkix-crl", "/crl/dev-a-1.crl": "application/pkix-crl", "/roots": "text/html; charset=utf-8",
	} {
		res, body := l.get(t, base+path)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != contentType || res.Header.Get("ETag") == "" || !strings.Contains(res.Header.Get("Cache-Control"), "max-age=") {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", res.Header.Get("ETag"))
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("HEAD %s with its ETag: %d, want 304", path, again.StatusCode)
		}
		switch path {
		case "/roots/dev-root.cer":
			if !bytes.Equal(body, rootDER.Bytes) {
				t.Error("the root is not the one of the ceremony")
			}
		case "/roots.pem":
			if !bytes.Equal(body, root) {
				t.Error("roots.pem is not the root of the ceremony")
			}
		case "/crl/dev-root.crl":
			list, err := x509.ParseRevocationList(body)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(rootDER.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(c); err != nil {
				t.Error(err)
			}
		case "/issuers/dev-a-1/chain.pem":
			if n := bytes.Count(body, []byte("BEGIN CERTIFICATE")); n != 2 || !bytes.HasSuffix(body, root) {
				t.Errorf("the chain has %d certificates, want 2 with the root last", n)
			}
		}
	}
	for path, says := range map[string]string{
		"/crl/dev-a-1-delta.crl": "no revocation list dev-a-1-delta is published", "/crl/dev-a-1/1.crl": "no revocation list", "/ocsp/dev-b-1": "no OCSP responder", "/ocsp/dev-b-1/MEQ=": "no OCSP responder",
		"/issuers/nobody.cer": "no issuer of this name", "/issuers/nobody/chain.pem": "no issuer", "/crl/nobody.crl": "no issuer", "/roots/dev-a-1.cer": "not a root",
		"/roots/nobody.cer": "no issuer", "/nothing": "/ says what there is",
	} {
		if res, body := l.get(t, base+path); res.StatusCode != 404 || !strings.Contains(string(body), says) {
			t.Errorf("%s: %d %s, want 404 …%s…", path, res.StatusCode, body, says)
		}
	}
}

// TestWithoutIssuers: a server that has none runs, keeps its TLS listeners shut
// and says why; a reload that brings the certificate opens them.
func TestWithoutIssuers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.change(t, "    certificate: chain.pem\n", "")
	l.serve(t)
	status, h := l.readyz(t)
	if status != http.StatusServiceUnavailable || h.Ready {
		t.Errorf("readyz: %d %+v", status, h)
	}
	for check, says := range map[string]string{
		"issuers": "none is installed", "issuer dev-a-1": "no certificate yet", "listener https": "no TLS certificate", "listener https-est": "no TLS certificate",
	} {
		if i := indexCheck(h, check); i < 0 || h.Checks[i].OK || !strings.Contains(h.Checks[i].Detail, says) {
			t.Errorf("readyz does not say of %s …%s…: %+v", check, says, h)
		}
	}
	if c, err := net.Dial("tcp", l.addr.https); err == nil { //nolint:noctx // must fail at once
		_ = c.Close()
		t.Error("the https listener is open")
	}
	for path, want := range map[string]int{"/roots.pem": 200, "/crl/dev-root.crl": 200, "/issuers/dev-a-1.cer": 404} {
		if res, _ := l.get(t, "http://"+l.addr.http+path); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	l.change(t, "    passphrase: file:secrets/issuer\n", "    passphrase: file:secrets/issuer\n    certificate: chain.pem\n")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	if status, h := l.readyz(t); status != http.StatusOK {
		t.Errorf("readyz after the certificate came: %d %+v", status, h)
	}
	_, port, _ := net.SplitHostPort(l.addr.https)
	if res, _ := l.get(t, "https://localhost:"+port+"/acme/default/directory"); res.StatusCode != 200 {
		t.Errorf("directory: %d", res.StatusCode)
	}
	if res, _ := l.get(t, "http://"+l.addr.http+"/issuers/dev-a-1/chain.pem"); res.StatusCode != 200 {
		t.Errorf("chain: %d", res.StatusCode)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	good := l.read(t)
	reload := func() (*api.ReloadResult, error) {
		return api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{})
	}
	_, port, _ := net.SplitHostPort(l.addr.https)
	directory := func(endpoint string) int {
		res, _ := l.get(t, "https://localhost:"+port+"/acme/"+endpoint+"/directory")
		return res.StatusCode
	}

	first, err := reload()
	if err != nil || first.Changed {
		t.Fatalf("the same file: %+v, %v", first, err)
	}
	l.change(t, "- name: eab", "- name: other")
	second, err := reload()
	if err != nil || !second.Changed || second.ConfigDigest == first.ConfigDigest {
		t.Fatalf("another endpoint: %+v, %v", second, err)
	}
	if directory("eab") != 404 || directory("other") != 200 {
		t.Error("the new endpoints are not in force")
	}

	for name, tc := range map[string]struct{ from, to, says string }{
		"unknown key":   {"endpoints:", "endpoitns:", "endpoints"},
		"wrong key":     {"passphrase: file:secrets/issuer", "passphrase: file:secrets/audit", "dev-a-1"},
		"needs restart": {"addr: " + l.addr.ops, "addr: 127.0.0.1:1", "listeners.ops: a change here needs a restart"},
		"a used name":   {"certificate: root.pem", "certificate: chain.pem", "another key"},
	} {
		l.write(t, good)
		if name == "a used name" {
			// dev-root is now the name of the issuing CA's key.
			tc.from, tc.to = "  - id: dev-root\n    certificate: root.pem\n    crl: root.crl\n", "  - id: other-root\n    certificate: root.pem\n"
			l.change(t, "- id: dev-a-1", "- id: dev-root")
			for strings.Contains(l.read(t), "issuer: dev-a-1") {
				l.change(t, "issuer: dev-a-1", "issuer: dev-root")
			}
		}
		l.change(t, tc.from, tc.to)
		if _, err := reload(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want …%s…", name, err, tc.says)
		}
		if directory("other") != 200 || directory("eab") != 404 {
			t.Errorf("%s: a reload that was refused changed something", name)
		}
		if status, h := l.readyz(t); status != 200 {
			t.Errorf("%s: not ready after a reload that was refused: %+v", name, h)
		}
	}
	_, body := l.get(t, "http://"+l.addr.ops+"/metrics")
	for _, want := range []string{`privyseal_config_reloads_total{outcome="ok"} 2`, `privyseal_config_reloads_total{outcome="refused"} 4`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestTLSPairIsKept: a restart presents the certificate of before; one that does
// not fit the configuration any more is replaced.
func TestTLSPairIsKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	serial := func() string {
		c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", l.addr.https) //nolint:gosec // reads the serial only
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	r := l.serve(t)
	first := serial()
	text, err := os.ReadFile(filepath.Join(l.dir, "tls", "https.pem"))
	if err != nil || !bytes.Contains(text, []byte("ENCRYPTED PRIVATE KEY")) {
		t.Errorf("the key is not kept encrypted: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = l.serve(t)
	if got := serial(); got != first {
		t.Errorf("a restart made a new certificate: %s, then %s", first, got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "tls", "https.pem"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = l.serve(t)
	second := serial()
	if second == first {
		t.Error("a damaged file gave the old certificate")
	}
	l.change(t, "        - 127.0.0.1\n", "        - 127.0.0.1\n        - more.localhost\n")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	if serial() == second {
		t.Error("another name did not give another certificate while serving")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// TestOneServerAtATime: the state folder belongs to one process.
func TestOneServerAtATime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	if _, err := statedir.Claim(l.dir); err == nil || !strings.Contains(err.Error(), "another privyseal runs") {
		t.Errorf("got %v", err)
	}
}

// TestNodesThatDisagree: another node with another configuration is named, and
// does not make this one unready.
func TestNodesThatDisagree(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(l.dir, "privyseal.db"), Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Heartbeat(t.Context(), "node-2", "e", "another-digest", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Heartbeat(t.Context(), "node-3", "e", "old-digest", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	status, h := l.readyz(t)
	i := indexCheck(h, "configuration")
	if status != 200 || i < 0 || !strings.Contains(h.Checks[i].Detail, "node node-2 runs another-digest") || strings.Contains(h.Checks[i].Detail, "node-3") {
		t.Errorf("readyz: %d %+v", status, h)
	}
}

// TestFT4_StartsWithoutACAThatSigns: a CA whose key does not open, or is another's,
// stops nobody: the process runs, lists and OCSP go on, health says what to do, and
// the listeners that need a certificate open when the CA is back.
func TestFT4_StartsWithoutACAThatSigns(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ from, to, says string }{
		"the wrong passphrase": {"passphrase: file:secrets/issuer", "passphrase: file:secrets/audit", "its key cannot be opened"},
		"another key than the certificate's": {
			"key: file:keys/dev-a-1.key\n    passphrase: file:secrets/issuer",
			"key: file:keys/audit.key\n    passphrase: file:secrets/audit", "not the one of the certificate",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			right := l.read(t)
			l.change(t, tc.from, tc.to)
			l.serve(t)
			status, h := l.readyz(t)
			if i := indexCheck(h, "issuer dev-a-1"); status != http.StatusServiceUnavailable || i < 0 || !strings.Contains(h.Checks[i].Detail, tc.says) {
				t.Errorf("readyz: %d %+v", status, h)
			}
			if conn, err := net.Dial("tcp", l.addr.https); err == nil { //nolint:noctx // a look
				_ = conn.Close()
				t.Error("the https listener is open, without a certificate")
			}
			l.write(t, right)
			if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
				t.Fatal(err)
			}
			if status, h := l.readyz(t); status != http.StatusOK {
				t.Errorf("when it is right again: %d %+v", status, h)
			}
			conn, err := net.Dial("tcp", l.addr.https) //nolint:noctx // a look
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		})
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(t *testing.T, l *lab)
		says   func(l *lab) string
	}{
		"an address in use": {
			func(t *testing.T, l *lab) {
				ln, err := net.Listen("tcp", l.addr.http) //nolint:noctx // held by the test
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = ln.Close() })
			},
			func(l *lab) string { return "listen on http: address " + l.addr.http + " is in use" },
		},
		"a database that is not there": {
			func(t *testing.T, l *lab) {
				l.change(t, "url: sqlite:privyseal.db", "url: postgres://nobody@127.0.0.1:1/none")
			},
			func(*lab) string { return "database postgres://nobody@127.0.0.1:1/none" },
		},
		"a password in the error": {
			func(t *testing.T, l *lab) {
				if err := os.WriteFile(filepath.Join(l.dir, "secrets", "dsn"), []byte("postgres://nobody:hunter2@127.0.0.1:1/none"), 0o600); err != nil {
					t.Fatal(err)
				}
				l.change(t, "url: sqlite:privyseal.db", "url: file:secrets/dsn")
			},
			func(*lab) string { return "database postgres://nobody:xxxxx@127.0.0.1:1/none" },
		},
		"an old schema": {
			func(t *testing.T, l *lab) { l.change(t, "  migrate: true\n", "") },
			func(*lab) string { return "run privyseal migrate" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			tc.change(t, l)
			cfg, err := config.Load(l.file())
			if err != nil {
				t.Fatal(err)
			}
			n, err := statedir.Claim(cfg.State.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var log logtest.Buffer
			err = Run(t.Context(), testEnv(&log), n, cfg, func() { t.Error("it started") })
			if err == nil || !strings.Contains(err.Error(), tc.says(l)) {
				t.Errorf("got %v, want …%s…", err, tc.says(l))
			}
			if err != nil && strings.Contains(err.Error()+log.String(), "hunter2") {
				t.Error("the password is shown")
			}
			// Nothing stays claimed.
			again, err := statedir.Claim(cfg.State.Dir)
			if err != nil {
				t.Fatal(err)
			}
			_ = again.Release()
		})
	}
}
