package server

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/devca"
	"github.com/privyseal/privyseal/internal/files"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/keys/hsmtest"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// TestReloadRefusedMovesNoGeneration: a reload that is refused for an offline CA's
// list leaves the issuers as they were in the database too. From there a former
// issuer does not come back, and a pool whose successor is not in force would be
// without anybody who signs.
func TestReloadRefusedMovesNoGeneration(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t)
	h := l.serve(t).server
	l.change(t, "    pool: web\n", "    pool: web\n"+l.newIssuer(t, "dev-a-2", "    pool: web\n    succeeds: dev-a-1\n"))
	other := newForeign(t, "CN=Somebody else")
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
	}, other.cert, other.key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.dir, "root.crl")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Write(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(),
		api.None{}, api.None{}); err == nil || !strings.Contains(err.Error(), "not signed by this CA") {
		t.Fatalf("the list of another CA: %v", err)
	}
	if err := files.Write(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	states(t, l, "dev-a-1 active 1 web")
	l.issue(t, "dev-a-1")
}

// TestFollowTriesARefusedPINOnce: an issuer that was installed elsewhere, and whose
// token refuses this node's PIN, does not cost the token its PIN.
func TestFollowTriesARefusedPINOnce(t *testing.T) { // not parallel: the token is found by the environment
	token := hsmtest.New(t)
	l := newLab(t)
	ref := keys.Ref(token.Ref("dev-t-1"))
	key, err := keys.GenerateIn(ref, "ec-p256", token.Secret, keys.Config{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ceremony.NewRequest(key, "CN=Lab dev-t-1,O=Privyseal Development")
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Close(); err != nil { // a login is the whole process's
		t.Fatal(err)
	}
	cert, err := ceremony.SignCA(t.Context(), l.root(t), csr, ceremony.CASpec{Locations: issuer.Locations{CRL: "http://localhost/crl/root.crl"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Write(filepath.Join(l.dir, "secrets", "pin"), []byte("4321"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.change(t, "issuers:\n", "issuers:\n  - id: dev-t-1\n    key: "+string(ref)+"\n    passphrase: file:secrets/pin\n")
	r := l.serve(t)
	h := r.server
	row := ca.NewRecord("dev-t-1", devca.Root, string(ca.Active), cert, time.Now())
	if err := h.store.InstallIssuers(t.Context(), []store.Installation{{IssuerRecord: row}}); err != nil {
		t.Fatal(err)
	}
	const refused = "CKR_PIN_INCORRECT"
	tries := 0
	for range 4 {
		if err := h.follow(t.Context()); err != nil {
			if tries++; !strings.Contains(err.Error(), refused) || !strings.Contains(err.Error(), "config reload") {
				t.Error(err)
			}
		}
		h.changing.Lock()   // the server follows too
		h.changing.Unlock() //nolint:staticcheck // SA2001: only waits
	}
	if err := files.Write(filepath.Join(l.dir, "secrets", "pin"), []byte(token.PIN), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client().Issue(t.Context(), api.IssueRequest{Profile: "tls-server", Issuer: "dev-t-1", CSR: newCSR(t, "a.localhost")}); err != nil {
		t.Error(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if tries += strings.Count(r.log.String(), refused); tries != 1 {
		t.Errorf("the refused PIN was tried %d times", tries)
	}
}

// TestReloadMovesAllOrNothing: a database that refuses the last change of a reload has
// kept none of those before. A former issuer that drains alone would leave a pool, under
// the configuration that runs, without anybody who signs.
func TestReloadMovesAllOrNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.pool(t, l.newIssuer(t, "dev-b-1", "    pool: other\n"))
	l.serve(t)
	l.change(t, "    pool: other\n", "    pool: other\n"+l.newIssuer(t, "dev-a-2", "    pool: web\n    succeeds: dev-a-1\n")+
		l.newIssuer(t, "dev-b-2", "    pool: other\n    succeeds: dev-b-1\n"))
	url := "sqlite:" + filepath.Join(l.dir, "privyseal.db")
	storetest.Exec(t, url, `CREATE TRIGGER broken BEFORE UPDATE OF state ON issuers WHEN NEW.id = 'dev-b-1'
		BEGIN SELECT RAISE(ABORT, 'disk full'); END`)
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err == nil {
		t.Fatal("reloaded")
	}
	states(t, l, "dev-a-1 active 1 web", "dev-b-1 active 1 other")
	storetest.Exec(t, url, `DROP TRIGGER broken`)
	if _, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil {
		t.Fatal(err)
	}
	states(t, l, "dev-a-1 draining 1 web", "dev-a-2 active 2 web", "dev-b-1 draining 1 other", "dev-b-2 active 2 other")
}

// TestReloadWithATakenAddress: a reload that is in force is not reported as refused
// because a listener that was closed finds its address taken.
func TestReloadWithATakenAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key, away := filepath.Join(l.dir, "keys", "dev-a-1.key"), filepath.Join(l.dir, "away")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(key, away)
	l.change(t, "    certificate: chain.pem\n", "")
	r := l.serve(t)
	taken, err := net.Listen("tcp", l.addr.https)
	if err != nil {
		t.Fatal(err)
	}
	rename(away, key)
	l.change(t, "    passphrase: file:secrets/issuer\n", "    passphrase: file:secrets/issuer\n    certificate: chain.pem\n")
	if result, err := api.ReloadConfig.Call(t.Context(), l.client(), api.None{}, api.None{}); err != nil || !result.Changed {
		t.Errorf("reload: %+v, %v", result, err)
	}
	_, answer := l.readyz(t)
	if c := check(t, answer, "listener https"); c.State != "failed" || !strings.Contains(c.Detail, "in use") {
		t.Errorf("readyz says %+v", c)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.server.renewTLS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, answer := l.readyz(t); indexCheck(answer, "listener https") >= 0 || !r.server.serving(listenHTTPS) {
		t.Errorf("it is free again: %+v", answer)
	}
}
