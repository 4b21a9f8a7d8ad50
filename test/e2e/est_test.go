package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// estClient is curl and openssl, as the printed lines use them.
type estClient struct {
	*site
	dir string
}

// curl asks EST and returns the status, the header and what was written to the
// file "body".
func (c *estClient) curl(t *testing.T, path string, args ...string) (status, header string) {
	t.Helper()
	args = append([]string{
		"-sS", "--cacert", c.root(), "-o", "body", "-D", "-", "https://localhost:" + lab.Port(c.Addr.EST) + "/.well-known/est" + path,
	}, args...)
	header = execute(t, c.dir, nil, "curl", args...)
	fields := strings.Fields(header)
	if len(fields) < 2 {
		t.Fatalf("curl %s: %q", path, header)
	}
	return fields[1], header
}

// post sends a file as a request.
func (c *estClient) post(t *testing.T, path, file string, args ...string) (status, header string) {
	t.Helper()
	return c.curl(t, path, append([]string{"-H", "Content-Type: application/pkcs10", "--data-binary", "@" + file}, args...)...)
}

func (c *estClient) want(t *testing.T, what, got, status string) {
	t.Helper()
	if got != status {
		t.Errorf("%s: %s, want %s: %s", what, got, status, read(t, filepath.Join(c.dir, "body")))
	}
}

// certificate reads the bag in "body", keeps its only certificate as name.pem and
// has openssl verify it.
func (c *estClient) certificate(t *testing.T, name string) {
	t.Helper()
	execute(t, c.dir, nil, "openssl", "base64", "-d", "-A", "-in", "body", "-out", "bag")
	out := execute(t, c.dir, nil, "openssl", "pkcs7", "-inform", "DER", "-in", "bag", "-print_certs", "-out", name+".pem")
	if n := strings.Count(string(read(t, filepath.Join(c.dir, name+".pem"))), "BEGIN CERTIFICATE"); n != 1 {
		t.Fatalf("%d certificates, want one\n%s", n, out)
	}
	c.verify(t, name+".pem")
}

func (c *estClient) verify(t *testing.T, file string) {
	t.Helper()
	execute(t, c.dir, nil, "openssl", "verify", "-x509_strict", "-CAfile", c.root(), "-untrusted", filepath.Join(c.Dir, "chain.pem"), file)
}

func (c *estClient) serial(t *testing.T, name string) string {
	t.Helper()
	return execute(t, c.dir, nil, "openssl", "x509", "-noout", "-serial", "-in", name+".pem")
}

// request makes a key and a request for CN=name.
func (c *estClient) request(t *testing.T, name string) {
	t.Helper()
	execute(t, c.dir, nil, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", name+".key", "-out", name+".csr", "-subj", "/CN="+name)
}

// TestEST walks through every operation with curl and openssl.
func TestEST(t *testing.T) {
	need.Programs(t, "curl", "openssl")
	each(t, func(t *testing.T, l *site) {
		c := &estClient{l, t.TempDir()}
		user := "device:" + strings.TrimSpace(string(read(t, filepath.Join(l.Dir, "est-password"))))
		if info, err := os.Stat(filepath.Join(l.Dir, "est-password")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("est-password: %v %v", info.Mode(), err)
		}

		status, header := c.curl(t, "/cacerts")
		c.want(t, "cacerts", status, "200")
		wantText(t, header, "application/pkcs7-mime; smime-type=certs-only")
		execute(t, c.dir, nil, "openssl", "base64", "-d", "-A", "-in", "body", "-out", "bag")
		if out := execute(t, c.dir, nil, "openssl", "pkcs7", "-inform", "DER", "-in", "bag", "-print_certs"); strings.Count(out, "BEGIN CERTIFICATE") != 2 {
			t.Errorf("cacerts:\n%s", out)
		}
		status, _ = c.curl(t, "/csrattrs")
		c.want(t, "csrattrs", status, "200")
		execute(t, c.dir, nil, "openssl", "base64", "-d", "-A", "-in", "body", "-out", "attrs")
		wantText(t, execute(t, c.dir, nil, "openssl", "asn1parse", "-inform", "DER", "-in", "attrs"), "Extension Request")

		c.request(t, "device-1")
		status, _ = c.post(t, "/simpleenroll", "device-1.csr", "-u", user)
		c.want(t, "simpleenroll with a password", status, "200")
		c.certificate(t, "device-1")
		own := []string{"--cert", "device-1.pem", "--key", "device-1.key"}
		seen := map[string]bool{c.serial(t, "device-1"): true}
		for _, path := range []string{"/simpleenroll", "/simplereenroll", "/simplereenroll"} {
			status, _ = c.post(t, path, "device-1.csr", own...)
			c.want(t, path+" with a certificate", status, "200")
			c.certificate(t, "device-1")
			seen[c.serial(t, "device-1")] = true
		}
		if len(seen) != 4 {
			t.Errorf("%d different certificates, want 4", len(seen))
		}
		c.keygen(t, user)
		c.refusals(t, user, own)
		c.oneTime(t)
	})
}

// keygen asks for a key and looks whether it belongs to the certificate.
func (c *estClient) keygen(t *testing.T, user string) {
	t.Helper()
	status, _ := c.post(t, "/serverkeygen", "device-1.csr", "-u", user)
	c.want(t, "serverkeygen", status, "200")
	parts := regexp.MustCompile(`(?s)\r\n\r\n(.*?)\r\n--`).FindAllStringSubmatch(string(read(t, filepath.Join(c.dir, "body"))), -1)
	if len(parts) != 2 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, name := range []string{"made.b64", "body"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(parts[i][1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.certificate(t, "made")
	execute(t, c.dir, nil, "openssl", "base64", "-d", "-A", "-in", "made.b64", "-out", "made.der")
	key := execute(t, c.dir, nil, "openssl", "pkey", "-inform", "DER", "-in", "made.der", "-pubout")
	if public := execute(t, c.dir, nil, "openssl", "x509", "-in", "made.pem", "-noout", "-pubkey"); key != public {
		t.Errorf("the key is not the certificate's:\n%s%s", key, public)
	}
}

// refusals are the answers to what is not allowed.
func (c *estClient) refusals(t *testing.T, user string, own []string) {
	t.Helper()
	c.request(t, "somebody-else")
	status, header := c.post(t, "/simpleenroll", "device-1.csr")
	c.want(t, "nobody", status, "401")
	wantText(t, strings.ToLower(header), "www-authenticate: basic realm=", "text/plain")
	status, _ = c.post(t, "/simpleenroll", "device-1.csr", "-u", "device:wrong")
	c.want(t, "a wrong password", status, "401")
	status, _ = c.post(t, "/simplereenroll", "device-1.csr", "-u", user)
	c.want(t, "renewal without a certificate", status, "403")
	status, _ = c.post(t, "/simplereenroll", "somebody-else.csr", own...)
	c.want(t, "renewal for somebody else", status, "403")
	status, _ = c.curl(t, "/no-such-label/cacerts")
	c.want(t, "a label that is not there", status, "404")
	status, header = c.curl(t, "/simpleenroll")
	c.want(t, "GET simpleenroll", status, "405")
	wantText(t, header, "Allow: POST")
	status, _ = c.curl(t, "/simpleenroll", "-u", user, "-H", "Content-Type: application/json", "--data-binary", "@device-1.csr")
	c.want(t, "another type", status, "415")
	if err := os.WriteFile(filepath.Join(c.dir, "big"), []byte(strings.Repeat("A", 64<<10+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _ = c.post(t, "/simpleenroll", "big", "-u", user)
	c.want(t, "too much", status, "413")

	c.operate(t, "cert", "revoke", strings.ToLower(strings.TrimSpace(strings.TrimPrefix(c.serial(t, "device-1"), "serial="))), "--reason", "superseded")
	status, _ = c.post(t, "/simplereenroll", "device-1.csr", own...)
	c.want(t, "renewal of a revoked certificate", status, "403")
}

// oneTime uses a password that is good for one certificate: a refusal does not use
// it up, a certificate does, and the same request again is answered.
func (c *estClient) oneTime(t *testing.T) {
	t.Helper()
	out := c.operate(t, "est", "user", "add", "once", "--name", "device-2", "--name", "device-3", "--profile", "device",
		"--uses", "1", "--expires", "24h")
	m := regexp.MustCompile(`\b[a-z2-9]{26}\b`).FindString(out)
	if m == "" {
		t.Fatalf("no password in:\n%s", out)
	}
	user := "once:" + m
	if err := os.WriteFile(filepath.Join(c.dir, "junk"), []byte("AAAA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, _ := c.post(t, "/simpleenroll", "junk", "-u", user)
	c.want(t, "junk", status, "400")
	c.request(t, "device-2")
	for range 2 {
		status, _ = c.post(t, "/simpleenroll", "device-2.csr", "-u", user)
		c.want(t, "the one use", status, "200")
		c.certificate(t, "device-2")
	}
	c.request(t, "device-3")
	status, _ = c.post(t, "/simpleenroll", "device-3.csr", "-u", user)
	c.want(t, "a second use", status, "403")
}
