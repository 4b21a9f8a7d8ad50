package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/audit"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/need"
)

// device enrols over EST, with a password and then with its certificate.
type device struct {
	name string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// enrol asks for a certificate; password is empty for a renewal.
func (l *lab) enrol(t *testing.T, d *device, password string) (*x509.Certificate, error) {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	own := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	own.RootCAs.AppendCertsFromPEM(root)
	operation := "simpleenroll"
	if password == "" {
		own.Certificates = []tls.Certificate{{Certificate: [][]byte{d.cert.Raw}, PrivateKey: d.key}}
		operation = "simplereenroll"
	}
	transport := &http.Transport{TLSClientConfig: own}
	defer transport.CloseIdleConnections()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.name}}, d.key)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.addr.est)
	client := deviceclient.EST{HTTP: &http.Client{Transport: transport}, URL: "https://localhost:" + port + "/.well-known/est"}
	if password != "" {
		client.User, client.Password = d.name, password
	}
	return client.Enrol(t.Context(), operation, csr)
}

// newDevice is a device that has enrolled.
func (l *lab) newDevice(t *testing.T, name string) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	user, err := api.CreateESTUser.Call(t.Context(), l.client(), api.None{}, api.NewESTUser{Name: name, AnyName: true})
	if err != nil {
		t.Fatal(err)
	}
	d := &device{name: name, key: key}
	if d.cert, err = l.enrol(t, d, user.Password); err != nil {
		t.Fatal(err)
	}
	return d
}

// ocspOf is what the server says of a device's certificate.
func (l *lab) ocspOf(t *testing.T, d *device) string {
	t.Helper()
	chain, err := config.ReadChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	issuing, leaf := filepath.Join(l.dir, "issuing.pem"), filepath.Join(l.dir, "leaf.pem")
	for name, der := range map[string][]byte{issuing: chain[0].Raw, leaf: d.cert.Raw} {
		if err := os.WriteFile(name, pki.EncodeChain(der), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "ocsp", "-no_nonce", "-issuer", issuing, "-cert", leaf, "-url",
		"http://"+l.addr.http+"/ocsp/dev-a-1", "-CAfile", filepath.Join(l.dir, "root.pem"), "-verify_other", issuing).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, says, _ := strings.Cut(string(out), "leaf.pem: ")
	status, _, _ := strings.Cut(says, "\n")
	return status
}

// compromise revokes a device's certificate for the compromise of its key.
func (l *lab) compromise(t *testing.T, d *device) {
	t.Helper()
	ref := api.CertificateRef{Certificate: string(pki.SerialFromBig(d.cert.SerialNumber))}
	if _, err := api.RevokeCertificate.Call(t.Context(), l.client(), ref, api.RevokeRequest{Reason: "keyCompromise"}); err != nil {
		t.Fatal(err)
	}
}

// backUp copies the database of a server that is stopped, and returns what puts the
// copy in its place.
func (l *lab) backUp(t *testing.T) (restore func()) {
	t.Helper()
	db, copied := filepath.Join(l.dir, "privyseal.db"), map[string][]byte{}
	for _, part := range []string{"", "-wal"} {
		if content, err := os.ReadFile(db + part); err == nil {
			copied[db+part] = content
		}
	}
	if len(copied[db]) == 0 {
		t.Fatal("there is no database")
	}
	return func() {
		for _, part := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(db + part)
		}
		for name, content := range copied {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func failing(h api.Health, name, remedy string) bool {
	i := indexCheck(h, name)
	return i >= 0 && h.Checks[i].State == "failed" && strings.Contains(h.Checks[i].Remedy, remedy)
}

// TestFT1_AnOlderDatabase: what the list on disk revokes stays revoked when an older
// database is put back, and what the state folder saw of the audit record is missed,
// until an operator settles both.
func TestFT1_AnOlderDatabase(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	l := newLab(t)
	r := l.serve(t)
	stolen, good := l.newDevice(t, "device-1"), l.newDevice(t, "device-2")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	restore := l.backUp(t)
	r = l.serve(t)
	later := l.newDevice(t, "device-3")
	l.compromise(t, stolen)
	l.compromise(t, later)
	if _, err := api.PublishCRLs.Call(t.Context(), l.client(), api.IssuerRef{Issuer: "dev-a-1"}, api.PublishRequest{}); err != nil {
		t.Fatal(err)
	}
	if status, h := l.readyz(t); status != http.StatusOK || h.State != "ok" {
		t.Fatalf("before: %d %+v", status, h)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	restore()

	r = l.serve(t)
	look := func() {
		t.Helper()
		for d, want := range map[*device]string{stolen: "revoked", later: "revoked", good: "good"} {
			if got := l.ocspOf(t, d); got != want {
				t.Errorf("OCSP says %s of %s, want %s", got, d.name, want)
			}
		}
		for d, renews := range map[*device]bool{stolen: false, later: false, good: true} {
			if _, err := l.enrol(t, d, ""); (err == nil) != renews {
				t.Errorf("renewal of %s: %v", d.name, err)
			}
		}
	}
	look()
	status, h := l.readyz(t)
	if status != http.StatusServiceUnavailable || !failing(h, "revocation lists", "crl recover dev-a-1") ||
		!failing(h, "audit record", "audit accept") {
		t.Errorf("readyz: %d %+v", status, h)
	}
	v := audit.Verifier{Store: r.server.store, Folder: new(audit.FolderIn(r.server.cfg.Load().State.Dir))}
	v.Keys = append(v.Keys, r.server.auditKey.Public())
	if report, err := v.Verify(t.Context()); err != nil || len(report.Findings) == 0 {
		t.Errorf("audit verify: %+v, %v", report, err)
	}

	done, err := api.RecoverRevocations.Call(t.Context(), l.client(), api.IssuerRef{Issuer: "dev-a-1"}, api.RecoverRequest{})
	if err != nil || done.Revoked != 1 || done.Entered != 1 {
		t.Errorf("recover: %+v, %v", done, err)
	}
	if _, h := l.readyz(t); failing(h, "revocation lists", "crl recover") || !failing(h, "audit record", "audit accept") {
		t.Errorf("recovered: %+v", h)
	}
	reason := api.AuditAcceptance{Reason: "the disk failed"}
	if found, err := api.AcceptAudit.Call(t.Context(), l.client(), api.None{}, reason); err != nil || found.Found == 0 {
		t.Errorf("accept: %+v, %v", found, err)
	}
	if _, err := api.PublishCRLs.Call(t.Context(), l.client(), api.IssuerRef{Issuer: "dev-a-1"}, api.PublishRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := api.AcceptAudit.Call(t.Context(), l.client(), api.None{}, reason); fault.Of(err) == nil {
		t.Error("accepted twice")
	}
	if status, h := l.readyz(t); status != http.StatusOK || h.State != "ok" {
		t.Errorf("settled: %d %+v", status, h)
	}
	if report, err := v.Verify(t.Context()); err != nil || len(report.Findings)+len(report.Warnings) > 0 || report.Accepted == 0 {
		t.Errorf("settled: %+v, %v", report, err)
	}
	look()
}
