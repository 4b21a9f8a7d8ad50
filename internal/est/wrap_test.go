package est

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/test/need"
)

// TestFR18_Wrap: answers are one line, which strongSwan wants, or lines of 64
// characters, which libest wants, as the endpoint or the User-Agent says.
func TestFR18_Wrap(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for wrap, byAgent := range map[string]map[string]bool{
		"": {
			"libest 3.2.0p": true, "libest client 1.0": true, "Cisco EST client 2.0 with BRSKI": true,
			"": false, "curl/8": false,
		},
		WrapAuto:   {"libest 3.2.0p": true, "my libest": false},
		WrapAlways: {"libest 3.2.0p": true, "": true},
		WrapNever:  {"libest 3.2.0p": false, "": false},
	} {
		err := e.server.Swap(Config{Endpoints: []Endpoint{{
			Name: "e", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthEither, WrapBase64: wrap, Keygen: true,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		for agent, wrapped := range byAgent {
			d := e.withPassword(t, credential.NewESTUser{Name: "d" + wrap + fmt.Sprint(len(agent))})
			csr := encodeBody(newCSR(t, issuancetest.NewKey(t), "one"))
			for _, r := range []*response{
				d.do(t, http.MethodGet, "/cacerts", nil, "User-Agent", agent),
				d.do(t, http.MethodPost, "/simpleenroll", csr, "Content-Type", typePKCS10, "User-Agent", agent),
			} {
				longest := 0
				for line := range bytes.Lines(r.body) {
					longest = max(longest, len(line)-1)
				}
				if r.code != 200 || !bytes.HasSuffix(r.body, []byte("\n")) || wrapped != (longest == lineWidth) {
					t.Errorf("%q, %q: %d, longest line %d, wrapped %v", wrap, agent, r.code, longest, wrapped)
				}
				if _, err := decodeBody(r.body); err != nil {
					t.Error(err)
				}
			}
			r := d.do(t, http.MethodPost, "/serverkeygen", csr, "Content-Type", typePKCS10, "User-Agent", agent)
			if lines := strings.Count(string(r.body), "\r\n"); r.code != 200 || wrapped != (lines > 20) ||
				strings.Count(string(r.body), "\n") != lines {
				t.Errorf("%q, %q: serverkeygen: %d, %d lines", wrap, agent, r.code, lines)
			}
		}
	}
	if err := (Endpoint{Name: "e", Issuer: "ca", Profiles: []string{"device"}, WrapBase64: "yes"}).Check(); err == nil {
		t.Error("wrap_base64: yes is taken")
	}
}

// TestFR18_OpenSSLReadsWrapped: the decoder of OpenSSL, which libest uses, finds nothing
// in one long line, and everything in wrapped ones.
func TestFR18_OpenSSLReadsWrapped(t *testing.T) {
	t.Parallel()
	need.Programs(t, "openssl")
	want := bytes.Repeat([]byte{1, 2, 3}, 1000)
	ep := &endpoint{Endpoint: Endpoint{WrapBase64: WrapAlways}}
	r := &http.Request{Header: http.Header{}}
	file := filepath.Join(t.TempDir(), "b64")
	if err := os.WriteFile(file, ep.encode(r, want), 0o600); err != nil {
		t.Fatal(err)
	}
	decode := exec.CommandContext(t.Context(), "openssl", "base64", "-d", "-in", file) //nolint:gosec // of this test
	got, err := decode.Output()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d octets of %d, %v", len(got), len(want), err)
	}
}

// TestFR18_Spelling: on the wire the header has the letters that libest compares.
func TestFR18_Spelling(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	addr := strings.TrimPrefix(e.web.URL, "https://")
	d := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // for the spelling
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func(c net.Conn) { _ = c.Close() }(c)
	body := encodeBody(newCSR(t, issuancetest.NewKey(t), "one"))
	_, err = fmt.Fprintf(c, "POST %s/simpleenroll HTTP/1.0\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		base, typePKCS10, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for lines := bufio.NewScanner(c); lines.Scan(); {
		found = found || strings.HasPrefix(lines.Text(), `WWW-Authenticate: Basic realm="`)
	}
	if !found {
		t.Error("the challenge is not spelled WWW-Authenticate")
	}
}
