package est

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
)

// TestEST_E1_Paths: operations with and without a label, and nothing else.
func TestEST_E1_Paths(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}},
		Endpoint{Name: "p4", Label: "plant-4", Issuer: "ca", Profiles: []string{"device"}})
	d := e.anonymous()
	for _, tc := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/cacerts", 200}, {"HEAD", "/cacerts", 200}, {"GET", "/plant-4/cacerts", 200}, {"GET", "/csrattrs", 200},
		{"POST", "/cacerts", 405}, {"PUT", "/simpleenroll", 405}, {"GET", "/simpleenroll", 405}, {"GET", "/simplereenroll", 405},
		{"GET", "/serverkeygen", 405}, {"GET", "/fullcmc", 405}, {"DELETE", "/plant-4/csrattrs", 405},
		{"GET", "/plant-5/cacerts", 404}, {"GET", "/", 404}, {"GET", "", 404}, {"GET", "/plant-4", 404}, {"GET", "/crl", 404},
		{"GET", "/plant-4/sub/cacerts", 404}, {"POST", "/serverkeygen", 404}, {"POST", "/fullcmc", 401},
	} {
		r := d.do(t, tc.method, tc.path, nil)
		if r.code != tc.code {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, r.code, tc.code)
		}
		if r.code == 405 && r.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tc.method, tc.path)
		}
		if tc.method != "HEAD" && r.code >= 400 && !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s %s: an error of type %q (rule E8)", tc.method, tc.path, r.header.Get("Content-Type"))
		}
	}
}

// TestEST_E1_Configuration says all that is wrong.
func TestEST_E1_Configuration(t *testing.T) {
	t.Parallel()
	good := Endpoint{Name: "a", Issuer: "ca", Profiles: []string{"device"}}
	for says, change := range map[string]func(*Endpoint){
		"name of an operation": func(e *Endpoint) { e.Label = "simpleenroll" },
		"one plain path":       func(e *Endpoint) { e.Label = "a/b" },
		"no issuer":            func(e *Endpoint) { e.Issuer = "" },
		"not one of its":       func(e *Endpoint) { e.DefaultProfile = "x" },
		"auth":                 func(e *Endpoint) { e.Auth = "x" },
		"own_names":            func(e *Endpoint) { e.OwnNames = "x" },
		"anchor_names":         func(e *Endpoint) { e.AnchorNames = "x" },
		"renew_key":            func(e *Endpoint) { e.RenewKey = "x" },
		"challenge_password":   func(e *Endpoint) { e.Challenge = "x" },
		"accept_protocols[0]":  func(e *Endpoint) { e.AcceptProtocols = []string{"cmp"} },
		"negative":             func(e *Endpoint) { e.Grace = -time.Second },
	} {
		bad := good
		change(&bad)
		if _, err := New(Config{Endpoints: []Endpoint{bad}}, Deps{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
	}
	if _, err := New(Config{Endpoints: []Endpoint{good, good}}, Deps{}); err == nil || !strings.Contains(err.Error(), "label") {
		t.Errorf("two without a label: %v", err)
	}
}

// TestEST_E8_EveryFaultHasAnAnswer in text, and what is internal is not shown.
func TestEST_E8_EveryFaultHasAnAnswer(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		w := httptest.NewRecorder()
		refuse(w, nil, fault.New(k, "what happened").Because("a_reason"))
		if hidden := k == fault.Internal; strings.Contains(w.Body.String(), "what happened") == hidden {
			t.Errorf("%s: %s", k, w.Body)
		}
		again := w.Code == http.StatusServiceUnavailable || w.Code == http.StatusAccepted
		if (w.Header().Get("Retry-After") != "") != again {
			t.Errorf("%s: %d with Retry-After %q", k, w.Code, w.Header().Get("Retry-After"))
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %q", k, w.Header().Get("Content-Type"))
		}
	}
	w := httptest.NewRecorder()
	refuse(w, nil, errors.New("password=hunter2"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	names := fault.New(fault.RejectedIdentifier, "names refused")
	names.Sub = []*fault.Error{fault.New(fault.RejectedIdentifier, "a.test is not allowed")}
	refuse(w, nil, names)
	if !strings.Contains(w.Body.String(), "a.test is not allowed") {
		t.Errorf("%s", w.Body)
	}
	if status(fault.Kind(255)) != 500 {
		t.Error("an unknown kind is not 500")
	}
}

// TestEST_E4_CACerts: the issuer first, up to the root, and a rollover's beside.
func TestEST_E4_CACerts(t *testing.T) {
	t.Parallel()
	newRootKey := issuancetest.NewKey(t)
	newRoot := newCA(t, "New Root", nil, nil, newRootKey.Public(), newRootKey)
	newWithOld := newCA(t, "New Root", newRoot, nil, newRootKey.Public(), newRootKey)
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}},
		Endpoint{Name: "roll", Label: "roll", Issuer: "ca", Profiles: []string{"device"}, Rollover: []*x509.Certificate{newRoot, newWithOld}},
		Endpoint{Name: "none", Label: "none", Issuer: "gone", Profiles: []string{"device"}})
	d := e.anonymous()
	r := d.do(t, http.MethodGet, "/cacerts", nil)
	if certs := readCertsOnly(t, r); len(certs) != 2 || !certs[0].Equal(e.issuing) || !certs[1].Equal(e.root) {
		t.Errorf("%d certificates", len(certs))
	}
	if r.header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" || r.header.Get("Content-Length") == "" {
		t.Errorf("header %v", r.header)
	}
	if certs := readCertsOnly(t, d.do(t, http.MethodGet, "/roll/cacerts", nil)); len(certs) != 4 ||
		!slices.ContainsFunc(certs, newWithOld.Equal) {
		t.Errorf("%d certificates during a rollover", len(certs))
	}
	want(t, d.do(t, http.MethodGet, "/cacerts", nil, "If-None-Match", r.header.Get("ETag")), 304)
	refused(t, d.do(t, http.MethodGet, "/none/cacerts", nil), 503, "no_issuer")

	// A root that is being replaced: the old one by the new one, and the chain over
	// it; not one that is over.
	oldWithNew := newCA(t, "Test Root", newRoot, nil, e.root.PublicKey, newRootKey)
	over := newCA(t, "Over", nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, newRootKey.Public(), newRootKey)
	rules := *e.pipeline.Rules()
	rules.CAs = ca.NewSet(ca.Of(rules.CAs.Get("ca").Issuer(), []*x509.Certificate{e.issuing, oldWithNew, newRoot}, []*x509.Certificate{e.issuing, over}))
	e.pipeline.Swap(rules)
	certs := readCertsOnly(t, d.do(t, http.MethodGet, "/cacerts", nil))
	if len(certs) != 4 || !certs[0].Equal(e.issuing) || !certs[2].Equal(oldWithNew) || !certs[3].Equal(newRoot) {
		t.Errorf("%d certificates of generations", len(certs))
	}
}

// attrs reads CsrAttrs into the types it holds; attributes keep their values.
func attrs(t *testing.T, r *response) map[string][]asn1.RawValue {
	t.Helper()
	want(t, r, 200)
	if ct := r.header.Get("Content-Type"); ct != "application/csrattrs" {
		t.Errorf("content type %q", ct)
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(r.body), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	var list []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	found := map[string][]asn1.RawValue{}
	for _, a := range list {
		var oid asn1.ObjectIdentifier
		if a.Tag == asn1.TagOID {
			_, err = asn1.Unmarshal(a.FullBytes, &oid)
			found[oid.String()] = nil
		} else {
			var v rawAttribute
			_, err = asn1.Unmarshal(a.FullBytes, &v)
			if _, twice := found[v.Type.String()]; twice {
				t.Errorf("%s twice", v.Type)
			}
			found[v.Type.String()] = v.Values
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestEST_E15_E16_CSRAttributes are made of the profile, as a list and as a template.
func TestEST_E15_E16_CSRAttributes(t *testing.T) {
	t.Parallel()
	var endpoints []Endpoint
	for _, p := range []string{"device", "p384", "rsa", "code-signing", "tls-server"} {
		endpoints = append(endpoints, Endpoint{Name: p, Label: p, Issuer: "ca", Profiles: []string{p}})
	}
	e := newEnv(t, endpoints...)
	get := func(label string) map[string][]asn1.RawValue {
		return attrs(t, e.anonymous().do(t, http.MethodGet, "/"+label+"/csrattrs", nil))
	}
	for label, a := range map[string]map[string][]asn1.RawValue{"device": get("device"), "p384": get("p384"), "rsa": get("rsa")} {
		if len(a[oidExtensionReq.String()]) != 1 {
			t.Errorf("%s: the extension request has %d values", label, len(a[oidExtensionReq.String()]))
		}
		if len(a[oidRequestTemplate.String()]) != 1 {
			t.Errorf("%s: no template", label)
		}
	}
	if a := get("device"); a[oidECKey.String()] != nil || a[oidRSAKey.String()] != nil {
		t.Error("device takes several kinds of keys and names one")
	}
	var curve asn1.ObjectIdentifier
	if v := get("p384")[oidECKey.String()]; len(v) != 1 {
		t.Error("p384 names no curve")
	} else if _, err := asn1.Unmarshal(v[0].FullBytes, &curve); err != nil || !curve.Equal(curves["ec-p384"]) {
		t.Errorf("curve %v %v", curve, err)
	}
	var bits int
	if v := get("rsa")[oidRSAKey.String()]; len(v) != 1 {
		t.Error("rsa names no size")
	} else if _, err := asn1.Unmarshal(v[0].FullBytes, &bits); err != nil || bits != 3072 {
		t.Errorf("size %d %v", bits, err)
	}

	type template struct {
		Version    int
		Subject    []asn1.RawValue `asn1:"optional"`
		KeyInfo    asn1.RawValue   `asn1:"optional,tag:0"`
		Attributes asn1.RawValue   `asn1:"tag:1"`
	}
	read := func(label string) (v template) {
		if rest, err := asn1.Unmarshal(get(label)[oidRequestTemplate.String()][0].FullBytes, &v); err != nil || len(rest) > 0 || v.Version != 0 {
			t.Fatalf("%s: %v", label, err)
		}
		return v
	}
	if v := read("code-signing"); len(v.Subject) != 1 || len(v.Subject[0].Bytes) != 7 { // SEQUENCE{OID 2.5.4.3} without a value
		t.Errorf("code-signing needs a CN and the template says %v", v.Subject)
	}
	if v := read("rsa"); !strings.Contains(string(v.KeyInfo.Bytes), string(marshal(t, oidRSAKey))) || len(v.KeyInfo.Bytes) < 3072/8 {
		t.Errorf("the placeholder has %d octets", len(v.KeyInfo.Bytes))
	}
	if v := read("tls-server"); !strings.Contains(string(v.Attributes.Bytes), string(marshal(t, struct{ OID asn1.ObjectIdentifier }{pki.OIDSubjectAltName}))) {
		t.Error("tls-server does not ask for alternative names")
	}
	if v := read("device"); v.Subject != nil || v.KeyInfo.FullBytes != nil {
		t.Error("device asks for what is the client's to say")
	}
}
