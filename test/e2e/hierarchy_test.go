package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/test/dnstest"
	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// house is a site that serves a hierarchy of its own.
type house struct {
	*site
	*lab.Hierarchy
	database string
}

// newHouse makes offline CAs, issuing CAs under the last of them, and a server,
// which does not run yet. The first issuing CA serves.
func newHouse(t *testing.T, database string, offline []string, issuing ...string) *house {
	t.Helper()
	l := &site{Server: lab.Server{Binary: binary, Dir: filepath.Join(t.TempDir(), "ca"), Serve: true, Addr: freeAddresses(t)}, dns: dnstest.Start(t)}
	h := &house{site: l, database: database}
	var err error
	if h.Hierarchy, err = lab.NewHierarchy(t.Context(), l.Dir, l.Addr, offline...); err != nil {
		t.Fatal(err)
	}
	for _, id := range issuing {
		noError(t, h.Issuing(t.Context(), id))
	}
	noError(t, h.Configure(database, l.dns.Addr(), issuing...))
	t.Cleanup(func() { noError(t, l.Verify()) })
	return h
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// issue issues by the command line and returns the chain as a relying party has
// it.
func (h *house) issue(t *testing.T, issuer, name string) *relying {
	t.Helper()
	out := filepath.Join(t.TempDir(), "chain.pem")
	h.operate(t, "cert", "issue", "--profile", "tls-server", "--issuer", issuer, "--csr", h.csr(t, name), "--out", out)
	return relyOn(t, h.root(), read(t, out))
}

// publish has an offline CA sign a list, and hands it to the server.
func (h *house) publish(t *testing.T, id string) {
	t.Helper()
	file, err := h.List(t.Context(), id)
	noError(t, err)
	h.operate(t, "crl", "import", file)
}

// TestTiersVerifyAndRefuse walks two- and three-tier chains with lists of every
// level: all good, then the leaf revoked, then a CA of each level above it.
func TestTiersVerifyAndRefuse(t *testing.T) {
	need.Programs(t, "openssl")
	for name, offline := range map[string][]string{"two tiers": {"root-1"}, "three tiers": {"root-1", "policy-1"}} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "", offline, "web-1", "web-2")
			h.start(t)
			revoked, stays, other := h.issue(t, "web-1", "a.lab.test"), h.issue(t, "web-1", "b.lab.test"), h.issue(t, "web-2", "c.lab.test")
			for _, r := range []*relying{revoked, stays, other} {
				if len(r.chain) != len(offline)+1 {
					t.Fatalf("the chain has %d certificates", len(r.chain))
				}
				r.wantGood(t)
			}
			h.operate(t, "cert", "revoke", revoked.serial(), "--reason", "keyCompromise")
			revoked.wantRefused(t, 0)
			stays.wantGood(t)

			last := offline[len(offline)-1]
			noError(t, h.Revoke(t.Context(), last, "web-1", pki.CessationOfOperation))
			h.publish(t, last)
			stays.wantRefused(t, 1)
			other.wantGood(t)
			if len(offline) == 2 {
				noError(t, h.Revoke(t.Context(), "root-1", "policy-1", pki.CACompromise))
				h.publish(t, "root-1")
				other.wantRefused(t, 2)
			}
		})
	}
}

// TestDrillCompromisedIssuer is the drill for a compromised issuing CA (G1-05,
// G2-06): its certificate is revoked on the root's list, a successor is installed
// and serves, old leaves are refused, new ones accepted.
func TestDrillCompromisedIssuer(t *testing.T) {
	need.Programs(t, "openssl")
	t.Run("sqlite", func(t *testing.T) { drill(t, newHouse(t, "", []string{"root-1"}, "web-1")) })
	t.Run("postgres", func(t *testing.T) { drill(t, newHouse(t, storetest.PostgresURL(t), []string{"root-1"}, "web-1")) })
}

func drill(t *testing.T, h *house) {
	h.start(t)
	answers := newResponder(t, h.Addr.HTTP01)
	client := h.goClient(t, "default")
	register(t, client)
	enrol := func(name string) *relying {
		t.Helper()
		chain, _, err := order(t.Context(), client, answers, name)
		noError(t, err)
		return relyOn(t, h.root(), chain)
	}
	old := enrol("old.lab.test")
	old.wantGood(t)
	old.wantOCSP(t, "good", "")

	// 1. The ceremony: the root revokes the issuing CA. The list goes to the server.
	noError(t, h.Revoke(t.Context(), "root-1", "web-1", pki.CACompromise))
	h.publish(t, "root-1")
	old.wantRefused(t, 1)

	// 2. The server stops issuing from it, and says so.
	await(t, "web-1 is suspended", func() bool {
		out, _ := h.try(t, "status")
		return strings.Contains(out, "root-1 has revoked the certificate of web-1 for cACompromise")
	})
	if out, err := h.try(t, "cert", "issue", "--profile", "tls-server", "--issuer", "web-1", "--csr", h.csr(t, "x.lab.test")); err == nil || !strings.Contains(out, "issuer_revoked") {
		t.Errorf("the revoked CA still issues: %v\n%s", err, out)
	}

	// 3. A successor: certified by the root, configured, loaded. The endpoint's URL
	// and the accounts stay.
	noError(t, h.Issuing(t.Context(), "web-2"))
	noError(t, h.Configure(h.database, h.dns.Addr(), "web-2", "web-1"))
	h.operate(t, "config", "reload")
	await(t, "ready again", func() bool { // the revoked one stays a warning until it is taken out of the file
		out, _ := h.try(t, "status")
		return strings.Contains(out, "issuer web-2") && strings.Contains(out, "there are warnings") && !strings.Contains(out, "failed")
	})

	await(t, "web-2 has its first list, which is made in the background", func() bool {
		resp, err := http.Get("http://" + h.Addr.HTTP + "/crl/web-2.crl")
		noError(t, err)
		noError(t, resp.Body.Close())
		return resp.StatusCode == http.StatusOK
	})

	// 4. Clients renew: what they get now is accepted, what they had is not.
	renewed := enrol("old.lab.test")
	if issuer := renewed.chain[0].Issuer.CommonName; issuer != "Lab web-2" {
		t.Errorf("the renewed certificate is from %s", issuer)
	}
	renewed.wantGood(t)
	renewed.wantOCSP(t, "good", "")
	old.wantRefused(t, 1)

	// 5. What the lost CA had issued is revoked too, for those who only look there.
	out := h.operate(t, "cert", "revoke", "--where", "issuer=web-1", "--reason", "keyCompromise", "--yes")
	if !strings.Contains(out, "revoked ") {
		t.Errorf("in bulk: %s", out)
	}
	old.wantOCSP(t, "revoked", "keyCompromise")
	renewed.wantGood(t)

	// A restart remembers.
	noError(t, h.Stop())
	h.start(t)
	if out, err := h.try(t, "cert", "issue", "--profile", "tls-server", "--issuer", "web-1", "--csr", h.csr(t, "x.lab.test")); err == nil {
		t.Errorf("after a restart the revoked CA issues again:\n%s", out)
	}
}

// csr writes a request of a new key and returns its file.
func (h *house) csr(t *testing.T, name string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, newKey(t))
	noError(t, err)
	file := filepath.Join(t.TempDir(), "csr.pem")
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	return file
}

// await waits up to ten seconds for something to come true.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}
