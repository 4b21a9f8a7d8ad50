package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/test/lab"
	"github.com/privyseal/privyseal/test/need"
)

// swan runs strongSwan's pki in a folder and keeps what it prints as a file.
func swan(t *testing.T, dir, into string, args ...string) {
	t.Helper()
	if out, err := attempt(t, dir, nil, "sh", append([]string{"-c", `into=$1; shift; pki "$@" > "$into"`, "sh", into}, args...)...); err != nil {
		t.Fatalf("pki %s: %v\n%s", args[0], err, out)
	}
}

// TestStrongSwan enrols and renews over EST and SCEP with strongSwan's pki. It knows
// no critical name constraints, so the development root has none here, and it
// wants the root in the bundle of SCEP.
func TestStrongSwan(t *testing.T) {
	need.Programs(t, "pki", "openssl")
	l := newSiteOf(t, lab.Server{Binary: binary, Dir: filepath.Join(t.TempDir(), "privyseal-dev"), Flags: []string{"--unconstrained"}})
	config := strings.Replace(string(read(t, l.config())), "path: default", "path: default\n      ca_bundle: full", 1)
	if err := os.WriteFile(l.config(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l.operate(t, "config", "reload")
	dir := t.TempDir()
	serials := map[string]bool{}
	check := func(file, cn string) {
		t.Helper()
		execute(t, dir, nil, "openssl", "x509", "-inform", "DER", "-in", file, "-out", "cert.pem")
		execute(t, dir, nil, "openssl", "verify", "-x509_strict", "-CAfile", l.root(), "-untrusted", filepath.Join(l.Dir, "chain.pem"), "cert.pem")
		out := execute(t, dir, nil, "openssl", "x509", "-in", "cert.pem", "-noout", "-subject", "-serial")
		if !strings.Contains(out, "CN = "+cn) || serials[out] {
			t.Errorf("%s: %s", file, out)
		}
		serials[out] = true
	}
	secret := func(file string) string { return strings.TrimSpace(string(read(t, filepath.Join(l.Dir, file)))) }

	est := []string{"--est", "--url", "https://localhost:" + lab.Port(l.Addr.EST), "--cacert", l.root()}
	for i, proof := range [][]string{{"--userpass", "device:" + secret("est-password")}, {"--cert", "est-0.der", "--key", "est-0.pem"}, {"--cert", "est-1.der", "--key", "est-1.pem"}} {
		n := string(rune('0' + i))
		swan(t, dir, "est-"+n+".pem", "--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem")
		swan(t, dir, "est.req", "--req", "--type", "ecdsa", "--in", "est-"+n+".pem", "--dn", "CN=gateway-7")
		swan(t, dir, "est-"+n+".der", append(append(est, "--in", "est.req"), proof...)...)
		check("est-"+n+".der", "gateway-7")
	}

	url := "http://" + l.Addr.HTTP + "/scep/default"
	swan(t, dir, "log", "--scepca", "--url", url, "--caout", "ca.der", "--raout", "ra.der")
	scep := []string{
		"--scep", "--url", url, "--dn", "CN=gateway-8", "--cacert-enc", "ra.der", "--cacert-sig", "ra.der",
		"--cacert", "ca.der", "--cacert", "ca-1.der",
	}
	for i, more := range [][]string{
		{"--password", secret("scep-challenge")},
		{"--cert", "scep-0.der", "--key", "scep-0.key", "--digest", "sha512"},
		{"--cert", "scep-1.der", "--key", "scep-1.key", "--rsa-padding", "pss"},
	} {
		n := string(rune('0' + i))
		swan(t, dir, "scep-"+n+".key", "--gen", "--type", "rsa", "--size", "2048")
		swan(t, dir, "scep-"+n+".der", append(append(scep, "--in", "scep-"+n+".key"), more...)...)
		check("scep-"+n+".der", "gateway-8")
	}
}
