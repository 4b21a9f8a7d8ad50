package server

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ocsp"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/admin/admintest"
	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/operator"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

// cli runs an operator's command against the lab's server.
func (l *lab) cli(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "privyseal", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(operator.New(time.Now, os.Getenv).Groups()...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append(args, "--socket", l.dir))
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// must is cli for commands that have to succeed.
func (l *lab) must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := l.cli(t, args...)
	if err != nil {
		t.Fatalf("privyseal %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

var asked = regexp.MustCompile(`, is ([a-z0-9-]+\.csr):`)

// hold holds a ceremony as people would: they type the fingerprints of the
// requests, yes, and a passphrase.
func hold(t *testing.T, file string) {
	t.Helper()
	var out bytes.Buffer
	console := ceremony.Console{
		Out: &out, Clear: func() {},
		Secret: func() ([]byte, error) { return []byte("a long passphrase"), nil },
		Line: func() (string, error) {
			if !strings.HasSuffix(strings.TrimSpace(out.String()), "as its owner gave it to you:") {
				return "yes", nil
			}
			names := asked.FindAllStringSubmatch(out.String(), -1)
			text, err := os.ReadFile(filepath.Join(filepath.Dir(file), names[len(names)-1][1]))
			if err != nil {
				return "", err
			}
			block, _ := pem.Decode(text)
			return pki.Fingerprint(block.Bytes), nil
		},
	}
	o := ceremony.Options{Tool: "test", Program: os.Args[0]}
	if err := ceremony.Run(t.Context(), file, console, o, time.Now); err != nil {
		t.Fatalf("ceremony %s: %v\n%s", file, err, &out)
	}
}

// declare adds the lines that a plan has printed to the configuration, with a
// passphrase for each new key.
func (l *lab) declare(t *testing.T, printed string) {
	t.Helper()
	_, printed, _ = strings.Cut(printed, "issuers:\n")
	issuers, offline, _ := strings.Cut(printed, "offline:\n")
	offline, _, _ = strings.Cut(offline, "\n\n")
	l.change(t, "issuers:\n", "issuers:\n"+issuers)
	l.change(t, "offline:\n", "offline:\n"+offline)
	for _, m := range regexp.MustCompile(`file:(secrets/[a-z-]+)`).FindAllStringSubmatch(issuers, -1) {
		if err := os.WriteFile(filepath.Join(l.dir, m[1]), []byte(rand.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
}

// leafOf issues a certificate and writes it with its chain to a file.
func (l *lab) leafOf(t *testing.T, issuer, profile, name string) string {
	t.Helper()
	cert, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: profile, Issuer: issuer, CSR: admintest.CSR(t, name)})
	if err != nil {
		t.Fatalf("issue from %s: %v", issuer, err)
	}
	file := filepath.Join(l.dir, issuer+"-leaf.pem")
	if err := os.WriteFile(file, []byte(cert.Chain), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// verifies asks openssl about a certificate under a root.
func (l *lab) verifies(t *testing.T, file, root string, more ...string) bool {
	t.Helper()
	_, text := l.get(t, "http://"+l.addr.http+"/issuers/"+root+"/chain.pem")
	anchor := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(anchor, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"verify", "-CAfile", anchor, "-untrusted", file}, append(more, file)...)
	return exec.CommandContext(t.Context(), "openssl", args...).Run() == nil
}

const policyProfile = `profiles:
  corp-web:
    san: {dns: {}}
    key_usage: [digitalSignature]
    ext_key_usage: [serverAuth]
    policies: [1.3.6.1.4.1.99999.1.1]
`

// The manufacturer's three hierarchies come from one file, by the commands that
// docs/hierarchy.md names, with the ceremonies held over files in between; then one
// issuing CA is compromised and replaced (G2-26, G2-39, G1-06, G1-05).
func TestG2_26_G2_39_G1_05_TheManufacturer(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	l := newLab(t)
	l.change(t, "issuers:\n", policyProfile+"issuers:\n")
	h := l.serve(t).server
	text, err := os.ReadFile("../../deploy/hierarchies/manufacturer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, out := filepath.Join(l.dir, "manufacturer.yaml"), filepath.Join(l.dir, "ceremonies")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l.declare(t, l.must(t, "hierarchy", "apply", file))
	l.must(t, "hierarchy", "apply", file)
	for _, root := range []string{"bulb-root", "toaster-root", "corp-root"} {
		hold(t, filepath.Join(out, root, "ceremony.yaml"))
	}
	for range 2 { // applying again changes nothing
		if text := l.must(t, "hierarchy", "apply", file); !strings.Contains(text, "is as the file says") || strings.Contains(text, "Pending") {
			t.Fatalf("apply:\n%s", text)
		}
	}
	if text := l.must(t, "hierarchy", "lint"); strings.Contains(text, "error:") {
		t.Errorf("lint:\n%s", text)
	}
	if text := l.must(t, "hierarchy", "cost"); !strings.Contains(text, "corp-staff-a") {
		t.Errorf("cost:\n%s", text)
	}
	leaves := map[string]string{
		"bulb-root": l.leafOf(t, "bulb-a", "tls-client", "bulb.example.test"), "toaster-root": l.leafOf(t, "toaster-a", "tls-client", "toaster.example.test"),
		"corp-root": l.leafOf(t, "corp-web-a", "corp-web", "www.example.com"),
	}
	for root := range leaves { // G2-03: a leaf verifies only below its own root
		for of, leaf := range leaves {
			if l.verifies(t, leaf, root) != (root == of) {
				t.Errorf("a leaf of %s under %s: %v", of, root, root != of)
			}
		}
	}
	for policy, want := range map[string]bool{"1.3.6.1.4.1.99999.1.1": true, "1.3.6.1.4.1.99999.1.2": false} { // G1-06
		if l.verifies(t, leaves["corp-root"], "corp-root", "-policy", policy, "-explicit_policy") != want {
			t.Errorf("policy %s: %v", policy, !want)
		}
	}
	_, err = l.client().Issue(t.Context(), api.IssueRequest{Profile: "corp-web", Issuer: "corp-web-a", CSR: admintest.CSR(t, "www.example.org")})
	refused(t, err, 403, "name_constraints")
	l.drill(t, file, out, leaves["bulb-root"])
	h.holds(t)
}

// drill is G1-05: revoke the compromised issuing CA, bring a new one up, and see
// that clients refuse the old one's certificates and accept the new one's.
func (l *lab) drill(t *testing.T, file, out, old string) {
	t.Helper()
	folder := filepath.Join(out, "bulb-root")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next := "  - id: bulb-c\n    parent: bulb-root\n    subject: CN=Example Light Bulb CA C,O=Example Lighting,C=DE\n"
	if err := os.WriteFile(file, append(text, next...), 0o600); err != nil {
		t.Fatal(err)
	}
	l.change(t, "issuers:\n", "issuers:\n  - {id: bulb-c, key: 'file:keys/bulb-c.key', passphrase: file:secrets/bulb-a, subject: 'CN=Example Light Bulb CA C,O=Example Lighting,C=DE'}\n")
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	l.must(t, "issuer", "csr", "bulb-c", "--out", filepath.Join(folder, "bulb-c.csr"))
	drill := "name: compromise of bulb-a\nreason: its key was seen outside\nout: back\ncas:\n" +
		"  - {name: bulb-root, crl: 'http://x.test/crl/bulb-root.crl', ca_issuers: 'http://x.test/issuers/bulb-root.cer'}\nacts:\n" +
		"  - revoke: {ca: bulb-root, certificate: out/bulb-root/bulb-a.pem, reason: cACompromise}\n" +
		"  - sign-ca: {ca: bulb-root, csr: bulb-c.csr}\n  - crl: {ca: bulb-root}\n"
	if err := os.WriteFile(filepath.Join(folder, "drill.yaml"), []byte(drill), 0o600); err != nil {
		t.Fatal(err)
	}
	hold(t, filepath.Join(folder, "drill.yaml"))
	back := filepath.Join(folder, "back", "bulb-root")
	l.must(t, "crl", "import", filepath.Join(back, "ca.crl"))
	l.must(t, "issuer", "install", "bulb-c", "--certificate", filepath.Join(back, "bulb-c.pem"), "--transcript", filepath.Join(back, "transcript.json"))
	fresh := l.leafOf(t, "bulb-c", "tls-client", "bulb.example.test")
	l.must(t, "crl", "publish", "bulb-c")
	lists := filepath.Join(t.TempDir(), "lists.pem")
	var all []byte
	for _, name := range []string{"bulb-root", "bulb-a", "bulb-c"} {
		_, der := l.get(t, "http://"+l.addr.http+"/crl/"+name+".crl")
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	if err := os.WriteFile(lists, all, 0o600); err != nil {
		t.Fatal(err)
	}
	for leaf, want := range map[string]bool{old: false, fresh: true} {
		if l.verifies(t, leaf, "bulb-root", "-crl_check_all", "-CRLfile", lists) != want {
			t.Errorf("after the drill %s: %v", filepath.Base(leaf), !want)
		}
	}
}

// A CA below an online one is signed by this server, after another operator has
// approved: apply asks once, and installs what was approved (G2-23).
func TestG2_23_G2_39_ApplyBelowAnOnlineCA(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	policy := l.newIssuerBelow(t, l.root(t), "policy-1", ceremony.CASpec{PathLen: 1}, "")
	l.change(t, "issuers:\n", "issuers:\n"+policy+strings.TrimPrefix(secondIssuer, "issuers:\n"))
	h := l.serve(t).server
	file := filepath.Join(l.dir, "below.yaml")
	text := "name: below\ncas:\n  - {id: web-b, parent: policy-1, subject: 'CN=Web CA B,O=Privyseal Development', years: 5}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, stderr, err := l.cli(t, "hierarchy", "apply", file); err != nil || !strings.Contains(stderr, "web-b: waits for another operator") {
			t.Fatalf("apply: %v\n%s", err, stderr)
		}
	}
	page, err := api.ListRequests.Call(t.Context(), l.client(), api.ListRequestsParams{}, api.None{})
	if err != nil || len(page.Requests) != 1 {
		t.Fatalf("%d requests: %v", len(page.Requests), err)
	}
	if _, err := h.approvals.Approve(t.Context(), page.Requests[0].ID, approval.Actor{Name: "uid:4242"}); err != nil {
		t.Fatal(err)
	}
	if out := l.must(t, "hierarchy", "apply", file); !strings.Contains(out, "is as the file says") {
		t.Errorf("apply:\n%s", out)
	}
	l.leafOf(t, "web-b", "tls-server", "a.localhost")
	if out := l.must(t, "hierarchy", "lint"); !strings.Contains(out, "warning: web-b: it is at level 3") || strings.Contains(out, "error:") {
		t.Errorf("lint:\n%s", out)
	}
	h.holds(t)
}

// The CAs of one server move to another with everything that they have issued:
// revocations, OCSP and lists go on there (G2-28).
func TestG2_28_Divestiture(t *testing.T) {
	t.Parallel()
	from, to := newLab(t), newLab(t)
	from.serve(t)
	good, bad := from.issue(t, devca.Issuer), from.issue(t, devca.Issuer)
	revoke(t, from, bad)
	file := filepath.Join(from.dir, "dev.jsonl")
	from.must(t, "hierarchy", "export", devca.Root, "--out", file)

	to.change(t, "    certificate: chain.pem\n", "")
	to.change(t, "    certificate: root.pem\n    crl: root.crl\n", "")
	h := to.serve(t).server
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(to.dir, "short.jsonl")
	if err := os.WriteFile(short, text[:len(text)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := to.cli(t, "hierarchy", "import", short); err == nil {
		t.Error("an export that is not whole was imported")
	}
	for range 2 {
		to.must(t, "hierarchy", "import", file)
	}
	if status := to.ocsp(t, good, devca.Issuer); status != ocsp.Good {
		t.Errorf("OCSP of the good one: %d", status)
	}
	if status := to.ocsp(t, bad, devca.Issuer); status != ocsp.Revoked {
		t.Errorf("OCSP of the revoked one: %d", status)
	}
	revoke(t, to, good)
	to.seenRevoked(t, good, devca.Issuer)
	numbers, entries := [2]int64{}, 0
	for i, l := range []*lab{from, to} {
		l.must(t, "crl", "publish", devca.Issuer)
		_, der := l.get(t, "http://"+l.addr.http+"/crl/"+devca.Issuer+".crl")
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		numbers[i], entries = list.Number.Int64(), len(list.RevokedCertificateEntries)
	}
	if numbers[1] <= numbers[0] || entries != 2 {
		t.Errorf("lists %v, %d entries", numbers, entries)
	}
	if res, _ := to.get(t, "http://"+to.addr.http+"/crl/"+devca.Root+".crl"); res.StatusCode != 200 {
		t.Errorf("the root's list: %d", res.StatusCode)
	}
	to.issue(t, devca.Issuer)
	h.holds(t)
}

func revoke(t *testing.T, l *lab, c *x509.Certificate) {
	t.Helper()
	l.must(t, "cert", "revoke", string(pki.SerialFromBig(c.SerialNumber)), "--reason", "superseded")
}

const guideCA = `[ ca ]
default_ca = CA_default
[ CA_default ]
dir = %s
new_certs_dir = $dir/newcerts
database = $dir/index.txt
serial = $dir/serial
private_key = $dir/private/ca.key
certificate = $dir/certs/ca.crt
crlnumber = $dir/crlnumber
crl = $dir/crl/ca.crl
default_crl_days = 1
default_md = sha384
default_days = 90
policy = policy
unique_subject = no
[ policy ]
countryName = optional
organizationName = optional
commonName = supplied
[ req ]
distinguished_name = dn
string_mask = utf8only
[ dn ]
[ v3_ca ]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, cRLSign, keyCertSign
[ v3_intermediate_ca ]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, digitalSignature, cRLSign, keyCertSign
[ server_cert ]
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = serverAuth
`

// guideTree makes the guide's two tiers by the guide's commands, three
// certificates of the issuing CA, one of them revoked, and its list.
func (l *lab) guideTree(t *testing.T) {
	t.Helper()
	for _, ca := range []string{"oroot", "oissuing"} {
		for _, d := range []string{"certs", "crl", "newcerts", "private", "csr"} {
			if err := os.MkdirAll(filepath.Join(l.dir, ca, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range map[string]string{
			"index.txt": "", "serial": "1000\n", "crlnumber": "1000\n", "openssl.cnf": fmt.Sprintf(guideCA, filepath.Join(l.dir, ca)), "pass": "guide\n",
		} {
			if err := os.WriteFile(filepath.Join(l.dir, ca, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(line string) { l.openssl(t, strings.Fields(line)...) }
	run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -aes256 -pass pass:guide -out oroot/private/ca.key")
	run("req -config oroot/openssl.cnf -key oroot/private/ca.key -passin pass:guide -new -x509 -days 7300 -sha384 -extensions v3_ca -subj /O=Guide/CN=Root -out oroot/certs/ca.crt")
	run("genrsa -aes256 -passout pass:guide -out oissuing/private/ca.key 3072")
	run("req -config oissuing/openssl.cnf -new -sha384 -key oissuing/private/ca.key -passin pass:guide -subj /O=Guide/CN=Issuing -out oissuing/csr/ca.csr")
	run("ca -batch -config oroot/openssl.cnf -passin pass:guide -extensions v3_intermediate_ca -days 3650 -notext -md sha384 -in oissuing/csr/ca.csr -out oissuing/certs/ca.crt")
	for _, name := range []string{"a", "b", "c"} {
		run("req -config oissuing/openssl.cnf -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout oissuing/" + name + ".key -subj /O=Guide/CN=" + name + ".example.test -out oissuing/csr/" + name + ".csr")
		run("ca -batch -config oissuing/openssl.cnf -passin pass:guide -extensions server_cert -notext -in oissuing/csr/" + name + ".csr -out oissuing/certs/" + name + ".crt")
	}
	run("ca -config oissuing/openssl.cnf -passin pass:guide -revoke oissuing/certs/a.crt -crl_reason superseded")
	run("ca -config oissuing/openssl.cnf -passin pass:guide -gencrl -out oissuing/crl/ca.crl")
}

// An issuing CA that was run with openssl ca by the guide goes on here: its
// certificates can be revoked, OCSP answers for them, and its lists go on above the
// last number (G2-25). The root's key is refused.
func TestG2_25_ImportOpenSSLCA(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	l := newLab(t)
	l.guideTree(t)
	l.change(t, "issuers:\n", "issuers:\n  - {id: guide, key: 'file:keys/guide.key', passphrase: file:secrets/issuer}\n  - {id: guide-root, key: 'file:keys/guide-root.key', passphrase: file:secrets/issuer}\n")
	h := l.serve(t).server
	in := func(name string) string { return filepath.Join(l.dir, name) }
	_, _, err := l.cli(t, "import", "openssl-ca", "--dir", in("oroot"), "--issuer", "guide-root", "--passphrase", "file:"+in("oroot/pass"))
	refused(t, err, 403, "root_online")
	if _, err := os.Stat(in("keys/guide-root.key")); err == nil {
		t.Error("the root's key was written")
	}
	for range 2 {
		l.must(t, "import", "openssl-ca", "--dir", in("oissuing"), "--issuer", "guide", "--chain", in("oroot/certs/ca.crt"), "--passphrase", "file:"+in("oissuing/pass"))
	}
	cert := func(name string) *x509.Certificate {
		chain, err := config.ReadChain(in("oissuing/certs/" + name + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		return chain[0]
	}
	for name, want := range map[string]int{"a": ocsp.Revoked, "b": ocsp.Good, "c": ocsp.Good} {
		if got := l.ocsp(t, cert(name), "guide"); got != want {
			t.Errorf("OCSP of %s: %d, want %d", name, got, want)
		}
	}
	l.must(t, "cert", "revoke", "1001", "--issuer", "guide", "--reason", "keyCompromise")
	l.seenRevoked(t, cert("b"), "guide")
	l.must(t, "crl", "publish", "guide")
	_, der := l.get(t, "http://"+l.addr.http+"/crl/guide.crl")
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if list.Number.Int64() <= 0x1000 || len(list.RevokedCertificateEntries) != 2 {
		t.Errorf("list %s with %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
	if err := os.WriteFile(in("now.crl"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	l.openssl(t, "crl", "-inform", "DER", "-in", "now.crl", "-CAfile", "oissuing/certs/ca.crt", "-noout")
	l.leafOf(t, "guide", "tls-server", "new.example.test")
	h.holds(t)
}
