package crl_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/privyseal/privyseal/internal/crl"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestCRL_C9_HTTP(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	n.round(t)
	resp := n.get(id)
	der, err := io.ReadAll(resp.Body)
	check(t, err)
	sum := sha256.Sum256(der)
	list, err := x509.ParseRevocationList(der)
	check(t, err)
	for name, want := range map[string]string{
		"Content-Type": "application/pkix-crl", "ETag": `"` + hex.EncodeToString(sum[:]) + `"`, "Accept-Ranges": "bytes",
		"Last-Modified": list.ThisUpdate.Format(http.TimeFormat), "Cache-Control": "public, no-transform, max-age=3600", "Content-Encoding": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, r := range []struct {
		header, value string
		status, body  int
	}{
		{"If-None-Match", resp.Header.Get("ETag"), 304, 0},
		{"If-Modified-Since", resp.Header.Get("Last-Modified"), 304, 0},
		{"Range", "bytes=0-9", 206, 10},
		{"Range", "bytes=-5", 206, 5},
		{"If-None-Match", `"other"`, 200, len(der)},
	} {
		got := n.get(id, r.header, r.value)
		body, err := io.ReadAll(got.Body)
		check(t, err)
		if got.StatusCode != r.status || len(body) != r.body {
			t.Errorf("%s %s: %d with %d octets, want %d with %d", r.header, r.value, got.StatusCode, len(body), r.status, r.body)
		}
	}
	c.clock.add(7*24*time.Hour - 20*time.Minute)
	if got := n.get(id).Header.Get("Cache-Control"); got != "public, no-transform, max-age=300" {
		t.Errorf("20 minutes before nextUpdate: %s", got)
	}
	c.clock.add(time.Hour)
	if got := n.get(id); got.StatusCode != 200 || got.Header.Get("Cache-Control") != "public, no-transform, max-age=0" {
		t.Errorf("expired: %d %s", got.StatusCode, got.Header.Get("Cache-Control"))
	}
	for _, name := range []string{"nobody", "web-1/1", "web-1/01", "web-1/x", "web-1/-1", "web-1-delta", "root", "../web-1"} {
		if got := n.get(name).StatusCode; got != 404 {
			t.Errorf("%s: %d, want 404", name, got)
		}
	}
}

// idp returns the URI of the critical issuing distribution point.
func idp(t *testing.T, l *x509.RevocationList) string {
	t.Helper()
	for _, e := range l.Extensions {
		if e.Id.String() == "2.5.29.28" {
			if !e.Critical {
				t.Error("the issuing distribution point is not critical")
			}
			at := strings.Index(string(e.Value), "http://")
			return string(e.Value[at:])
		}
	}
	return ""
}

func TestCRL_C4_C6_Shards(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	c.config.Shards = 3
	n := c.node(c.store, t.TempDir())
	certs := map[int][]pki.Serial{}
	for range 12 {
		cert := c.revoked(pki.Superseded)
		certs[cert.Shard] = append(certs[cert.Shard], cert.Serial)
	}
	n.round(t)
	full := n.list(t, c, id)
	if len(full.RevokedCertificateEntries) != 12 || idp(t, full) != "" {
		t.Errorf("the full list has %d entries and the point %q", len(full.RevokedCertificateEntries), idp(t, full))
	}
	total := 0
	for shard := 1; shard <= 3; shard++ {
		name := id + "/" + string(rune('0'+shard))
		l := n.list(t, c, name)
		if want := c.urls.List(shard); idp(t, l) != want || !strings.HasSuffix(want, "/crl/"+name+".crl") {
			t.Errorf("shard %d: point %q, want %q", shard, idp(t, l), want)
		}
		if len(l.RevokedCertificateEntries) != len(certs[shard]) {
			t.Errorf("shard %d has %d entries, want %d", shard, len(l.RevokedCertificateEntries), len(certs[shard]))
		}
		total += len(l.RevokedCertificateEntries)
	}
	if total != 12 || len(certs[0]) != 0 {
		t.Errorf("%d of 12 are on shards, %d on none", total, len(certs[0]))
	}
	// Fewer shards later: what was issued keeps its list.
	c.config.Shards = 1
	c.swap(n)
	c.clock.add(25 * time.Hour)
	n.round(t)
	for shard := 1; shard <= 3; shard++ {
		if l := n.list(t, c, id+"/"+string(rune('0'+shard))); len(l.RevokedCertificateEntries) != len(certs[shard]) {
			t.Errorf("later, shard %d has %d entries, want %d", shard, len(l.RevokedCertificateEntries), len(certs[shard]))
		}
	}
	for range 3 {
		if cert := c.issued(time.Hour); cert.Shard != 1 {
			t.Errorf("a new certificate is on shard %d", cert.Shard)
		}
	}
}

// extension returns an extension's value and whether it is critical.
func extension(l *x509.RevocationList, oid string) (value []byte, critical bool) {
	for _, e := range l.Extensions {
		if e.Id.String() == oid {
			return e.Value, e.Critical
		}
	}
	return nil, false
}

func number(t *testing.T, der []byte) int64 {
	t.Helper()
	s := cryptobyte.String(der)
	var n int64
	if !s.ReadASN1Integer(&n) {
		t.Fatalf("not a number: %x", der)
	}
	return n
}

func TestCRL_C7_Deltas(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	c.config.Delta, c.config.Immediate = time.Hour, []string{}
	n := c.node(c.store, t.TempDir())
	held, stays := c.revoked(pki.CertificateHold), c.revoked(pki.Superseded)
	n.round(t)
	n.round(t)
	base := n.list(t, c, id)
	if point, critical := extension(base, "2.5.29.46"); critical || !strings.HasSuffix(string(point), "/crl/web-1-delta.crl") {
		t.Errorf("freshestCRL of the base: %q, critical %v", point, critical)
	}
	if len(n.list(t, c, id+"-delta").RevokedCertificateEntries) != 0 {
		t.Error("the first delta list has entries")
	}
	check(t, c.store.Release(t.Context(), held.ID, c.clock.now(), event(c)))
	fresh := c.revoked(pki.KeyCompromise)
	c.clock.add(2 * time.Hour)
	n.round(t)
	delta := n.list(t, c, id+"-delta")
	indicator, critical := extension(delta, "2.5.29.27")
	if !critical || number(t, indicator) != base.Number.Int64() || delta.Number.Cmp(base.Number) <= 0 {
		t.Errorf("delta list %d on base %x, critical %v; the base is %d", delta.Number, indicator, critical, base.Number)
	}
	if has(delta, held) != int(pki.RemoveFromCRL) || has(delta, fresh) != int(pki.KeyCompromise) || has(delta, stays) >= 0 {
		t.Errorf("delta list: %v", delta.RevokedCertificateEntries)
	}
	if point, _ := extension(delta, "2.5.29.46"); point != nil {
		t.Error("a delta list points to a delta list")
	}
	c.clock.add(23 * time.Hour)
	n.round(t)
	next, together := n.list(t, c, id), n.list(t, c, id+"-delta")
	indicator, _ = extension(together, "2.5.29.27")
	if next.Number.Cmp(together.Number) != 0 || number(t, indicator) != base.Number.Int64() {
		t.Errorf("issued together: list %d, delta %d on base %d", next.Number, together.Number, number(t, indicator))
	}
	if has(next, held) >= 0 || has(next, fresh) < 0 || has(together, fresh) < 0 || has(together, held) != int(pki.RemoveFromCRL) {
		t.Errorf("list %v, delta %v", next.RevokedCertificateEntries, together.RevokedCertificateEntries)
	}
}

func TestCRL_C10_NextPublish(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t))
	n := c.node(c.store, t.TempDir())
	n.round(t)
	value, critical := extension(n.list(t, c, id), "1.3.6.1.4.1.311.21.4")
	want := c.clock.now().Add(24 * time.Hour).UTC().Format("060102150405Z")
	if critical || len(value) < 2 || string(value[2:]) != want {
		t.Errorf("next publish %q, want %s", value, want)
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*crl.Config){
		"interval": func(c *crl.Config) { c.Interval = time.Second }, "validity": func(c *crl.Config) { c.Validity = time.Hour },
		"skew": func(c *crl.Config) { c.Skew = -1 }, "shards": func(c *crl.Config) { c.Shards = 5000 },
		"delta": func(c *crl.Config) { c.Delta = 20 * time.Hour }, "immediate": func(c *crl.Config) { c.Immediate = []string{"bored"} },
	} {
		c := crl.Config{}.Complete()
		check(t, c.Check())
		edit(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
