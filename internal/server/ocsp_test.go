package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/ocsp"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/test/need"
)

// The responder of the server, with openssl as the client: for its own issuer out
// of the box, and for the root once that has certified a responder.
func TestOCSPServes(t *testing.T) {
	t.Parallel()
	need.Program(t, "openssl")
	l := newLab(t)
	l.certifyResponder(t, 20)
	l.serve(t)
	chain, err := config.ReadChain(filepath.Join(l.dir, "chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	issuing := filepath.Join(l.dir, "issuing.pem")
	if err := os.WriteFile(issuing, pki.EncodeChain(chain[0].Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(l.dir, "root.pem")
	_, served := l.get(t, "http://"+l.addr.http+"/roots.pem")
	if len(served) == 0 {
		t.Fatal("nothing is served")
	}
	pair, err := owncert.File{
		Path: filepath.Join(l.dir, "tls", "https.pem"), Secret: config.Reference("file:secrets/state").Secret(l.dir),
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Join(l.dir, "leaf.pem")
	if err := os.WriteFile(leaf, pki.EncodeChain(pair.Certificate.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"a certificate of the issuer": {"-issuer", issuing, "-cert", leaf, "-url", "http://" + l.addr.http + "/ocsp/dev-a-1", "-CAfile", root, "-verify_other", issuing},
		"the issuer's own":            {"-issuer", root, "-cert", issuing, "-url", "http://" + l.addr.http + "/ocsp/dev-root", "-CAfile", root},
	} {
		out, err := exec.CommandContext(t.Context(), "openssl", append([]string{"ocsp", "-no_nonce"}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Response verify OK") || !strings.Contains(string(out), ": good") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if _, ready := l.get(t, "http://"+l.addr.ops+"/readyz"); !strings.Contains(string(ready), "ocsp dev-root") || strings.Contains(string(ready), "expires on") {
		t.Errorf("readyz: %s", ready)
	}
	if _, told := l.get(t, "http://"+l.addr.ops+"/metrics"); !strings.Contains(string(told), `privyseal_ocsp_responder_alarm{issuer="dev-root"} 0`) {
		t.Error("no alarm metric of the root's responder")
	}
}

// certifyResponder makes a key here, as docs/ocsp.md says, has the root's ceremony
// certify it, and configures it.
func (l *lab) certifyResponder(t *testing.T, days int) {
	t.Helper()
	key := filepath.Join(l.dir, "keys", "root-ocsp.key")
	l.openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes-256-cbc", "-pass", "file:secrets/issuer", "-out", key)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	der := l.openssl(t, "req", "-new", "-key", key, "-passin", "file:secrets/issuer", "-subj", "/CN=OCSP responder of the root", "-outform", "DER")
	csr, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(l.dir, "offline", "private", "ca.key"), 0o600); err != nil { // the copy has lost it
		t.Fatal(err)
	}
	lines := strings.Fields(ceremonyText)
	root := ceremony.CA{Dir: filepath.Join(l.dir, "offline"), Secret: literal(lines[len(lines)-1]), Now: time.Now}
	cert, err := ceremony.SignResponder(t.Context(), root, csr, ceremony.ResponderSpec{Days: days})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "root-ocsp.pem"), pki.EncodeChain(cert.Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	l.change(t, "    crl: root.crl", "    crl: root.crl\n    ocsp: {certificate: root-ocsp.pem, key: 'file:keys/root-ocsp.key', passphrase: 'file:secrets/issuer'}")
}

func (l *lab) openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir, cmd.Stderr = l.dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", args[0], err, &stderr)
	}
	return out
}

// Who has to hold a ceremony is told in time.
func TestResponderAlarm(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.certifyResponder(t, 120)
	root, err := config.ReadChain(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := config.ReadChain(filepath.Join(l.dir, "root-ocsp.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ref := keys.Ref("file:" + filepath.Join(l.dir, "keys", "root-ocsp.key"))
	key, err := keys.Open(t.Context(), ref, config.Reference("file:secrets/issuer").Secret(l.dir), keys.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	r, err := issuer.NewResponder(root[0], cert[0], key)
	if err != nil {
		t.Fatal(err)
	}
	a := ocsp.Answers{Signer: func() (*issuer.Responder, error) { return r, nil }}
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]string{119 * day: "", 31 * day: "", 29 * day: "sign a new one", time.Second: "sign a new one", 0: "has expired"} {
		state := a.Health(nil, nil, cert[0].NotAfter.Add(-left))
		soon := state.Warning
		if state.Failed != nil {
			soon = state.Failed.Error()
		}
		if (want == "") != (soon == "") || !strings.Contains(soon, want) {
			t.Errorf("%s left: %q, want %q", left, soon, want)
		}
	}
}
