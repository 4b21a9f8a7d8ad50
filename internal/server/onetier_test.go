package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/config"
	"github.com/privyseal/privyseal/internal/pki"
)

// One tier is served by dev only, and never quietly.
func TestG1_03_G2_24_OneTierIsForDev(t *testing.T) {
	t.Parallel()
	l := &lab{dir: filepath.Join(t.TempDir(), "d")}
	for _, a := range []*string{&l.addr.https, &l.addr.est, &l.addr.http, &l.addr.ops} {
		*a = freeAddress(t)
	}
	o := &devOptions{
		dir: l.dir, https: l.addr.https, est: l.addr.est, http: l.addr.http, ops: l.addr.ops, http01: 5002, alpn: 5001, tiers: 1,
		given: func(string) bool { return true },
	}
	ctx, stop := context.WithCancel(t.Context())
	var out lockedBuffer
	done := make(chan error, 1)
	e := testEnv(io.Discard)
	go func() { done <- runDev(ctx, o, e, &out) }()
	for begun := time.Now(); !strings.Contains(out.String(), "Stop with Ctrl-C"); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-done:
			t.Fatalf("dev ended: %v\n%s", err, out.String())
		default:
		}
		if time.Since(begun) > upWithin {
			t.Fatalf("dev is not up\n%s", out.String())
		}
	}
	if !strings.Contains(out.String(), "INSECURE: one tier") {
		t.Errorf("no banner: %s", out.String())
	}
	if _, body := l.get(t, "http://"+l.addr.ops+"/metrics"); !bytes.Contains(body, []byte("privyseal_insecure_mode 1")) {
		t.Error("metrics say nothing")
	}
	if _, answer := l.readyz(t); !strings.Contains(check(t, answer, "tiers").Detail, "insecure") {
		t.Errorf("readyz: %+v", answer)
	}
	made, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", CSR: newCSR(t, "a.localhost")})
	if err != nil {
		t.Fatal(err)
	}
	root, err := config.ReadChain(filepath.Join(l.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChain([]byte(made.Chain))
	if err != nil || len(chain) != 1 || chain[0].CheckSignatureFrom(root[0]) != nil {
		t.Errorf("chain %v, %v", chain, err)
	}
	if _, der := l.get(t, "http://"+l.addr.http+"/crl/dev-a-1.crl"); len(der) == 0 {
		t.Error("no list")
	} else if list, err := x509.ParseRevocationList(der); err != nil || list.CheckSignatureFrom(root[0]) != nil {
		t.Errorf("list: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(l.file()); err == nil || !strings.Contains(err.Error(), "a root does not sign on a server") {
		t.Errorf("serve takes a folder of one tier: %v", err)
	}
	o.tiers = 2
	if _, err := o.setUp(t.Context(), e, io.Discard); err == nil || !strings.Contains(err.Error(), "another number of tiers") {
		t.Errorf("two tiers in a folder of one: %v", err)
	}
	if o.tiers = 3; o.check() == nil {
		t.Error("three tiers were taken")
	}
}
