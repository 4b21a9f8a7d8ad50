package server

import (
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/verify"
)

// A root that comes with the chain of its issuer before it is declared is served under
// the id of its fingerprint, and the CDP in the issuer's certificate is 404, which
// verify finds. Declared and installed later, it is served under both ids, and nothing
// is missing any more.
func TestFT16_AChainBeforeItsRootIsDeclared(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	offline := "offline:\n  - id: dev-root\n    certificate: root.pem\n    crl: root.crl\n"
	l.change(t, offline, "")
	l.change(t, "issuers:\n", secondIssuer)
	r := l.serve(t)
	h := r.server
	csr, err := api.CreateIssuerCSR.Call(t.Context(), l.client(), api.IssuerRef{Issuer: "web-b"}, api.NewIssuerCSR{})
	if err != nil {
		t.Fatal(err)
	}
	here := "http://" + l.addr.http
	locations := issuer.Locations{CRL: here + "/crl/dev-root.crl", CAIssuers: here + "/issuers/dev-root.cer"}
	certificate := api.IssuerCertificate{
		Certificate: l.certify(t, csr.CSR, ceremony.CASpec{Locations: locations}), NoTranscript: true,
	}
	if _, err := api.InstallIssuer.Call(t.Context(), l.client(),
		api.IssuerRef{Issuer: "web-b"}, certificate); err != nil {
		t.Fatal(err)
	}
	dangling := func() string {
		t.Helper()
		report, err := verify.CheckCA(t.Context(), h.store, verify.Config{Now: time.Now(), Fetch: true})
		if err != nil || report.Fetched == 0 {
			t.Fatalf("%+v %v", report, err)
		}
		var all []string
		for _, f := range report.Findings {
			if f.Subject == "issuer web-b" { // the lab's own points to no port of this test
				all = append(all, f.String())
			}
		}
		return strings.Join(all, "\n")
	}
	if text := dangling(); !strings.Contains(text, "/crl/dev-root.crl") || !strings.Contains(text, "404") {
		t.Errorf("before it is declared verify finds:\n%s", text)
	}
	was := h.signing.Load().cas().Get(devca.Issuer).Parent.ID
	l.change(t, "endpoints:\n", "offline:\n  - id: dev-root\nendpoints:\n")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	l.must(t, "issuer", "install", devca.Root, "--certificate", filepath.Join(l.dir, "root.pem"), "--no-transcript")
	l.must(t, "crl", "import", filepath.Join(l.dir, "root.crl"))
	for range 2 { // again after a restart, from the database alone
		for _, id := range []string{devca.Root, was} {
			for _, path := range []string{"/crl/" + id + ".crl", "/issuers/" + id + ".cer", "/roots/" + id + ".cer"} {
				if res, _ := l.get(t, "http://"+l.addr.http+path); res.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", path, res.StatusCode)
				}
			}
		}
		if text := dangling(); text != "" {
			t.Errorf("verify finds:\n%s", text)
		}
		if text := l.must(t, "hierarchy", "lint"); strings.Contains(text, "error:") || strings.Contains(text, was) {
			t.Errorf("lint:\n%s", text)
		}
		if text := l.must(t, "issuer", "list"); !strings.Contains(text, "another id of "+devca.Root) {
			t.Errorf("list:\n%s", text)
		}
		l.leafOf(t, "web-b", "tls-server", "b.example.test")
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = l.serve(t)
		h = r.server
	}
}

// A broken record that came into the database in another way is pending, is said to be,
// and goes; the server that ran with it signs on, and its id is used again.
func TestFT4_ABrokenRecordIsRemoved(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.change(t, "issuers:\n", secondIssuer)
	h := l.serve(t).server
	unreadable := &x509.Certificate{Raw: []byte("x"), NotAfter: time.Now()}
	broken := ca.NewRecord("web-b", devca.Root, string(ca.Active), unreadable, time.Now())
	if err := h.store.PutIssuer(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	if err := h.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := l.must(t, "issuer", "list"); !strings.Contains(text, "why: it is not in use: read installed certificate") {
		t.Errorf("list:\n%s", text)
	}
	_, _, err := l.cli(t, "issuer", "remove", devca.Issuer)
	refused(t, err, http.StatusConflict, "issuer_declared")
	l.must(t, "issuer", "remove", "web-b")
	if c := h.signing.Load().cas().Get("web-b"); c == nil || c.Pending != nil || c.Stage != ca.Declared {
		t.Errorf("after it was removed: %+v", c)
	}
	if text := l.must(t, "issuer", "list"); !strings.Contains(text, "why: it has no certificate yet") {
		t.Errorf("list:\n%s", text)
	}
	l.issue(t, devca.Issuer)
	l.must(t, "issuer", "csr", "web-b")
}
