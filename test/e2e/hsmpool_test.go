//go:build cgo

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// tokenSite is a server with all its CA keys in two tokens of one module: the
// issuers hsm-1 and hsm-2 of one pool, one in each, the keys of their OCSP
// responders beside them, and that of the SCEP RA in the second.
type tokenSite struct {
	*hsmSite
	first, second string // the tokens' folders
}

func newTokenSite(t *testing.T) *tokenSite {
	t.Helper()
	tok := hsmtest.New(t)
	s := &tokenSite{hsmSite: &hsmSite{tok: tok, shim: hsmtest.NewShim(t, tok), Server: &lab.Server{Binary: binary, Dir: filepath.Join(t.TempDir(), "site")}}}
	s.first = folder(t, tok)
	tok.Add(t, "spare")
	s.second = folder(t, tok, s.first)
	var err error
	if s.Addr, err = lab.FreeAddresses(); err != nil {
		t.Fatal(err)
	}
	noError(t, s.Start())
	noError(t, s.Stop())
	s.configure(t)
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

// folder is the token directory's entry that is none of known.
func folder(t *testing.T, tok *hsmtest.Token, known ...string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tok.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if len(known) == 0 || f != known[0] {
			return f
		}
	}
	t.Fatal("there is no token")
	return ""
}

// configure makes both issuers and writes them, and where their services' keys
// are, into the configuration of dev.
func (s *tokenSite) configure(t *testing.T) {
	t.Helper()
	pass := func() ([]byte, error) { return []byte("root"), nil }
	root := ceremony.CA{Dir: filepath.Join(t.TempDir(), "root"), Secret: pass, Now: time.Now}
	above, err := ceremony.Root(t.Context(), root, ceremony.RootSpec{Subject: "CN=Root of the tokens"})
	noError(t, err)
	entry := "pkcs11:\n  module: " + s.shim.Module + "\nissuers:\n"
	for id, token := range map[string]string{"hsm-1": "lab", "hsm-2": "spare"} {
		key, err := keys.GenerateIn(keys.Ref("pkcs11:token="+token+";object="+id), "ec-p256", s.tok.Secret, keys.Config{Module: s.shim.Module})
		noError(t, err)
		csr, err := ceremony.NewRequest(key, "CN=Issuing CA "+id)
		noError(t, err)
		noError(t, key.Close())
		ca, err := ceremony.SignCA(t.Context(), root, csr, ceremony.CASpec{Locations: issuer.Locations{CRL: "http://localhost/crl/root.crl"}})
		noError(t, err)
		s.write(t, id+".pem", string(pki.EncodeChain(ca.Raw, above.Raw)))
	}
	for _, i := range [][2]string{{"hsm-1", "lab"}, {"hsm-2", "spare"}} { // in the order of preference
		entry += fmt.Sprintf("  - {id: %[1]s, pool: hsm, key: 'pkcs11:token=%[2]s;object=%[1]s', passphrase: file:secrets/pin, certificate: %[1]s.pem, "+
			"ocsp: {key: 'pkcs11:token=%[2]s;object=ocsp-%[1]s', passphrase: file:secrets/pin}}\n", i[0], i[1])
	}
	s.write(t, "secrets/pin", s.tok.PIN+"\n")
	text := string(read(t, s.config()))
	text = strings.Replace(text, "issuers:\n", entry, 1)
	text = strings.Replace(text, "endpoints:\n", "endpoints:\n  - {name: tokens, protocol: scep, issuer: hsm, profiles: [device], "+
		"scep: {path: tokens, challenge: 'file:scep-challenge', ra_key_ref: 'pkcs11:token=spare;object=scep-ra', ra_passphrase: file:secrets/pin}}\n", 1)
	s.write(t, "privyseal.yaml", text)
}

// renew issues by the pool and returns the leaf and the id of its issuer.
func (s *tokenSite) renew(t *testing.T) (leaf, ca *x509.Certificate, err error) {
	t.Helper()
	out, err := lab.Run(filepath.Dir(s.Dir), nil, binary, "cert", "issue", "--socket", s.Dir, "--profile", "tls-server", "--issuer", "hsm", "--csr", s.csr)
	if err != nil {
		return nil, nil, err
	}
	chain, err := pki.ParseChain([]byte(out))
	if err != nil {
		return nil, nil, err
	}
	return chain[0], chain[1], nil
}

// renewsBy wants certificates without a pause, by a certain issuer.
func (s *tokenSite) renewsBy(t *testing.T, when, id string) (leaf, ca *x509.Certificate) {
	t.Helper()
	for range 3 {
		var err error
		if leaf, ca, err = s.renew(t); err != nil {
			t.Fatalf("%s: renewals stop: %v", when, err)
		}
		if cn := ca.Subject.CommonName; cn != "Issuing CA "+id {
			t.Fatalf("%s: signed by %s, want %s", when, cn, id)
		}
	}
	return leaf, ca
}

// status asks the responder of an issuer about a certificate.
func (s *tokenSite) status(t *testing.T, leaf, ca *x509.Certificate) (int, error) {
	t.Helper()
	query, err := ocsp.CreateRequest(leaf, ca, nil)
	noError(t, err)
	res, err := http.Get(leaf.OCSPServer[0] + "/" + url.PathEscape(base64.StdEncoding.EncodeToString(query)))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		return 0, err
	}
	answer, err := ocsp.ParseResponseForCert(body.Bytes(), leaf, ca)
	if err != nil {
		return 0, err
	}
	return answer.Status, nil
}

// enrol gets a certificate for a device over SCEP.
func (s *tokenSite) enrol(t *testing.T) error {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	noError(t, err)
	device, err := deviceclient.NewDevice(key)
	noError(t, err)
	c, err := deviceclient.NewSCEP(ctx, http.DefaultClient, "http://"+s.Addr.HTTP+"/scep/tokens")
	if err != nil {
		return err
	}
	csr, err := deviceclient.ChallengeCSR(key, "device-1", strings.TrimSpace(string(read(t, filepath.Join(s.Dir, "scep-challenge")))))
	noError(t, err)
	answer, err := c.Send(ctx, device, deviceclient.PKCSReq, fmt.Sprint(time.Now().UnixNano()), csr)
	if err != nil {
		return err
	}
	if answer.Status != deviceclient.Success {
		return fmt.Errorf("pkiStatus %s, failInfo %s", answer.Status, answer.FailInfo)
	}
	return nil
}

// soon wants something to work within the time in which keys heal.
func soon(t *testing.T, what string, try func() error) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			t.Logf("%s after %v", what, time.Since(begun).Round(time.Millisecond))
			return
		}
		if time.Since(begun) > 8*time.Second {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func away(t *testing.T, dir string) (back func()) {
	t.Helper()
	noError(t, os.Rename(dir, filepath.Join(filepath.Dir(filepath.Dir(dir)), "away")))
	return func() { noError(t, os.Rename(filepath.Join(filepath.Dir(filepath.Dir(dir)), "away"), dir)) }
}

// Everything that signs or decrypts is in tokens, and tokens are lost: sessions,
// one token of two, both, and one before the start.
func TestG1_42_PoolInTokens(t *testing.T) {
	need.Programs(t, "openssl")
	s := newTokenSite(t)
	s.serve(t)
	noError(t, s.Ready(time.Minute))
	leaf, ca := s.renewsBy(t, "at first", "hsm-1")
	if status, err := s.status(t, leaf, ca); err != nil || status != ocsp.Good {
		t.Errorf("OCSP: %d, %v", status, err)
	}
	noError(t, s.enrol(t))

	// Sessions that are lost for a moment heal within the call.
	s.shim.Do(t, "C_SignInit 0xB3")
	if _, _, err := s.renew(t); err == nil {
		t.Error("no session signs, and there is a certificate")
	}
	s.shim.Do(t)
	soon(t, "issues after lost sessions", func() error { _, _, err := s.renew(t); return err })
	s.shim.Do(t, "C_Decrypt 0xB3")
	if err := s.enrol(t); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("the RA's key does not decrypt, and the device hears %v", err)
	}
	s.shim.Do(t)
	soon(t, "enrols after lost sessions", func() error { return s.enrol(t) })

	// One token of two: the pool goes on.
	back := away(t, s.first)
	s.renewsBy(t, "first token away", "hsm-2")
	soon(t, "enrols without the first token", func() error { return s.enrol(t) })
	back()
	s.renewsOn(t, "first token back")

	// All of them: refused with a time to come back, and by itself again.
	back = away(t, s.tok.Dir)
	if _, _, err := s.renew(t); err == nil {
		t.Error("all tokens are away, and there is a certificate")
	}
	back()
	soon(t, "issues after all were away", func() error { _, _, err := s.renew(t); return err })
	soon(t, "enrols after all were away", func() error { return s.enrol(t) })

	// One was lost before the start.
	noError(t, s.Stop())
	back = away(t, s.first)
	s.serve(t)
	noError(t, s.Ready(time.Minute))
	leaf, ca = s.renewsBy(t, "started without the first token", "hsm-2")
	if status, err := s.status(t, leaf, ca); err != nil || status != ocsp.Good {
		t.Errorf("OCSP: %d, %v", status, err)
	}
	back()
}

// renewsOn wants certificates without a pause, by whoever.
func (s *tokenSite) renewsOn(t *testing.T, when string) {
	t.Helper()
	for range 5 {
		_, ca, err := s.renew(t)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		t.Logf("%s: by %s", when, ca.Subject.CommonName)
	}
}
