package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/test/deviceclient"
	"github.com/privyseal/privyseal/test/lab"
)

var batchSize = flag.Int("batch", 1000, "requests of TestBatch")

// TestBatch issues a batch whose client is killed twice and whose server is killed
// once; the same command goes on each time. No certificate is lost, none is
// there twice.
func TestBatch(t *testing.T) {
	each(t, func(t *testing.T, l *site) {
		total := *batchSize
		dir := filepath.Join(t.TempDir(), "line-3")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range total {
			csr, err := deviceclient.CSR(key, fmt.Sprintf("unit-%06d", i))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.csr", i)), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		launch := func() *lab.Process {
			t.Helper()
			p, err := lab.Launch(l.Dir, binary, "cert", "issue", "--batch", dir, "--profile", "device", "--socket", l.socket())
			if err != nil {
				t.Fatal(err)
			}
			mind(t, p)
			return p
		}
		began := time.Now()
		client := launch()
		waitFiles(t, client, dir, total/4)
		client.Kill()
		first := len(pemFiles(t, dir))

		client = launch()
		waitFiles(t, client, dir, total/2)
		l.Kill()
		<-client.Exited // it says so, and goes on when it is started again
		l.start(t)
		client = launch()
		waitFiles(t, client, dir, 3*total/4)
		client.Kill()
		third := len(pemFiles(t, dir))

		client = launch()
		<-client.Exited
		took := time.Since(began)
		t.Logf("%d certificates in %v (%.0f/s with all restarts); client killed at %d and %d, server at about %d", total,
			took.Round(time.Millisecond), float64(total)/took.Seconds(), first, third, total/2)
		l.countBatch(t, dir, total)
	})
}

// pemFiles are the names of the answers so far.
func pemFiles(t *testing.T, dir string) []string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, n := range names {
		if strings.HasSuffix(n, ".pem") {
			found = append(found, n)
		}
	}
	return found
}

// waitFiles waits until so many answers are there.
func waitFiles(t *testing.T, client *lab.Process, dir string, want int) {
	t.Helper()
	for have := 0; have < want; have = len(pemFiles(t, dir)) {
		select {
		case <-client.Exited:
			if len(pemFiles(t, dir)) >= want {
				return
			}
			t.Fatalf("the client ended with %d of %d answers: %s", have, want, client.Log.Tail(2000))
		case <-time.After(time.Duration(5+want/200) * time.Millisecond):
		}
	}
}

// inventoryOf returns every certificate on record.
func inventoryOf(t *testing.T, operator *api.Client) []api.Certificate {
	t.Helper()
	var all []api.Certificate
	p := api.ListCertificatesParams{PageParams: api.PageParams{Limit: 500}}
	for more := true; more; more = p.Cursor != "" {
		page, err := api.ListCertificates.Call(t.Context(), operator, p, api.None{})
		if err != nil {
			t.Fatal(err)
		}
		all, p.Cursor = append(all, page.Certificates...), page.Next
	}
	return all
}

// countBatch holds the files against what is on record.
func (l *site) countBatch(t *testing.T, dir string, total int) {
	t.Helper()
	operator := api.Dial(l.socket())
	defer operator.Close()
	issued, voids := map[string]bool{}, 0
	for _, c := range inventoryOf(t, operator) {
		switch {
		case c.Protocol != "operator":
		case c.Status == "issued":
			issued[c.Serial] = true
		default:
			voids++
		}
	}
	files := pemFiles(t, dir)
	if len(files) != total || len(issued) != total {
		t.Errorf("%d files and %d certificates for %d requests", len(files), len(issued), total)
	}
	for _, name := range files {
		block, _ := pem.Decode(read(t, filepath.Join(dir, name)))
		if block == nil {
			t.Fatalf("%s is no PEM", name)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		serial := cert.SerialNumber
		text := fmt.Sprintf("%x", serial.Bytes())
		if !issued[text] {
			t.Errorf("%s: %s is not on record, or in another file too", name, text)
		}
		delete(issued, text)
	}
	if len(issued) != 0 {
		t.Errorf("%d certificates that are in no file", len(issued))
	}
	t.Logf("%d certificates, %d begun when the server was killed and handed to nobody", total, voids)
}
