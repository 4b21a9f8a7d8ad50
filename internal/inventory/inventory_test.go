package inventory

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/api"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "db"), Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"web-a-1", "web-a-2"} {
		if err := st.PutIssuer(t.Context(), store.IssuerRecord{ID: id, Name: "web-a", State: "active", Certificate: []byte{0}, NotAfter: noon, CreatedAt: noon}); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// add stores a certificate that was issued, unless der is nil.
func add(t *testing.T, st *store.Store, issuer string, serial pki.Serial, name string, der []byte) string {
	t.Helper()
	id := store.NewID()
	ev := store.Event{At: noon, Action: "certificate.intent"}
	err := st.Reserve(t.Context(), store.Certificate{
		ID: id, IssuerID: issuer, Serial: serial, Node: "n1", Profile: "tls-server", ProfileVersion: "v", Protocol: "acme",
		Requester: "account:1", KeyHash: []byte{1, 2}, Subject: "CN=" + name, Names: []pki.Identifier{{Type: pki.DNS, Value: name}},
		NotBefore: noon, NotAfter: noon.Add(time.Hour), TBS: []byte{0}, Origin: "request:" + id, ReservedAt: noon,
	}, nil, ev)
	if err == nil && der != nil {
		err = st.Complete(t.Context(), id, der, noon, ev)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func revoke(t *testing.T, st *store.Store, id string) {
	t.Helper()
	r := store.Revocation{Reason: pki.Superseded, RevokedAt: noon, Requester: "uid:0"}
	if err := st.Revoke(t.Context(), id, r, false, store.Event{At: noon, Action: "certificate.revoked"}); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	inv := New(st)
	a := add(t, st, "web-a-1", "0aff", "a.test", []byte("A"))
	add(t, st, "web-a-1", "77", "b.test", []byte("B"))
	other := add(t, st, "web-a-2", "77", "c.test", []byte("C"))

	for _, ref := range []string{a, "0AFF", "0a:ff", "aff"} {
		if c, err := inv.Find(t.Context(), ref, ""); err != nil || c.ID != a {
			t.Errorf("Find(%q) = %v, %v", ref, c, err)
		}
	}
	if c, err := inv.Find(t.Context(), "77", "web-a-2"); err != nil || c.ID != other {
		t.Errorf("serial of a named issuer: %v, %v", c, err)
	}
	for ref, want := range map[string]fault.Kind{
		"77": fault.Conflict, "78": fault.NotFound, store.NewID(): fault.NotFound, "zz": fault.Malformed, "": fault.Malformed,
	} {
		if _, err := inv.Find(t.Context(), ref, ""); !fault.Is(err, want) {
			t.Errorf("Find(%q) = %v, want %s", ref, err, want)
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	t.Parallel()
	inv := New(openStore(t))
	for _, q := range []store.Search{{Limit: -1}, {Limit: MaxPage + 1}, {Status: "lost"}} {
		if _, _, err := inv.Search(t.Context(), q); !fault.Is(err, fault.Malformed) {
			t.Errorf("%+v: %v, want malformed", q, err)
		}
	}
}

func TestRevokedIsAStatusOfItsOwn(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	inv := New(st)
	revoke(t, st, add(t, st, "web-a-1", "01", "a.test", []byte("A")))
	add(t, st, "web-a-1", "02", "b.test", []byte("B"))
	for status, want := range map[string]string{"revoked": "01", "issued": "02"} {
		found, _, err := inv.Search(t.Context(), store.Search{Status: status})
		if err != nil || len(found) != 1 || string(found[0].Serial) != want || string(Status(&found[0])) != status {
			t.Errorf("status %s: %+v, %v; want serial %s", status, found, err, want)
		}
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	inv := New(st)
	const n = exportPage + 3 // more than a page
	for i := range n {
		add(t, st, "web-a-1", pki.Serial(fmt.Sprintf("%06x", i+1)), fmt.Sprintf("h%d.test", i), []byte{1, byte(i)})
	}
	add(t, st, "web-a-1", "ff", "reserved.test", nil)

	export := func(f api.ExportFormat, want int) []byte {
		t.Helper()
		var out bytes.Buffer
		pages := 0
		got, err := inv.Export(t.Context(), &out, f, store.Search{}, func() { pages++ })
		if err != nil || got != want || pages != 3 {
			t.Fatalf("%s: %d rows, %d pages, %v; want %d rows, 3 pages", f, got, pages, err, want)
		}
		return out.Bytes()
	}

	rows, err := csv.NewReader(bytes.NewReader(export(api.FormatCSV, n+1))).ReadAll()
	if err != nil || len(rows) != n+2 || rows[1][3] != "reserved" || rows[2][8] != fmt.Sprintf("dns:h%d.test", n-1) {
		t.Errorf("csv: %d rows, %v, first %v", len(rows), err, rows[1])
	}

	lines := bytes.Split(bytes.TrimSpace(export(api.FormatJSONL, n+1)), []byte("\n"))
	var last api.Certificate
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil || len(lines) != n+1 || last.Serial != "000001" {
		t.Errorf("jsonl: %d lines, last %+v, %v", len(lines), last, err)
	}

	rest, blocks := export(api.FormatPEM, n+1), 0
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		blocks++
	}
	if blocks != n { // the reserved one has no certificate
		t.Errorf("pem: %d certificates, want %d", blocks, n)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("pipe is closed") }

func TestExportFails(t *testing.T) {
	t.Parallel()
	st := openStore(t)
	add(t, st, "web-a-1", "01", "a.test", []byte("A"))
	inv := New(st)
	for _, f := range []api.ExportFormat{api.FormatCSV, api.FormatJSONL, api.FormatPEM} {
		if _, err := inv.Export(t.Context(), brokenWriter{}, f, store.Search{}, nil); err == nil || !strings.Contains(err.Error(), "pipe is closed") {
			t.Errorf("%s: %v", f, err)
		}
	}
	if _, err := inv.Export(t.Context(), &bytes.Buffer{}, "xml", store.Search{}, nil); !fault.Is(err, fault.Malformed) {
		t.Errorf("an unknown format: %v", err)
	}
}
