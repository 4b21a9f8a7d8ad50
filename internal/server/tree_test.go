package server

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// root is the offline CA of the lab's ceremony.
func (l *lab) root(t *testing.T) ceremony.CA {
	t.Helper()
	if err := os.Chmod(filepath.Join(l.dir, "offline", "private", "ca.key"), 0o400); err != nil { // CopyFS adds to the mode
		t.Fatal(err)
	}
	lines := strings.Fields(ceremonyText)
	return ceremony.CA{Dir: filepath.Join(l.dir, "offline"), Secret: literal(lines[len(lines)-1]), Now: time.Now}
}

// certify signs a request by the lab's root and returns the certificate as PEM.
func (l *lab) certify(t *testing.T, csrPEM string, spec ceremony.CASpec) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csrPEM))
	csr, err := pki.ParseCSR(t.Context(), block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Locations.CRL == "" {
		spec.Locations = issuer.Locations{CRL: "http://localhost/crl/dev-root.crl", CAIssuers: "http://localhost/issuers/dev-root.cer"}
	}
	c, err := ceremony.SignCA(t.Context(), l.root(t), csr, spec)
	if err != nil {
		t.Fatal(err)
	}
	return string(pki.EncodeChain(c.Raw))
}

const secondIssuer = "issuers:\n  - id: web-b\n    key: file:keys/web-b.key\n    passphrase: file:secrets/issuer\n    subject: CN=Web CA B,O=Privyseal Development\n"

// An issuer that is declared while its key does not exist yet: key and request
// are made by the server, the certificate is signed offline and installed, and
// the server issues from it without a restart (G1-34, G1-37).
func TestG1_37_AnIssuerIsInstalledWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func() string{
		"sqlite": func() string { return "" }, "postgres": func() string { return storetest.PostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if u := url(); u != "" {
				l.change(t, "url: sqlite:privyseal.db", "url: "+u)
			}
			l.change(t, "issuers:\n", secondIssuer)
			r := l.serve(t)
			if status, h := l.readyz(t); status != http.StatusOK {
				t.Errorf("an issuer that waits for its certificate makes the server unready: %+v", h)
			}
			c := l.client()
			defer c.Close()
			csr, err := api.CreateIssuerCSR.Call(t.Context(), c, api.IssuerRef{Issuer: "web-b"}, api.NewIssuerCSR{})
			if err != nil {
				t.Fatal(err)
			}
			if again, err := api.CreateIssuerCSR.Call(t.Context(), c,
				api.IssuerRef{Issuer: "web-b"}, api.NewIssuerCSR{}); err != nil ||
				again.CSR != csr.CSR || again.KeyMade || !csr.KeyMade {
				t.Errorf("the second call made another request or key: %v", err)
			}
			if info, err := os.Stat(filepath.Join(l.dir, "keys", "web-b.key")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the key's file: %v", err)
			}
			webB := api.IssuerRef{Issuer: "web-b"}
			certificate := api.IssuerCertificate{
				Certificate: l.certify(t, csr.CSR, ceremony.CASpec{}), NoTranscript: true,
			}
			done, err := api.InstallIssuer.Call(t.Context(), c, webB, certificate)
			if err != nil || done.Installed == nil {
				t.Fatalf("install: %+v %v", done, err)
			}
			if is := done.Installed.Issuer; is.Parent != devca.Root || is.State != string(ca.Active) {
				t.Fatalf("installed: %+v", is)
			}
			leaf, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "web-b", CSR: admintest.CSR(t, "b.example.test")})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Issue(t.Context(), api.IssueRequest{Profile: "SubordinateCACertificate_PathLen0/V1", Issuer: "web-b", CSR: csr.CSR})
			refused(t, err, 403, "path_length") // G2-33
			block, _ := pem.Decode([]byte(leaf.Chain))
			x, err := x509.ParseCertificate(block.Bytes)
			if err != nil || x.Issuer.CommonName != "Web CA B" {
				t.Errorf("issued by %s: %v", x.Issuer, err)
			}
			if done, err = api.InstallIssuer.Call(t.Context(), c,
				webB, certificate); err != nil || done.Unchanged == nil {
				t.Errorf("install again: %+v %v", done, err)
			}
			for _, path := range []string{"/issuers/web-b/chain.pem", "/issuers/web-b.cer"} {
				if res, _ := l.get(t, "http://"+l.addr.http+path); res.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", path, res.StatusCode)
				}
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			l.serve(t) // from the database alone
			if _, err := c.Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "web-b", CSR: admintest.CSR(t, "c.example.test")}); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}
