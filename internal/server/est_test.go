package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/est"
)

// TestCheckEST changes one thing of dev's EST endpoint and reads what check says.
func TestCheckEST(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ to, key, what string }{
		"label of an operation": {"est:\n      label: cacerts", "endpoints[2].est", "name of an operation"},
		"label of two segments": {"est:\n      label: a/b", "endpoints[2].est.label", "lower-case"},
		"unknown way":           {"est:\n      auth: biometric", "endpoints[2].est", "want one of either, both"},
		"unknown names":         {"est:\n      own_names: some", "endpoints[2].est", "want one of same, serial, any"},
		"unknown key rule":      {"est:\n      renew_key: old", "endpoints[2].est", "want one of any, new, same"},
		"unknown challenge":     {"est:\n      challenge_password: otp", "endpoints[2].est", "want one of binding"},
		"negative grace":        {"est:\n      grace: -1h", "endpoints[2].est", "negative"},
		"missing anchors":       {"est:\n      anchors: gone.pem", "endpoints[2].est", "gone.pem"},
		"anchors that are none": {"est:\n      anchors: root.crl", "endpoints[2].est", "parse chain"},
		"missing rollover":      {"est:\n      rollover: gone.pem", "endpoints[2].est", "gone.pem"},
		"unknown profile":       {"est:\n      accept_profiles: [devise]", "endpoints[2].est.accept_profiles[0]", `did you mean "device"?`},
		"RA without cmcRA":      {"est:\n      ra_profiles: [device]", "endpoints[2].est.ra_profiles[0]", "lacks the extended key usage cmcRA"},
		"account rule":          {"external_account: optional\n    est:\n      label: x", "endpoints[2].external_account", "only ACME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.change(t, "est:\n      serverkeygen: true", tc.to)
			_, err := load(l.file())
			if err == nil || !strings.Contains(err.Error(), tc.key) || !strings.Contains(err.Error(), tc.what) {
				t.Errorf("got %v", err)
			}
		})
	}
	l := newLab(t)
	l.write(t, l.read(t)+"profiles:\n  vetted: {approval: true, subject: {fields: [{attribute: CN}]}, ext_key_usage: [clientAuth]}\n")
	l.change(t, "      - device\n    est:", "      - device\n      - vetted\n    est:")
	if _, err := load(l.file()); err == nil || !strings.Contains(err.Error(), "endpoints[2].est.serverkeygen") {
		t.Errorf("serverkeygen with approval: %v", err)
	}
	l = newLab(t)
	l.change(t, "external_account: optional", "external_account: optional\n    est:\n      label: x")
	if _, err := load(l.file()); err == nil || !strings.Contains(err.Error(), "only for protocol est") {
		t.Errorf("EST options of an ACME endpoint: %v", err)
	}
	l = newLab(t)
	l.change(t, "est:\n      serverkeygen: true", "est:\n      serverkeygen: true\n      grace: 720h\n      anchors: root.pem\n      rollover: root.pem\n      label: plant-4")
	cfg, err := load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	c, err := cfg.est()
	if err != nil || len(c.Endpoints) != 1 || len(c.Endpoints[0].Anchors) != 1 || len(c.Endpoints[0].Rollover) != 1 || c.Endpoints[0].Grace.Hours() != 720 {
		t.Errorf("%+v %v", c, err)
	}
}

// TestEST_E9_ServerCertificate: the listener's certificate says that it is an EST
// server, where the issuer can sign that, and TLS asks for a client certificate.
func TestEST_E9_ServerCertificate(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	asked := false
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}}}
	c, err := d.DialContext(t.Context(), "tcp", l.addr.est)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	state := c.(*tls.Conn).ConnectionState()
	leaf := state.PeerCertificates[0]
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, func(o asn1.ObjectIdentifier) bool { return est.IsRA(o) }) ||
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		t.Errorf("extended key usages %v %v", leaf.ExtKeyUsage, leaf.UnknownExtKeyUsage)
	}
	if !asked || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("asked for a certificate: %v; protocol %q", asked, state.NegotiatedProtocol)
	}
}

// TestESTServerProfileFits: an issuer that may not sign cmcRA still gets its EST
// listener a certificate.
func TestESTServerProfileFits(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cfg, err := load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listeners.EST.TLS.Profile != estServerProfile || cfg.Listeners.HTTPS.TLS.Profile != serverProfile {
		t.Errorf("profiles %q %q", cfg.Listeners.EST.TLS.Profile, cfg.Listeners.HTTPS.TLS.Profile)
	}
	l.change(t, "profiles:\n", "profiles:\n") // the file is as it was
	text := strings.Replace(l.read(t), "endpoints:\n", "profiles:\n  est-server:\n    ext_key_usage: [serverAuth, ipsecIKE]\n    san: {dns: {}, min: 1}\nendpoints:\n", 1)
	l.write(t, text)
	cfg, err = load(l.file())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listeners.EST.TLS.Profile != serverProfile {
		t.Errorf("profile %q does not nest in the issuer", cfg.Listeners.EST.TLS.Profile)
	}
}

// TestDevMakesItsESTUserOnce and keeps the password.
func TestDevMakesItsESTUserOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := &devOptions{dir: l.dir}
	file := filepath.Join(l.dir, estPasswordFile)
	start := func() *running { return l.serveWith(t, o.makeESTUser) }
	if err := start().stop(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || len(bytes.TrimSpace(first)) < 20 {
		t.Errorf("%v %v, %d octets", info.Mode(), err, len(first))
	}
	if err := start().stop(); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, first) {
		t.Errorf("the password changed: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r := start()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(r.log.String(), "in no file any more") {
		t.Errorf("%v\n%s", err, r.log)
	}
}

// TestReloadOfEST puts a label in force, and leaves everything as it was when the
// file is wrong.
func TestReloadOfEST(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.serve(t)
	_, port, _ := strings.Cut(l.addr.est, ":")
	status := func(path string) int {
		res, _ := l.get(t, "https://localhost:"+port+path)
		return res.StatusCode
	}
	l.change(t, "est:\n      serverkeygen: true", "est:\n      label: plant-4")
	if _, err := l.client().Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if a, b := status("/.well-known/est/cacerts"), status("/.well-known/est/plant-4/cacerts"); a != 404 || b != 200 {
		t.Errorf("without label %d, with it %d", a, b)
	}
	l.change(t, "label: plant-4", "label: fullcmc")
	if _, err := l.client().Reload(context.Background()); err == nil {
		t.Error("a label that is an operation was taken")
	}
	if got := status("/.well-known/est/plant-4/cacerts"); got != 200 {
		t.Errorf("after a refused reload: %d", got)
	}
	if got := status("/"); got != 404 {
		t.Errorf("outside of EST: %d", got)
	}
}
