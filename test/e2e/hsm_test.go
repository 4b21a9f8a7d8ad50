//go:build cgo

package e2e

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// hsmSite is a server whose issuing key "hsm-1" is in a token.
type hsmSite struct {
	*lab.Server
	tok  *hsmtest.Token
	shim *hsmtest.Shim
	csr  string
}

func newHSMSite(t *testing.T) *hsmSite {
	t.Helper()
	need.Programs(t, "openssl")
	tok := hsmtest.New(t)
	s := &hsmSite{tok: tok, shim: hsmtest.NewShim(t, tok), Server: &lab.Server{Binary: binary, Dir: filepath.Join(t.TempDir(), "site")}}
	var err error
	if s.Addr, err = lab.FreeAddresses(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.certify(t)
	s.csr = filepath.Join(t.TempDir(), "a.csr")
	s.run(t, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", s.csr+".key",
		"-subj", "/CN=a.lab.test", "-addext", "subjectAltName=DNS:a.lab.test", "-out", s.csr)
	t.Cleanup(func() {
		s.shim.Do(t)
		if err := s.Stop(); err != nil {
			t.Errorf("%v\n%s", err, s.Log.Tail(4000))
		}
		if err := s.Verify(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// certify makes the key in the token and its CA, and adds both to the file.
func (s *hsmSite) certify(t *testing.T) {
	t.Helper()
	key, err := keys.Generate(keys.Ref(s.shim.Ref(s.tok, "hsm-1")), "ec-p256", s.tok.Secret)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ceremony.NewRequest(key, "CN=Issuing CA in a token")
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	pass := func() ([]byte, error) { return []byte("root"), nil }
	root := ceremony.CA{Dir: filepath.Join(t.TempDir(), "root"), Secret: pass, Now: time.Now}
	above, err := ceremony.Root(t.Context(), root, ceremony.RootSpec{Subject: "CN=Root of the token"})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ceremony.SignCA(t.Context(), root, csr, ceremony.CASpec{Locations: issuer.Locations{CRL: "http://localhost/crl/root.crl"}})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "hsm.pem", string(pki.EncodeChain(ca.Raw, above.Raw)))
	s.write(t, "hsm-root.pem", string(pki.EncodeChain(above.Raw)))
	s.write(t, "secrets/pin", s.tok.PIN+"\n")
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	entry := "pkcs11:\n  module: " + s.shim.Module + "\nissuers:\n  - id: hsm-1\n    key: pkcs11:token=lab;object=hsm-1\n    passphrase: file:secrets/pin\n    certificate: hsm.pem\n"
	s.write(t, "privyseal.yaml", strings.Replace(string(text), "issuers:\n", entry, 1))
}

func (s *hsmSite) config() string { return filepath.Join(s.Dir, "privyseal.yaml") }

func (s *hsmSite) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *hsmSite) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := lab.Run(filepath.Dir(s.Dir), nil, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *hsmSite) serve(t *testing.T) {
	t.Helper()
	var err error
	if s.Process, err = lab.Launch(s.Dir, binary, "serve", "--config", s.config()); err != nil {
		t.Fatal(err)
	}
}

// issue asks the operator API for a certificate and returns what it said.
func (s *hsmSite) issue(t *testing.T) (string, error) {
	t.Helper()
	return lab.Run(filepath.Dir(s.Dir), nil, binary, "cert", "issue", "--socket", s.Dir, "--profile", "tls-server", "--issuer", "hsm-1", "--csr", s.csr)
}

// issuesAgain wants a certificate within the 5 s in which a key heals.
func (s *hsmSite) issuesAgain(t *testing.T, after string) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := s.issue(t)
		if err == nil {
			t.Logf("%s: issues again after %v", after, time.Since(begun).Round(time.Millisecond))
			s.check(t, out)
			return
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("%s: still refused: %v", after, err)
		}
	}
}

// check reads a chain with openssl.
func (s *hsmSite) check(t *testing.T, chain string) {
	t.Helper()
	s.write(t, "leaf.pem", chain)
	s.run(t, "openssl", "verify", "-CAfile", filepath.Join(s.Dir, "hsm-root.pem"), "-untrusted", filepath.Join(s.Dir, "leaf.pem"), filepath.Join(s.Dir, "leaf.pem"))
	certs, err := pki.ParseChain([]byte(chain))
	if err != nil || certs[0].Issuer.CommonName != "Issuing CA in a token" || certs[0].PublicKeyAlgorithm != x509.ECDSA {
		t.Fatalf("chain: %v, %v", certs, err)
	}
}

// The whole way with the issuing key in a token: it is checked, issues, is lost
// in every way that a module can lose it, and issues again by itself.
func TestIssuingKeyInAToken(t *testing.T) {
	s := newHSMSite(t)
	if out := s.run(t, binary, "config", "check", "--config", s.config()); !strings.Contains(out, "is good") {
		t.Fatal(out)
	}
	s.write(t, "secrets/pin", "wrong-pin\n")
	s.serve(t)
	// A wrong PIN stops nobody else: the process runs and says so, and does not try it
	// again by itself, since tokens lock after a few.
	err := s.Ready(5 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "its key cannot be opened") {
		t.Fatalf("a wrong PIN: %v", err)
	}
	if text := s.Log.Tail(1 << 20); strings.Count(text, "CKR_PIN_INCORRECT") != 1 || strings.Contains(text, "wrong-pin") {
		t.Fatalf("a wrong PIN: %s", text)
	}
	s.write(t, "secrets/pin", s.tok.PIN+"\n")
	s.run(t, binary, "config", "reload", "--socket", s.Dir)
	if err := s.Ready(time.Minute); err != nil {
		t.Fatal(err)
	}
	s.issuesAgain(t, "start")

	for name, rules := range map[string][]string{
		"lost sessions": {"C_SignInit 0xB3", "C_OpenSession 0xE0"},
		"device error":  {"C_Sign 0x30"},
		"hanging":       {"C_Sign hang"},
	} {
		s.shim.Do(t, rules...)
		s.refused(t, name)
		s.shim.Do(t)
		s.issuesAgain(t, name)
	}

	if err := os.Rename(s.tok.Dir, s.tok.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.refused(t, "token away")
	s.unhealthy(t)
	if err := os.Rename(s.tok.Dir+".away", s.tok.Dir); err != nil {
		t.Fatal(err)
	}
	s.issuesAgain(t, "token back")
	if err := s.Ready(5 * time.Second); err != nil {
		t.Error(err)
	}
	resp, err := http.Get("http://" + s.Addr.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	defer resp.Body.Close() //nolint:errcheck // read only
	if err := resp.Write(&text); err != nil || !strings.Contains(text.String(), `op="reconnect",outcome="ok"`) {
		t.Errorf("no reconnect in the metrics: %v", err)
	}
}

// refused wants an answer within the key's deadline that says to come back.
func (s *hsmSite) refused(t *testing.T, why string) {
	t.Helper()
	begun := time.Now()
	out, err := s.issue(t)
	if took := time.Since(begun); err == nil || took > 15*time.Second {
		t.Fatalf("%s: %v after %v\n%s", why, err, took, out)
	}
	if !strings.Contains(out, "unavailable") && !strings.Contains(out, "signing key") {
		t.Errorf("%s: %s", why, out)
	}
	t.Logf("%s: refused after %v: %s", why, time.Since(begun).Round(time.Millisecond), strings.TrimSpace(out))
}

// unhealthy waits until the server tells that the issuer does not sign.
func (s *hsmSite) unhealthy(t *testing.T) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + s.Addr.Ops + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("readiness says %d while the token is away", resp.StatusCode)
		}
	}
}
