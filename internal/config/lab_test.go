package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ceremony"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/seal"
)

// lab is a folder of a test's own with a configuration and what it names, as
// `privyseal dev` makes them.
type lab struct{ dir string }

// made are the files beside the configuration, by path, made once. Load opens no
// key, so that the keys are empty.
var made = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "privyseal-config-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	secret := func() ([]byte, error) { return []byte("a passphrase that is long enough"), nil }
	key, err := keys.Generate(keys.Ref("file:"+filepath.Join(dir, "a.key")), "ec-p256", secret)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	ctx, ca := context.Background(), ceremony.CA{Dir: filepath.Join(dir, "ca"), Secret: secret, Now: time.Now}
	root, err := ceremony.Root(ctx, ca, ceremony.RootSpec{Subject: "CN=Root,O=Lab", NameConstraints: ceremony.PrivateNames()})
	if err != nil {
		return nil, err
	}
	csr, err := ceremony.NewRequest(key, "CN=A,O=Lab")
	if err != nil {
		return nil, err
	}
	issued, err := ceremony.SignCA(ctx, ca, csr, ceremony.CASpec{Locations: issuer.Locations{
		CRL: "http://localhost:3/crl/dev-root.crl", CAIssuers: "http://localhost:3/issuers/dev-root.cer",
	}})
	if err != nil {
		return nil, err
	}
	list, err := ceremony.CRL(ctx, ca, ceremony.CRLSpec{})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"root.pem": pki.EncodeChain(root.Raw), "chain.pem": pki.EncodeChain(issued.Raw, root.Raw), "root.crl": list,
		"keys/dev-a-1.key": nil, "keys/audit.key": nil,
	}
	for _, name := range []string{"secrets/issuer", "secrets/audit", "secrets/state", "scep-challenge"} {
		files[name] = []byte("kept in " + name + "\n")
	}
	files["secrets/kek"] = []byte(seal.GenerateKEK() + "\n")
	return files, nil
})

func newLab(t *testing.T) *lab {
	t.Helper()
	files, err := made()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{dir: t.TempDir()}
	for name, content := range files {
		l.put(t, name, content)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "dev.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, string(text))
	return l
}

func (l *lab) put(t *testing.T, name string, content []byte) {
	t.Helper()
	file := filepath.Join(l.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) file() string { return filepath.Join(l.dir, "privyseal.yaml") }

func (l *lab) read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(l.file())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (l *lab) write(t *testing.T, text string) {
	t.Helper()
	l.put(t, "privyseal.yaml", []byte(text))
}

// change replaces text in the configuration, which must be there.
func (l *lab) change(t *testing.T, from, to string) {
	t.Helper()
	text := l.read(t)
	if !strings.Contains(text, from) {
		t.Fatalf("the configuration has no %q:\n%s", from, text)
	}
	l.write(t, strings.Replace(text, from, to, 1))
}

// withWebhook puts a webhook into the lab's configuration.
func (l *lab) withWebhook(t *testing.T, url string) {
	t.Helper()
	key := strings.Repeat("k", 32)
	l.put(t, "secrets/mdm", []byte(key+"\n"))
	l.put(t, "secrets/short", []byte(key[1:]+"\n"))
	l.write(t, l.read(t)+"webhooks:\n  - name: mdm\n    url: "+url+"/ask\n    notify_url: "+url+"/told\n    key: file:secrets/mdm\n")
	l.change(t, "path: default", "path: default\n      webhook: mdm")
}
