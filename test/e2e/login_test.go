package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/login/logintest"
	"github.com/privyseal/privyseal/test/lab"
)

// laptop is somebody's machine: a configuration folder of its own, and no socket.
type laptop struct {
	*testing.T
	home     string
	url      string
	provider *logintest.Provider
}

func (l *laptop) run(args ...string) (string, error) {
	l.Helper()
	return attempt(l, l.home, []string{"XDG_CONFIG_HOME=" + l.home, "PRIVYSEAL_SOCKET=", "PATH=" + os.Getenv("PATH")}, binary, args...)
}

func (l *laptop) must(args ...string) string {
	l.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.Fatalf("privyseal %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// login logs in by the browser as somebody, with what may be said beside the URL.
func (l *laptop) login(sub string, more ...string) string {
	l.Helper()
	cmd := exec.CommandContext(l.Context(), binary, append([]string{"login", l.url, "--no-browser"}, more...)...)
	cmd.Dir, cmd.Env = l.home, append(os.Environ(), "XDG_CONFIG_HOME="+l.home)
	said, err := cmd.StderrPipe()
	noError(l, err)
	noError(l, cmd.Start())
	var all strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		if authorize, ok := strings.CutPrefix(lines.Text(), "Log in here: "); ok {
			back := l.provider.Browse(l, authorize, sub)
			get(l, back.String())
		}
	}
	if err := cmd.Wait(); err != nil {
		l.Fatalf("login: %v\n%s", err, all.String())
	}
	return all.String()
}

func get(t testing.TB, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	noError(t, err)
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	noError(t, err)
	noError(t, resp.Body.Close())
}

var fingerprint = regexp.MustCompile(`login --root ([0-9a-f]{64})`)

// trusted is the fingerprint that the server itself says to trust.
func trusted(t testing.TB, h *house) string {
	t.Helper()
	out, _ := h.try(t, "status") // which may warn of other things
	m := fingerprint.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("status prints no fingerprint:\n%s", out)
	}
	return m[1]
}

// A person logs in from a laptop: first at a server that has a self-signed certificate,
// then at one that an issuer of its own certifies.
func TestLogin(t *testing.T) {
	t.Parallel()
	provider := logintest.Start(t)
	provider.Person("ann-1", "ann@example.test", nil)
	h := newHouse(t, "", []string{"root-1"}, "web-1")
	addr := freeAddresses(t).HTTPS
	configure := func(tls string) {
		text := string(read(t, h.config()))
		text, _, _ = strings.Cut(text, "  https_admin:")
		text += fmt.Sprintf(`  https_admin: {addr: '%s'%s}
access:
  certificate_name: certificate.localhost
  certificates:
    - {name: staff, issuer: web-1, subject: email}
  oidc:
    - {name: corp, issuer: '%s', client_id: %s, ca: '%s'}
`,
			addr, tls, provider.Issuer, logintest.ClientID, provider.CA)
		noError(t, os.WriteFile(h.config(), []byte(text), 0o600))
	}
	configure("")
	h.start(t)
	l := &laptop{T: t, home: t.TempDir(), url: "https://localhost:" + lab.Port(addr), provider: provider}

	self := trusted(t, h)
	out, err := l.run("login", l.url)
	if err == nil || !strings.Contains(out, self) || !strings.Contains(out, "is not trusted") {
		t.Errorf("an unknown server: %v\n%s", err, out)
	}
	if out, err := l.run("login", l.url, "--root", strings.Repeat("0", 64)); err == nil || !strings.Contains(out, self) {
		t.Errorf("another root: %v\n%s", err, out)
	}
	if said := l.login("ann-1", "--root", self); !strings.Contains(said, "own self-signed certificate") {
		t.Errorf("login does not say what it trusts:\n%s", said)
	}
	file := filepath.Join(l.home, "privyseal", "contexts.json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the session is kept with %v, %v", info.Mode(), err)
	}
	l.login("ann-1") // the root is known
	if out := l.must("context", "list"); !strings.Contains(out, "*") || strings.Contains(out, "pvs_") {
		t.Errorf("contexts:\n%s", out)
	}

	// An issuer certifies the listener: what was trusted is so no more, and says what is.
	configure(", tls: {issuer: web-1, names: [localhost]}")
	h.operate(t, "config", "reload")
	root := trusted(t, h)
	if root == self {
		t.Fatal("the listener still has its own certificate")
	}
	if out, err := l.run("status"); err == nil || !strings.Contains(out, root) {
		t.Errorf("after the change: %v\n%s", err, out)
	}
	if said := l.login("ann-1", "--root", root); !strings.Contains(said, "by the CA") {
		t.Errorf("login does not say what it trusts:\n%s", said)
	}
	authority(t, h, l)
	byCertificate(t, h, l)
	l.must("logout")
	if out, err := l.run("status"); err == nil {
		t.Errorf("after logout:\n%s", out)
	}
	l.must("context", "use", "local")
	if out, err := l.run("context", "use", "nowhere"); err == nil {
		t.Errorf("an unknown context:\n%s", out)
	}
}

// authority is what a login may and may not.
func authority(t *testing.T, h *house, l *laptop) {
	t.Helper()
	var kept struct {
		Contexts []struct{ Token, Caller string }
	}
	noError(t, json.Unmarshal(read(t, filepath.Join(l.home, "privyseal", "contexts.json")), &kept))
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the server is not in question
	for path, want := range map[string]int{"/v1/login": 200, "/v1/login/none": 404, "/v1/version": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.url+path, nil)
		noError(t, err)
		resp, err := insecure.Do(req)
		noError(t, err)
		noError(t, resp.Body.Close())
		if resp.StatusCode != want {
			t.Errorf("GET %s without a session: %s", path, resp.Status)
		}
	}
}

// byCertificate logs in by a certificate of the server's own, before and after it is
// renewed, and not any more when it was revoked.
func byCertificate(t *testing.T, h *house, l *laptop) {
	t.Helper()
	issue := func(name, profile string) (serial string) {
		out := h.operate(t, "cert", "issue", "--profile", profile, "--name", "email:bob@example.test", "--subject", "CN=Bob",
			"--key-out", filepath.Join(l.home, name+".key"), "--out", filepath.Join(l.home, name+".pem"))
		_, rest, _ := strings.Cut(out, "issued ")
		serial, _, _ = strings.Cut(rest, " ")
		return serial
	}
	with := func(name string) (string, error) {
		return l.run("login", l.url, "--cert", name+".pem", "--key", name+".key")
	}
	first := issue("first", "operator")
	issue("renewed", "operator")
	issue("mail", "user")
	for _, name := range []string{"first", "renewed"} {
		if out, err := with(name); err != nil || !strings.Contains(out, "certificate:staff#bob@example.test") {
			t.Errorf("by %s: %v\n%s", name, err, out)
		}
	}
	if out, err := with("mail"); err == nil || !strings.Contains(out, "certificate_other_profile") {
		t.Errorf("by a certificate of another profile: %v\n%s", err, out)
	}
	h.operate(t, "cert", "revoke", first, "--reason", "keyCompromise")
	if out, err := with("first"); err == nil || !strings.Contains(out, "certificate_revoked") {
		t.Errorf("by a certificate that was revoked: %v\n%s", err, out)
	}
}
