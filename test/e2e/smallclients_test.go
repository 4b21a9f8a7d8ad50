package e2e

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/privyseal/privyseal/test/need"
)

// webroot serves a folder where http-01 looks.
func webroot(t *testing.T, addr, dir string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
}

func TestACMETiny(t *testing.T) {
	need.Programs(t, "acme-tiny", "openssl")
	each(t, func(t *testing.T, l *site) {
		dir := t.TempDir()
		www := filepath.Join(dir, "www")
		tokens := filepath.Join(www, ".well-known", "acme-challenge")
		if err := os.MkdirAll(tokens, 0o755); err != nil {
			t.Fatal(err)
		}
		webroot(t, l.Addr.HTTP01, www)
		execute(t, dir, nil, "openssl", "genrsa", "-out", "acct.key", "2048")
		execute(t, dir, nil, "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "a.key", "-out", "a.csr",
			"-subj", "/CN=tiny.lab.test", "-addext", "subjectAltName=DNS:tiny.lab.test,DNS:tiny2.lab.test")
		env := []string{"SSL_CERT_FILE=" + l.root()}
		execute(t, dir, env, "sh", "-c", `exec acme-tiny --account-key acct.key --csr a.csr --acme-dir "$1" --directory-url "$2" --disable-check >chain.pem`,
			"sh", tokens, l.Directory("default"))
		l.checkChain(t, read(t, filepath.Join(dir, "chain.pem")), "tiny.lab.test", "tiny2.lab.test")
	})
}

// uacmeHook answers http-01 from a web root (arguments: method, type,
// identifier, token, key authorization) and declines everything else.
const uacmeHook = `#!/bin/sh
[ "$2" = http-01 ] || exit 1
case "$1" in
begin) printf %s "$5" >"$UACME_CHALLENGE_PATH/$4" ;;
done|failed) rm -f "$UACME_CHALLENGE_PATH/$4" ;;
esac
`

// TestUACME: uacme reads the system's list of roots and no other, so it runs in
// a mount namespace where that list is ours.
func TestUACME(t *testing.T) {
	need.Programs(t, "uacme", "openssl")
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	if runtime.GOOS != "linux" {
		t.Skip("uacme's roots can only be replaced on Linux")
	}
	need.Programs(t, "unshare")
	unshare := []string{"-m"}
	if os.Getuid() != 0 {
		unshare = []string{"-rm"}
	}
	if out, err := attempt(t, "/", nil, "unshare", append(unshare, "sh", "-c", "mount --bind /dev/null "+bundle)...); err != nil {
		t.Skipf("no mount namespace here: %v %s", err, out)
	}
	each(t, func(t *testing.T, l *site) {
		dir := t.TempDir()
		tokens := filepath.Join(dir, "www", ".well-known", "acme-challenge")
		if err := os.MkdirAll(tokens, 0o755); err != nil {
			t.Fatal(err)
		}
		webroot(t, l.Addr.HTTP01, filepath.Join(dir, "www"))
		hook := filepath.Join(dir, "hook")
		if err := os.WriteFile(hook, []byte(uacmeHook), 0o700); err != nil {
			t.Fatal(err)
		}
		uacme := func(args ...string) {
			t.Helper()
			script := `mount --bind "$1" ` + bundle + ` && shift && exec uacme "$@"`
			full := append(append([]string{}, unshare...), "sh", "-c", script, "sh", l.root(),
				"-v", "-y", "-c", filepath.Join(dir, "conf"), "-a", l.Directory("default"), "-h", hook)
			execute(t, dir, []string{"UACME_CHALLENGE_PATH=" + tokens}, "unshare", append(full, args...)...)
		}
		uacme("-t", "EC", "new", "u@lab.test")
		uacme("-t", "EC", "issue", "u.lab.test", "v.lab.test")
		cert := filepath.Join(dir, "conf", "u.lab.test", "cert.pem")
		l.checkChain(t, read(t, cert), "u.lab.test", "v.lab.test")
		uacme("newkey")
		uacme("revoke", cert)
		uacme("deactivate")
	})
}
