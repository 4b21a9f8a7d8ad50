package ocsp

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

func TestOCSP_O1_O9_HTTP(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	der := l.ask(l.issue("a.example.test")).der()
	stranger := ask{ca: l.root, serials: []*big.Int{big.NewInt(5)}}.der()
	b64 := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct {
		method, path string
		body         []byte
		code         int
		status       ResponseStatus
	}{
		"POST":                   {"POST", "/ocsp/web-1", der, 200, Successful},
		"POST with a slash":      {"POST", "/ocsp/web-1/", der, 200, Successful},
		"GET":                    {"GET", "/ocsp/web-1/" + b64(der), nil, 200, Successful},
		"GET with a query":       {"GET", "/ocsp/web-1/" + b64(der) + "?a=b", nil, 200, Successful},
		"GET through a proxy":    {"GET", "http://ca.test/ocsp/web-1/" + b64(der), nil, 200, Successful},
		"POST of nothing":        {"POST", "/ocsp/web-1", nil, 200, MalformedRequest},
		"POST of something":      {"POST", "/ocsp/web-1", []byte("hello"), 200, MalformedRequest},
		"GET of nothing":         {"GET", "/ocsp/web-1", nil, 200, MalformedRequest},
		"GET of something":       {"GET", "/ocsp/web-1/hello!", nil, 200, MalformedRequest},
		"issuer not ours (O8)":   {"POST", "/ocsp/web-1", stranger, 200, Unauthorized},
		"serial not ours (O8)":   {"POST", "/ocsp/web-1", ask{ca: l.ca, serials: []*big.Int{big.NewInt(5)}}.der(), 200, Unauthorized},
		"one of both not issued": {"POST", "/ocsp/web-1", ask{ca: l.ca, serials: []*big.Int{l.issue("b.example.test").Serial.Big(), big.NewInt(5)}}.der(), 200, Unauthorized},
		"unknown hash":           {"POST", "/ocsp/web-1", bytes.Replace(der, []byte{0x65, 3, 4, 2, 1}, []byte{0x65, 3, 4, 2, 4}, 1), 200, Unauthorized},
		"no such responder":      {"GET", "/ocsp/web-2/" + b64(der), nil, 404, 0},
		"PUT":                    {"PUT", "/ocsp/web-1", der, 405, 0},
		"too large":              {"POST", "/ocsp/web-1", make([]byte, MaxRequest+1), 413, 0},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, "/", bytes.NewReader(c.body))
		r.RequestURI = c.path
		if !h.Direct(w, r) {
			t.Errorf("%s: left to the router", name)
			continue
		}
		if w.Code != c.code {
			t.Errorf("%s: HTTP %d, want %d", name, w.Code, c.code)
		}
		if c.code != 200 {
			continue
		}
		if got := read(t, w.Body.Bytes()); got.Status != int(c.status) {
			t.Errorf("%s: status %d, want %s", name, got.Status, c.status)
		}
		head := w.Header()
		if head.Get("Content-Type") != "application/ocsp-response" || head.Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s: header %v", name, head)
		}
		if c.status != Successful && head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", name, head.Get("Cache-Control"))
		}
	}
	for _, path := range []string{"/", "/crl/x.crl", "/ocsp", "/ocspx/", "*", "http://ca.test"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI = path
		if h.Direct(httptest.NewRecorder(), r) {
			t.Errorf("%s is not OCSP's", path)
		}
	}
}

// TestOCSP_O2_OverTheWire sends paths that a router would clean, through net/http.
func TestOCSP_O2_OverTheWire(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	c := l.issue("a.example.test")
	server := httptest.NewServer(h)
	defer server.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var der []byte
	for n := 0; ; n++ { // a request whose base64 has all that hurts
		nonce := sum(crypto.SHA256, []byte{byte(n), byte(n >> 8)})
		q := l.ask(c)
		q.nonce = nonce
		der = q.der()
		if text := base64.StdEncoding.EncodeToString(der); strings.Contains(text, "//") && strings.Contains(text, "+") {
			break
		}
	}
	text := base64.StdEncoding.EncodeToString(der)
	for name, path := range map[string]string{
		"as it is":         "/" + text,
		"two slashes":      "//" + text,
		"all encoded":      "/" + strings.NewReplacer("/", "%2F", "+", "%2B", "=", "%3D").Replace(text),
		"lower case":       "/" + strings.NewReplacer("/", "%2f", "+", "%2b", "=", "%3d").Replace(text),
		"slashes encoded":  "/" + strings.ReplaceAll(text, "/", "%2F"),
		"pluses as spaces": "/" + strings.ReplaceAll(text, "+", "%20"),
		"no padding":       "/" + strings.TrimRight(text, "="),
	} {
		res, err := client.Get(server.URL + "/ocsp/web-1" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 200 || read(t, body).Status != 0 {
			t.Errorf("%s: HTTP %d, %x", name, res.StatusCode, body)
		}
	}
}

func TestOCSP_O3_O4_O5_Answers(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	d := l.delegated()
	h := l.serve(l.policy(), d.Responder)
	one, two := l.issue("a.example.test"), l.issue("b.example.test")
	l.revoke(two, pki.Unspecified)
	r, err := d.Responder()
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, absent := range []bool{true, false} {
			q := l.ask(one, two)
			q.hash, q.absent = hash, absent
			before := time.Now().Truncate(time.Second)
			got := read(t, post(h, q.der()).Body.Bytes())
			request, _ := ParseRequest(q.der())
			key := r.KeyHash()
			if len(got.Singles) != 2 || !bytes.Equal(got.Responder, key[:]) {
				t.Fatalf("%v: %+v", hash, got)
			}
			for i, s := range got.Singles {
				if !bytes.Equal(s.CertID, request.CertIDs[i].Raw) {
					t.Errorf("%v, absent %v: the CertID is not repeated", hash, absent)
				}
				if s.This.Before(before) || s.This.After(time.Now()) || s.Next.Sub(s.This) != 24*time.Hour || !got.Produced.Equal(s.This) {
					t.Errorf("times %v to %v, produced %v", s.This, s.Next, got.Produced)
				}
			}
			if got.Singles[0].Status != "good" || got.Singles[1].Status != "revoked" || got.Singles[1].Reason != -1 { // O16
				t.Errorf("%+v", got.Singles)
			}
		}
	}
}

func TestOCSP_O7_Nonces(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	c := l.issue("a.example.test")
	for _, mode := range []Mode{Presigned, Live} {
		h := l.serve(l.policy(func(p *Policy) { p.Mode = mode }), l.own())
		for _, n := range []int{1, 16, 32, 128} {
			q := l.ask(c)
			q.nonce = bytes.Repeat([]byte{byte(n)}, n)
			w := post(h, q.der())
			got := read(t, w.Body.Bytes())
			if mode == Live && (!bytes.Equal(got.Nonce, q.nonce) || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "") {
				t.Errorf("live, %d octets: nonce %x, header %v", n, got.Nonce, w.Header())
			}
			if mode == Presigned && (got.Status != 0 || got.Nonce != nil) {
				t.Errorf("presigned, %d octets: %+v", n, got)
			}
		}
		q := l.ask(c)
		q.nonce = make([]byte, 129)
		if got := read(t, post(h, q.der()).Body.Bytes()); got.Status != int(MalformedRequest) {
			t.Errorf("%s, 129 octets: %+v", mode, got)
		}
	}
}

func TestOCSP_O8_UnknownSerials(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	good := l.issue("a.example.test")
	reserved := l.reserve()
	for policy, check := range map[UnknownPolicy]func(parsed) bool{
		UnknownUnauthorized: func(p parsed) bool { return p.Status == int(Unauthorized) },
		UnknownUnknown: func(p parsed) bool {
			return p.Singles[0].Status == "unknown" && !p.Extended && p.Singles[0].Next.Sub(p.Singles[0].This) == unknownValidity
		},
		UnknownRevoked: func(p parsed) bool {
			s := p.Singles[0]
			return p.Extended && s.Status == "revoked" && s.Reason == 6 && s.RevokedAt.Equal(time.Unix(0, 0))
		},
	} {
		h := l.serve(l.policy(func(p *Policy) { p.Unknown = policy }), l.own())
		for name, serial := range map[string]*big.Int{"never issued": big.NewInt(5), "reserved": reserved.Big(), "zero": big.NewInt(0)} {
			w := post(h, ask{ca: l.ca, serials: []*big.Int{serial}}.der())
			if got := read(t, w.Body.Bytes()); !check(got) {
				t.Errorf("%s, %s: %+v", policy, name, got)
			}
		}
		if policy != UnknownUnauthorized {
			q := l.ask(good)
			q.serials = append(q.serials, big.NewInt(6))
			if got := read(t, post(h, q.der()).Body.Bytes()); got.Singles[0].Status != "good" || got.Singles[1].Status == "good" {
				t.Errorf("%s, mixed: %+v", policy, got)
			}
		}
		// It is kept for a minute at most: the serial may be issued yet.
		if st := h.Stats()[0]; policy != UnknownUnauthorized && st.Kept == 0 {
			t.Errorf("%s: nothing is kept", policy)
		}
		l.clock.jump(unknownFor + time.Second)
		eventually(t, func() bool { return h.fresh(l.clock.now()) })
		before := h.Stats()[0].Signed
		post(h, ask{ca: l.ca, serials: []*big.Int{big.NewInt(5)}}.der())
		if st := h.Stats()[0]; policy != UnknownUnauthorized && st.Signed == before {
			t.Errorf("%s: still kept after a minute: %+v", policy, st)
		}
	}
}

func TestOCSP_O11_CacheHeaders(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(func(p *Policy) { p.Validity = time.Hour }), l.own())
	der := l.ask(l.issue("a.example.test")).der()
	w := get(h, der)
	this := read(t, w.Body.Bytes()).Singles[0].This
	digest := sha256.Sum256(w.Body.Bytes())
	want := map[string]string{
		"Last-Modified": this.Format(http.TimeFormat), "Expires": this.Add(time.Hour).Format(http.TimeFormat),
		"Etag": `"` + hex.EncodeToString(digest[:]) + `"`, "Cache-Control": "max-age=300, public, no-transform, must-revalidate", "Pragma": "",
	}
	for name, value := range want {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	for tag, code := range map[string]int{want["Etag"]: 304, `W/` + want["Etag"]: 304, `"x", ` + want["Etag"]: 304, "*": 304, `"x"`: 200} {
		again := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI = "/ocsp/web-1/" + base64.StdEncoding.EncodeToString(der)
		r.Header.Set("If-None-Match", tag)
		h.ServeHTTP(again, r)
		if again.Code != code || (code == 304 && again.Body.Len() > 0) {
			t.Errorf("If-None-Match %s: %d with %d octets", tag, again.Code, again.Body.Len())
		}
	}
	// Near its end, an answer promises no more than it has.
	err := fmt.Errorf("down")
	l.key.fail.Store(&err)
	l.clock.jump(58 * time.Minute)
	eventually(t, func() bool { return h.fresh(l.clock.now()) })
	var age int
	if _, err := fmt.Sscanf(get(h, der).Header().Get("Cache-Control"), "max-age=%d,", &age); err != nil || age < 100 || age >= 120 {
		t.Errorf("two minutes before the end: max-age %d, %v", age, err)
	}
}

func TestOCSP_O13_O16_Details(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(func(p *Policy) { p.ArchiveCutoff = 7 * 365 * 24 * time.Hour }), l.own())
	c := l.issue("a.example.test")
	if got := read(t, get(h, l.ask(c).der()).Body.Bytes()); got.Singles[0].HasArchive {
		t.Error("an archive cutoff for a certificate that is valid")
	}
	l.clock.jump(100 * 24 * time.Hour) // it has expired
	eventually(t, func() bool { return h.fresh(l.clock.now()) })
	got := read(t, get(h, l.ask(c).der()).Body.Bytes())
	if s := got.Singles[0]; !s.HasArchive || !s.ArchiveTime.Equal(got.Produced.Add(-7*365*24*time.Hour)) {
		t.Errorf("%+v", got)
	}
	for reason, want := range map[pki.Reason]int{pki.Unspecified: -1, pki.KeyCompromise: 1, pki.PrivilegeWithdrawn: 9} {
		c := l.issue("b.example.test")
		l.revoke(c, reason)
		if s := read(t, get(h, l.ask(c).der()).Body.Bytes()).Singles[0]; s.Reason != want || s.Status != "revoked" {
			t.Errorf("%s: %+v", reason, s)
		}
	}
}

func TestOCSP_O14_Size(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.delegated().Responder)
	c := l.issue("a.example.test")
	l.revoke(c, pki.KeyCompromise)
	if n := get(h, l.ask(c).der()).Body.Len(); n >= 1500 {
		t.Errorf("a response of %d octets", n)
	}
}

func TestOCSP_O16_HoldAndRelease(t *testing.T) {
	t.Parallel()
	l := newLab(t, storetest.SQLite(t), "")
	h := l.serve(l.policy(), l.own())
	c := l.issue("a.example.test")
	status := func() parsedSingle { return read(t, get(h, l.ask(c).der()).Body.Bytes()).Singles[0] }
	l.revoke(c, pki.CertificateHold)
	eventually(t, func() bool { return status().Status == "revoked" })
	if got := status(); got.Reason != 6 {
		t.Errorf("on hold: %+v", got)
	}
	if err := l.pipeline.Release(t.Context(), issuance.Revocation{CertificateID: c.ID, Requester: "uid:0"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return status().Status == "good" })
}

// reserve leaves a reservation behind, as a node does between record and signature.
func (l *lab) reserve() pki.Serial {
	l.t.Helper()
	c := store.Certificate{ID: store.NewID(), IssuerID: caID, Serial: pki.NewSerial(), Node: "elsewhere", Profile: "tls-server", Origin: "request:reserved",
		KeyHash: []byte{1}, NotBefore: l.clock.now(), NotAfter: l.clock.now().Add(time.Hour), TBS: []byte{0x30, 0}, ReservedAt: l.clock.now()}
	if err := l.store.Reserve(l.t.Context(), c, nil, store.Event{At: l.clock.now(), Action: "certificate.intent", Outcome: "pending", Subject: c.ID}); err != nil {
		l.t.Fatal(err)
	}
	return c.Serial
}
