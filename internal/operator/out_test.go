package operator_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/admin/admintest"
)

// What --out names stays what it is: a link goes on pointing to the file that is
// written, a device is written to.
func TestFS20_Out(t *testing.T) {
	t.Parallel()
	s := admintest.Start(t, nil, "web-a-1")
	dir := t.TempDir()
	csr := filepath.Join(dir, "csr.pem")
	text := admintest.CSROf(t, &x509.CertificateRequest{DNSNames: []string{"www.a.test"}})
	if err := os.WriteFile(csr, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct { // in turn: what is issued is exported
		name, want string
		args       []string
	}{
		{"issue", "-----BEGIN CERTIFICATE-----", []string{"cert", "issue", "--profile", "tls-server", "--csr", csr}},
		{"export", "# web-a-1 ", []string{"cert", "export", "--format", "pem"}},
		{"hierarchy", "{", []string{"hierarchy", "export", "web-a-1"}},
	} {
		name, args := c.name, c.args
		for to, want := range map[string]string{os.DevNull: "", name + "-file": c.want} {
			link := filepath.Join(dir, name+"-link-"+filepath.Base(to)) // never the device itself: the tests run as root
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
			cmd := root()
			var said bytes.Buffer
			cmd.SetOut(&said)
			cmd.SetErr(&said)
			cmd.SetArgs(append(args, "--socket", s.Socket, "--out", link))
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				t.Errorf("%s to %s: %v\n%s", name, to, err, said.String())
				continue
			}
			if now, err := os.Readlink(link); err != nil || now != to {
				t.Errorf("%s: the link to %s was replaced: %q, %v", name, to, now, err)
				continue
			}
			if text, err := os.ReadFile(link); err != nil || !strings.HasPrefix(string(text), want) {
				t.Errorf("%s to %s: %.40q, %v", name, to, text, err)
			}
		}
	}
}
