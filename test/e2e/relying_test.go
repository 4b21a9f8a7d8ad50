package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// seenWithin is how soon relying parties have to see a revocation.
const seenWithin = time.Second

// relying is a relying party that knows a chain and trusts its root.
type relying struct {
	dir   string
	chain []*x509.Certificate // leaf first, root omitted
	root  string              // file
}

func relyOn(t testing.TB, root string, chain []byte) *relying {
	t.Helper()
	r := &relying{dir: t.TempDir(), chain: parseChain(t, chain), root: root}
	for i, c := range r.chain {
		write(t, r.file(i), encode([]*x509.Certificate{c}))
	}
	write(t, filepath.Join(r.dir, "above.pem"), encode(r.chain[1:]))
	return r
}

// file holds the chain's certificate i.
func (r *relying) file(i int) string { return filepath.Join(r.dir, fmt.Sprintf("%d.pem", i)) }

// ocsp asks the responder that the leaf names, as the documentation says, and
// returns what openssl says of the answer.
func (r *relying) ocsp(t testing.TB) string {
	t.Helper()
	return execute(t, r.dir, nil, "openssl", "ocsp", "-issuer", r.file(1), "-cert", r.file(0), "-url", r.chain[0].OCSPServer[0], "-CAfile", r.root)
}

// wantOCSP wants a good signature, the status, and the reason if one is given,
// soon.
func (r *relying) wantOCSP(t testing.TB, status, reason string) {
	t.Helper()
	for deadline := time.Now().Add(seenWithin); ; time.Sleep(20 * time.Millisecond) {
		asked := time.Now()
		out := r.ocsp(t)
		if !strings.Contains(out, "Response verify OK") {
			t.Fatalf("openssl ocsp:\n%s", out)
		}
		if strings.Contains(out, r.file(0)+": "+status) && (reason == "" || strings.Contains(out, "Reason: "+reason)) {
			return
		}
		if asked.After(deadline) {
			t.Errorf("openssl ocsp, want %s %s within %s:\n%s", status, reason, seenWithin, out)
			return
		}
	}
}

// verify fetches the list of every level from where the certificates say, and
// lets openssl judge the chain by them.
func (r *relying) verify(t testing.TB) (string, error) {
	t.Helper()
	args := []string{"verify", "-x509_strict", "-crl_check_all", "-CAfile", r.root, "-untrusted", filepath.Join(r.dir, "above.pem")}
	for i, c := range r.chain {
		if len(c.CRLDistributionPoints) != 1 {
			t.Fatalf("certificate %d names the lists %q", i, c.CRLDistributionPoints)
		}
		list := filepath.Join(r.dir, fmt.Sprintf("%d.crl", i))
		write(t, list, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: fetch(t, c.CRLDistributionPoints[0])}))
		args = append(args, "-CRLfile", list)
	}
	return attempt(t, r.dir, nil, "openssl", append(args, r.file(0))...)
}

func fetch(t testing.TB, url string) []byte {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return body
}

// wantGood wants the chain to be accepted by every list.
func (r *relying) wantGood(t testing.TB) {
	t.Helper()
	if out, err := r.verify(t); err != nil {
		t.Errorf("openssl verify refuses the chain: %s", out)
	}
}

// wantRefused wants a certificate of the chain (0 is the leaf) to be refused as
// revoked, soon.
func (r *relying) wantRefused(t testing.TB, depth int) {
	t.Helper()
	want := fmt.Sprintf("error 23 at %d depth lookup: certificate revoked", depth)
	out, err := "", error(nil)
	for deadline := time.Now().Add(seenWithin); ; time.Sleep(20 * time.Millisecond) {
		asked := time.Now()
		if out, err = r.verify(t); err != nil && strings.Contains(out, want) {
			return
		}
		if asked.After(deadline) {
			t.Errorf("openssl verify, want %q within %s of the revocation: %v\n%s", want, seenWithin, err, out)
			return
		}
	}
}
