package crl_test

import (
	"bufio"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// childEnv makes this binary the process that is killed.
const childEnv = "PRIVYSEAL_TEST_PUBLISH"

// A process that is killed with SIGKILL when the list is signed and not yet
// published leaves a gap in the numbers and nothing else.
func TestCRL_C1_KilledBetweenSignatureAndPublication(t *testing.T) {
	t.Parallel()
	if url := os.Getenv(childEnv); url != "" {
		publishAndHang(t, url, os.Getenv(childEnv+"_DIR"))
		return
	}
	storetest.EachURL(t, func(t *testing.T, url string, s *store.Store) {
		c := newCA(t, s)
		dir := t.TempDir()
		n := c.node(s, filepath.Join(dir, "lists"))
		n.round(t)
		first := n.list(t, c, id)
		cert := c.revoked(pki.KeyCompromise)
		c.save(dir)

		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCRL_C1_KilledBetweenSignatureAndPublication$") //nolint:gosec // this binary
		child.Env = append(os.Environ(), childEnv+"="+url, childEnv+"_DIR="+dir)
		out, err := child.StdoutPipe()
		check(t, err)
		check(t, child.Start())
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "signed"; {
			t.Log(lines.Text())
		}
		check(t, child.Process.Kill())
		_ = child.Wait() // it was killed

		row, err := s.Issuer(t.Context(), id)
		check(t, err)
		if row.LastCRLNumber <= first.Number.Int64() {
			t.Fatalf("the number %d was not taken before the signature", row.LastCRLNumber)
		}
		n = c.node(s, filepath.Join(dir, "lists"))
		if got := n.list(t, c, id); got.Number.Cmp(first.Number) != 0 || has(got, cert) >= 0 {
			t.Errorf("after the kill list %d is served, want %d", got.Number, first.Number)
		}
		c.clock.add(time.Hour) // the dead node's lease has ended, by whatever clock it had
		_, err = n.Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
		check(t, err)
		if got := n.list(t, c, id); got.Number.Int64() <= row.LastCRLNumber || has(got, cert) != int(pki.KeyCompromise) {
			t.Errorf("list %d follows the number %d that was taken", got.Number, row.LastCRLNumber)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "lists", "*.tmp")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// save writes what another process needs to be the same CA.
func (c *ca) save(dir string) {
	c.t.Helper()
	key, err := x509.MarshalECPrivateKey(c.key.PrivateKey)
	check(c.t, err)
	for name, der := range map[string][]byte{"key": key, "cert": c.cert.Raw, "root": c.root.Raw} {
		check(c.t, os.WriteFile(filepath.Join(dir, name), der, 0o600))
	}
}

// publishAndHang is the process that is killed.
func publishAndHang(t *testing.T, url, dir string) {
	read := func(name string) []byte {
		der, err := os.ReadFile(filepath.Join(dir, name))
		check(t, err)
		return der
	}
	c := &ca{t: t, clock: newClock(), store: storetest.Open(t, url, "node-2"), config: crl.Config{}.Complete()}
	c.urls.CRL = "http://ca.test/crl/web-1.crl"
	key, err := x509.ParseECPrivateKey(read("key"))
	check(t, err)
	c.cert, err = x509.ParseCertificate(read("cert"))
	check(t, err)
	c.root, err = x509.ParseCertificate(read("root"))
	check(t, err)
	c.clock.add(time.Minute)
	c.key = &signer{PrivateKey: key, after: func() {
		_, _ = os.Stdout.WriteString("signed\n")
		select {}
	}}
	_, err = c.node(c.store, filepath.Join(dir, "lists")).Publish(t.Context(), id, crl.Options{Actor: "uid:0"})
	t.Error("published", err)
}
