package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/est"
)

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
	if _, err := api.ReloadConfig.Call(context.Background(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	if a, b := status("/.well-known/est/cacerts"), status("/.well-known/est/plant-4/cacerts"); a != 404 || b != 200 {
		t.Errorf("without label %d, with it %d", a, b)
	}
	l.change(t, "label: plant-4", "label: fullcmc")
	if _, err := api.ReloadConfig.Call(context.Background(), l.client(), api.None{}, api.None{}); err == nil {
		t.Error("a label that is an operation was taken")
	}
	if got := status("/.well-known/est/plant-4/cacerts"); got != 200 {
		t.Errorf("after a refused reload: %d", got)
	}
	if got := status("/elsewhere"); got != 404 {
		t.Errorf("outside of EST: %d", got)
	}
}
