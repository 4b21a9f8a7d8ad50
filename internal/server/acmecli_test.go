package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/test/acmeclient"
)

// acmeClient returns a client at the endpoint eab of the lab's server.
func (l *lab) acmeClient(t *testing.T, responder *acmeclient.Responder) *acmeclient.Client {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	_, port, _ := strings.Cut(l.addr.https, ":")
	c, err := acmeclient.New(t.Context(), &http.Client{Transport: transport},
		"https://localhost:"+port+"/acme/eab/directory", responder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func certify(t *testing.T, c *acmeclient.Client, name string) error {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Certify(t.Context(), key, func(string, time.Duration) {}, name)
	return err
}

// readJSON runs a command with --json and reads what it prints.
func readJSON[T any](t *testing.T, l *lab, args ...string) (v T) {
	t.Helper()
	text := l.must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

var shBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestFS18_StolenAccount does what docs/acme-accounts.md says, with an account that a
// client has made and used. It also shows the operator why a validation failed (FR21).
func TestFS18_StolenAccount(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	responder, err := acmeclient.NewResponder("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = responder.Close() }()
	l.change(t, "http_port: 5002", fmt.Sprintf("http_port: %d", responder.Port()))
	l.serve(t)
	made := readJSON[api.EABKeySecret](t, l, "eab", "create", "--any-name", "--uses", "0")
	stolen, second := l.acmeClient(t, responder), l.acmeClient(t, responder)
	for _, c := range []*acmeclient.Client{stolen, second} {
		if err := c.RegisterBound(t.Context(), made.KID, made.HMAC); err != nil {
			t.Fatal(err)
		}
	}
	if err := certify(t, stolen, "www.a.localhost"); err != nil {
		t.Fatal(err)
	}
	if err := l.failing(t, made); err == nil {
		t.Fatal("a name without an answer was proved")
	}
	cert := readJSON[api.CertificatePage](t, l, "cert", "list", "--name", "www.a.localhost").Certificates[0]
	account, found := strings.CutPrefix(cert.Requester, "account:")
	failed := readJSON[api.ACMEAuthorizationPage](t, l, "acme", "authorization", "list", "--name", "wrong.localhost")
	if !found || len(failed.Authorizations) != 1 {
		t.Fatalf("%+v, %+v", cert, failed)
	}
	shown := l.follow(t, strings.NewReplacer("account:ACCOUNT", cert.Requester, "ACCOUNT", account, "KID", made.KID,
		"AUTHORIZATION", failed.Authorizations[0].ID))
	checkShown(t, shown, made.KID, account, cert.Serial)
	for who, c := range map[string]*acmeclient.Client{"stolen": stolen, "of the same EAB key": second} {
		var p *acmeclient.Problem
		if err := certify(t, c, "www.a.localhost"); !errors.As(err, &p) || !strings.Contains(p.Detail, "revoked") {
			t.Errorf("%s: %v", who, err)
		}
	}
	if now := readJSON[api.Certificate](t, l, "cert", "show", cert.ID); now.Status != api.StatusRevoked {
		t.Errorf("the certificate is %s", now.Status)
	}
	for _, want := range []string{"account.revoked", "blocked_key_sha256", `"actor":"uid:`} {
		if text := readEvents(t, l); !strings.Contains(text, want) {
			t.Errorf("the audit record has no %s: %s", want, text)
		}
	}
}

// checkShown looks for what the page's commands have to print.
func checkShown(t *testing.T, shown func(string) string, kid, account, serial string) {
	t.Helper()
	for command, want := range map[string][]string{
		"acme order list --status invalid --name wrong.localhost": {" invalid +http_status +eab "},
		"acme authorization show": {`(?m)^ +tried +127\.0\.0\.1$`, `(?m)^ +resolved +127\.0\.0\.1$`,
			`(?m)^expected at +http://wrong\.localhost/\.well-known/acme-challenge/`, `(?m)^expected +\S+\.\S{43}$`},
		"acme account list --eab-key":                      {account},
		"acme account list --name www.a.localhost":         {account + " +valid"},
		"acme account list --address":                      {account},
		"acme account show":                                {`(?m)^key hash +[0-9a-f]{64}$`, `orders +1 valid`, serial},
		"acme account deactivate":                          {"^revoked " + account},
		"cert list --requester":                            {serial},
		"eab disable":                                      {"; accounts revoked: 2"},
		"acme account list --eab-key " + kid + " --status": {`^ID[^\n]*\n$`},
	} {
		for _, w := range want {
			if out := shown(command); !regexp.MustCompile(w).MatchString(out) {
				t.Errorf("%s prints no %q:\n%s", command, w, out)
			}
		}
	}
}

// failing is an account whose validation of wrong.localhost fails.
func (l *lab) failing(t *testing.T, key api.EABKeySecret) error {
	t.Helper()
	silent, err := acmeclient.NewResponder("127.0.0.1:0") // not where the server asks
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	c := l.acmeClient(t, silent)
	if err := c.RegisterBound(t.Context(), key.KID, key.HMAC); err != nil {
		t.Fatal(err)
	}
	return certify(t, c, "wrong.localhost")
}

// follow runs the page's commands and returns what the first that contains a text printed.
func (l *lab) follow(t *testing.T, values *strings.Replacer) func(string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/acme-accounts.md")
	if err != nil {
		t.Fatal(err)
	}
	var ran, printed []string
	for _, b := range shBlock.FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(b[1]) {
			command := strings.TrimSpace(strings.TrimPrefix(values.Replace(line), "privyseal "))
			ran, printed = append(ran, command), append(printed, l.must(t, strings.Fields(command)...))
		}
	}
	return func(text string) string {
		for i, command := range ran {
			if strings.Contains(command, text) {
				return printed[i]
			}
		}
		t.Errorf("the page has no %q", text)
		return ""
	}
}

func readEvents(t *testing.T, l *lab) string {
	t.Helper()
	client := l.client()
	defer client.Close()
	page, err := api.ListAuditEvents.Call(t.Context(), client, api.PageParams{}, api.None{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
