package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// newIssuer makes an issuing CA below the lab's root, with its key and chain in
// the lab's folder, and returns the entry of the configuration.
func (l *lab) newIssuer(t *testing.T, id, more string) string {
	t.Helper()
	return l.newIssuerBelow(t, l.root(t), id, ceremony.CASpec{}, more)
}

func (l *lab) newIssuerBelow(t *testing.T, above ceremony.CA, id string, spec ceremony.CASpec, more string) string {
	t.Helper()
	ref := keys.Ref("file:" + filepath.Join(l.dir, "keys", id+".key"))
	key, err := keys.Generate(ref, "ec-p256", config.Reference("file:secrets/issuer").Secret(l.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close() //nolint:errcheck // a file's key has nothing to release
	csr, err := ceremony.NewRequest(key, "CN=Lab "+id+",O=Privyseal Development")
	if err != nil {
		t.Fatal(err)
	}
	spec.Locations = issuer.Locations{CRL: "http://localhost/crl/root.crl"}
	cert, err := ceremony.SignCA(t.Context(), above, csr, spec)
	if err != nil {
		t.Fatal(err)
	}
	up, err := above.Chain()
	if err != nil {
		t.Fatal(err)
	}
	ders := [][]byte{cert.Raw}
	for _, c := range up {
		ders = append(ders, c.Raw)
	}
	if err := files.Write(filepath.Join(l.dir, id+".pem"), pki.EncodeChain(ders...), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  - id: %s\n    key: file:keys/%s.key\n    passphrase: file:secrets/issuer\n    certificate: %s.pem\n    ocsp: {signer: issuer}\n%s", id, id, id, more)
}

// pool puts dev-a-1 into the pool web, with whatever issuers follow it.
func (l *lab) pool(t *testing.T, entries ...string) {
	t.Helper()
	text := strings.ReplaceAll(l.read(t), "issuer: dev-a-1\n", "issuer: web\n")
	text = strings.Replace(text, "    certificate: chain.pem\n", "    certificate: chain.pem\n    pool: web\n"+strings.Join(entries, ""), 1)
	l.write(t, text)
}

func newCSR(t *testing.T, names ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// issue asks for a certificate and wants it from a certain issuer.
func (l *lab) issue(t *testing.T, from string) *x509.Certificate {
	t.Helper()
	cert, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain([]byte(cert.Chain))
	if err != nil {
		t.Fatal(err)
	}
	if url := chain[0].CRLDistributionPoints[0]; !strings.HasSuffix(url, "/crl/"+from+".crl") {
		t.Fatalf("its list is %s, want that of %s", url, from)
	}
	return chain[0]
}

func check(t *testing.T, h api.Health, name string) api.HealthCheck {
	t.Helper()
	i := indexCheck(h, name)
	if i < 0 {
		t.Fatalf("readyz says nothing of %s: %+v", name, h)
	}
	return h.Checks[i]
}

// TestG1_42_G1_54_PoolFailover: with two issuers in a pool certificates never stop; with one
// left, readiness warns.
func TestG1_42_G1_54_PoolFailover(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t, l.newIssuer(t, "dev-b-1", "    pool: web\n"))
	h := l.serve(t).server
	l.issue(t, "dev-a-1")
	if _, answer := l.readyz(t); check(t, answer, "pool web").Detail != "issuers that sign: [dev-a-1 dev-b-1]" {
		t.Errorf("readyz: %+v", answer)
	}
	if err := h.signing.Load().keys["dev-a-1"].Close(); err != nil {
		t.Fatal(err)
	}
	l.issue(t, "dev-b-1")
	status, answer := l.readyz(t)
	if a := check(t, answer, "issuer dev-a-1"); status != http.StatusOK || !strings.Contains(a.Detail, "closed") {
		t.Errorf("readyz: %d, %+v", status, a)
	}
	if p := check(t, answer, "pool web"); !p.OK || p.Detail != "only dev-b-1 signs: nothing takes over if it fails" {
		t.Errorf("readyz: %+v", p)
	}
	if err := h.wakeKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, body := l.get(t, "http://"+l.addr.ops+"/metrics"); !bytes.Contains(body, []byte(`privyseal_key_operations_total{key="dev-a-1",op="keepalive"`)) {
		t.Error("nobody asks the key that failed")
	}
	// Its lists and responses go on: of a key in a file, the delegate's is another.
	if res, _ := l.get(t, "http://"+l.addr.http+"/crl/dev-a-1.crl"); res.StatusCode != 200 {
		t.Errorf("list of the issuer whose key is lost: %d", res.StatusCode)
	}
}

// TestG1_42_PoolStartsWithoutOneKey: a server whose pool lost a key starts with the
// others, says so, and takes the key up when it is back.
func TestG1_42_PoolStartsWithoutOneKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t, l.newIssuer(t, "dev-b-1", "    pool: web\n"))
	file := filepath.Join(l.dir, "keys", "dev-a-1.key")
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("damaged"))
	h := l.serve(t).server
	l.issue(t, "dev-b-1")
	status, answer := l.readyz(t)
	if a := check(t, answer, "issuer dev-a-1"); status != 200 || !strings.Contains(a.Detail, "its key cannot be opened") {
		t.Errorf("readyz: %d %+v", status, a)
	}
	if res, _ := l.get(t, "http://"+l.addr.http+"/issuers/dev-a-1/chain.pem"); res.StatusCode != 200 {
		t.Errorf("chain of the issuer whose key is lost: %d", res.StatusCode)
	}
	_, err = l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "dev-a-1", CSR: newCSR(t, "a.localhost")})
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != 503 {
		t.Errorf("the issuer whose key is lost, by its own name: %v", err)
	}
	write(key)
	if err := h.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.issue(t, "dev-a-1")
}

// TestGenerations: the successor is put in by a reload; clients' URLs stay, the
// former issuer keeps its list and its responses, and is retired in the end.
func TestGenerations(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t, l.newIssuer(t, "dev-b-1", "    pool: web\n"))
	r := l.serve(t)
	h := r.server
	old := l.issue(t, "dev-a-1")

	a2 := l.newIssuer(t, "dev-a-2", "    pool: web\n    succeeds: dev-a-1\n")
	b2 := l.newIssuer(t, "dev-b-2", "    pool: web\n    succeeds: dev-b-1\n")
	l.change(t, "  - id: dev-b-1\n", a2+b2+"  - id: dev-b-1\n")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	l.issue(t, "dev-a-2")
	states(t, l, "dev-a-1 draining 1 web", "dev-b-1 draining 1 web", "dev-a-2 active 2 web", "dev-b-2 active 2 web", "dev-root offline 1 dev-root")
	if status, answer := l.readyz(t); status != 200 || check(t, answer, "pool web").Detail != "issuers that sign: [dev-a-2 dev-b-2]" {
		t.Errorf("readyz: %d %+v", status, answer)
	}

	// The former issuer goes on: its list takes a revocation, its responder knows it.
	if _, err := api.RevokeCertificate.Call(t.Context(), l.client(),
		api.CertificateRef{Certificate: old.SerialNumber.Text(16), Issuer: "dev-a-1"},
		api.RevokeRequest{Reason: "superseded"}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PublishCRLs.Call(t.Context(), l.client(),
		api.IssuerRef{Issuer: "dev-a-1"}, api.PublishRequest{}); err != nil {
		t.Fatal(err)
	}
	_, der := l.get(t, "http://"+l.addr.http+"/crl/dev-a-1.crl")
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("list of the former issuer: %+v, %v", list, err)
	}
	l.seenRevoked(t, old, "dev-a-1")

	// dev-b-1 never issued anything: it is retired at once. dev-a-1 has certificates.
	if err := h.retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	states(t, l, "dev-a-1 draining 1 web", "dev-b-1 retired 1 web")
	if res, _ := l.get(t, "http://"+l.addr.http+"/crl/dev-b-1.crl"); res.StatusCode != 404 {
		t.Errorf("list of a retired issuer: %d", res.StatusCode)
	}
	if res, _ := l.get(t, "http://"+l.addr.http+"/issuers/dev-b-1.cer"); res.StatusCode != 200 {
		t.Errorf("certificate of a retired issuer: %d", res.StatusCode)
	}

	// What happened is in the database: a restart finds it so.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l.serve(t)
	l.issue(t, "dev-a-2")
	if status := l.ocsp(t, old, "dev-a-1"); status != ocsp.Revoked {
		t.Errorf("after a restart the former issuer's responder says %d", status)
	}
}

// states wants issuers with their state, generation and name.
func states(t *testing.T, l *lab, want ...string) {
	t.Helper()
	all, err := api.ListIssuers.Call(t.Context(), l.client(), api.None{}, api.None{})
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, i := range all.Issuers {
		have = append(have, fmt.Sprintf("%s %s %d %s", i.ID, i.State, i.Generation, i.Name))
	}
	for _, w := range want {
		if !slices.Contains(have, w) {
			t.Errorf("want %q among %q", w, have)
		}
	}
}

func (l *lab) ocsp(t *testing.T, cert *x509.Certificate, by string) int {
	t.Helper()
	_, der := l.get(t, "http://"+l.addr.http+"/issuers/"+by+".cer")
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	query, err := ocsp.CreateRequest(cert, ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.addr.http+"/ocsp/"+by, bytes.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponseForCert(body.Bytes(), cert, ca)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status
}

// A change waits for another one that is under way, and not for ever.
func TestChangesWaitForEachOther(t *testing.T) {
	t.Parallel()
	h := &server{}
	h.changing.Lock()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if err := h.begin(ctx); !fault.Is(err, fault.Conflict) || fault.Of(err).Reason != "busy" {
		t.Errorf("while another change goes on: %v", err)
	}
	go h.changing.Unlock()
	if err := h.begin(t.Context()); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// seenRevoked fails unless the responder says within a second, as it promises,
// that a certificate is revoked.
func (l *lab) seenRevoked(t *testing.T, cert *x509.Certificate, by string) {
	t.Helper()
	for end := time.Now().Add(time.Second); l.ocsp(t, cert, by) != ocsp.Revoked; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a second after the revocation the responder of %s does not know of it", by)
		}
	}
}
