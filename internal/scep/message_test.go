package scep

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
)

func TestSCEP_S1_S2_PathsAndOperations(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, suffix := range []string{"", "/", "/pkiclient.exe", "/cgi-bin/pkiclient.exe", "/certsrv/mscep/mscep.dll"} {
		for _, query := range []string{"operation=GetCACaps", "operation=getcacaps&message=x", "message=%zz&operation=GetCACaps"} {
			w := e.send(httptest.NewRequest(http.MethodGet, "/scep/default"+suffix+"?"+strings.ReplaceAll(query, "%zz", "a"), nil))
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != typeCaps {
				t.Errorf("%s?%s: %d %s", suffix, query, w.Code, w.Body)
			}
		}
	}
	for query, want := range map[string]int{"operation=Nonsense": 400, "": 400, "operation=GetNextCACert": 404, "operation=PKIOperation": 400} {
		if w := e.get(query); w.Code != want {
			t.Errorf("%s: %d %s, want %d", query, w.Code, w.Body, want)
		}
	}
	if w := e.send(httptest.NewRequest(http.MethodGet, "/scep/other?operation=GetCACaps", nil)); w.Code != http.StatusNotFound {
		t.Errorf("unknown endpoint: %d", w.Code)
	}
	for _, op := range []string{"GetCACaps", "PKIOperation"} {
		w := e.send(httptest.NewRequest(http.MethodPut, "/scep/default?operation="+op, nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
			t.Errorf("PUT %s: %d %v", op, w.Code, w.Header())
		}
	}
}

// TestSCEP_S3_GET sends one message in every spelling that clients are known to
// use.
func TestSCEP_S3_GET(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	der := d.wrap(t, e, message{typ: "19", transaction: "get", content: d.csr(t, "get-1", testSecret)})
	for !strings.ContainsAny(base64.StdEncoding.EncodeToString(der), "+") {
		der = d.wrap(t, e, message{typ: "19", transaction: "get", content: d.csr(t, "get-1", testSecret)})
	}
	b64 := base64.StdEncoding.EncodeToString(der)
	var wrapped strings.Builder
	for i := 0; i < len(b64); i += 64 {
		wrapped.WriteString(b64[i:min(i+64, len(b64))] + "%0A")
	}
	for name, text := range map[string]string{
		"all escaped":            url.QueryEscape(b64),
		"plus raw":               b64,
		"only = escaped (macOS)": strings.ReplaceAll(b64, "=", "%3D"),
		"wrapped (IOS 2800)":     wrapped.String(),
		"wrapped with CRLF":      strings.ReplaceAll(wrapped.String(), "%0A", "%0d%0a"),
		"no padding":             strings.TrimRight(b64, "="),
		"url-safe":               base64.RawURLEncoding.EncodeToString(der),
	} {
		if r := d.read(t, e.get("operation=PKIOperation&message="+text)); r.status != pkiSuccess {
			t.Errorf("%s: %+v", name, r)
		}
		if r := d.read(t, e.get("message="+text+"&operation=PKIOperation")); r.status != pkiSuccess {
			t.Errorf("%s, other order: %+v", name, r)
		}
	}
	for _, bad := range []string{"", "%", "%4", "%zz", "@@@@", "AAA=AAA", "%00"} {
		if w := e.get("operation=PKIOperation&message=" + bad); w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", bad, w.Code)
		}
	}
}

func TestSCEP_S4_AnyContentType(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	for _, typ := range []string{"", "application/x-pki-message", "text/html", "nonsense"} {
		r := httptest.NewRequest(http.MethodPost, "/scep/default?operation=PKIOperation",
			bytes.NewReader(d.wrap(t, e, message{typ: "19", transaction: "type", content: d.csr(t, "type-1", testSecret)})))
		if typ != "" {
			r.Header.Set("Content-Type", typ)
		}
		if got := d.read(t, e.send(r)); got.status != pkiSuccess {
			t.Errorf("%q: %+v", typ, got)
		}
	}
}

// TestSCEP_S5_S28_WhatHTTPTells: what cannot be parsed is 4xx, what cannot be
// answered now is 5xx; all else is a CertRep.
func TestSCEP_S5_S28_WhatHTTPTells(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	for name, c := range map[string]struct {
		body []byte
		code int
	}{
		"empty":          {nil, 400},
		"garbage":        {[]byte("hello"), 400},
		"too large":      {make([]byte, maxMessage+1), 413},
		"no transaction": {d.wrap(t, e, message{typ: "19", content: d.csr(t, "x", testSecret)}), 400},
	} {
		if w := e.post(c.body); w.Code != c.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	away := error(fault.New(fault.Unavailable, "the HSM is away").After(7 * time.Second))
	e.caKey.Broken.Store(&away)
	w := e.post(d.wrap(t, e, message{typ: "19", transaction: "hsm", content: d.csr(t, "hsm-1", testSecret)}))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("HSM away: %d %v", w.Code, w.Header())
	}
	e.caKey.Broken.Store(nil)
	if r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "hsm", content: d.csr(t, "hsm-1", testSecret)}))); r.status != pkiSuccess {
		t.Errorf("HSM back: %+v", r)
	}
}

func TestSCEP_S6_Caps(t *testing.T) {
	t.Parallel()
	caps := func(change ...func(*Endpoint)) string {
		return newEnv(t, change...).get("operation=GetCACaps").Body.String()
	}
	if got := caps(); got != "AES\nPOSTPKIOperation\nRenewal\nSHA-256\nSHA-384\nSHA-512\nSCEPStandard\n" {
		t.Errorf("%q", got)
	}
	got := caps(func(ep *Endpoint) { ep.TripleDES, ep.SHA1, ep.NextIssuer = true, true, "ca" })
	for _, want := range []string{"DES3\n", "SHA-1\n", "GetNextCACert\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestSCEP_S7_S8_S9_S11_GetCACert(t *testing.T) {
	t.Parallel()
	for bundle, want := range map[string]int{"ra-only": 1, "": 2, "ra+ca": 2, "full": 3} {
		for _, separate := range []bool{false, true} {
			e := newEnv(t, func(ep *Endpoint) { ep.CABundle, ep.SeparateRAKeys = bundle, separate })
			w := e.get("operation=GetCACert")
			var certs []*x509.Certificate
			if w.Header().Get("Content-Type") == typeCA {
				c, err := x509.ParseCertificate(w.Body.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				certs = append(certs, c)
			} else if bag, err := cms.ParseSignedData(w.Body.Bytes(), cms.Limits{}); err != nil {
				t.Fatal(err)
			} else {
				certs = bag.Certificates
			}
			n := want
			if separate {
				n++
			}
			if len(certs) != n || (n == 1) != (w.Header().Get("Content-Type") == typeCA) {
				t.Fatalf("%s: %d certificates, %s", bundle, len(certs), w.Header().Get("Content-Type"))
			}
			for i, c := range certs {
				if encipher := c.KeyUsage&x509.KeyUsageKeyEncipherment != 0; encipher != (i == 0) {
					t.Errorf("%s: certificate %d has keyEncipherment %v", bundle, i, encipher)
				}
			}
			if certs[0].IsCA || certs[0].PublicKeyAlgorithm != x509.RSA || certs[0].CheckSignatureFrom(e.ca) != nil {
				t.Errorf("the RA certificate: %v", certs[0].Subject)
			}
			d := newDevice(t, 0)
			if got := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "x", content: d.csr(t, "x-1", testSecret)}))); got.status != pkiSuccess {
				t.Errorf("%+v", got)
			}
		}
	}
}

func TestSCEP_S12_GetNextCACert(t *testing.T) {
	t.Parallel()
	w := newEnv(t, func(ep *Endpoint) { ep.NextIssuer = "ca" }).get("operation=GetNextCACert")
	signed, err := cms.ParseSignedData(w.Body.Bytes(), cms.Limits{})
	if err != nil || w.Header().Get("Content-Type") != typeNextCA {
		t.Fatal(err, w.Header())
	}
	if _, err := signed.Verify(t.Context(), cms.Policy{}); err != nil {
		t.Error(err)
	}
	bag, err := cms.ParseSignedData(signed.Content, cms.Limits{})
	if err != nil || len(bag.Certificates) != 1 {
		t.Errorf("%v %v", err, bag)
	}
}

func TestSCEP_S13_S15_S16_Success(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(ep *Endpoint) { ep.CAInReply = true })
	d := newDevice(t, 0)
	nonce := []byte("my own nonce 123")
	der := d.wrap(t, e, message{typ: "19", transaction: "t+/=1", nonce: nonce, content: d.csr(t, "ok-1", testSecret), hash: crypto.SHA512, cipher: cms.AES256CBC})
	r, again := d.read(t, e.post(der)), d.read(t, e.post(der))
	if r.transaction != "t+/=1" || !bytes.Equal(r.recipient, nonce) || bytes.Equal(r.nonce, nonce) || len(r.nonce) != nonceSize || bytes.Equal(r.nonce, again.nonce) {
		t.Errorf("%+v", r)
	}
	if r.hash != crypto.SHA512 || r.cipher != cms.AES256CBC || len(r.certs) != 2 || r.certs[0].Subject.CommonName != "ok-1" || !r.certs[1].Equal(e.ca) {
		t.Errorf("%+v", r)
	}
	if !r.signer.Equal(e.ra()) {
		t.Errorf("signed by %v", r.signer.Subject)
	}
	if !again.certs[0].Equal(r.certs[0]) {
		t.Error("the same message got another certificate")
	}
}

func TestSCEP_S14_ClockSkew(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	old := &x509.Certificate{SerialNumber: d.cert.SerialNumber, Subject: d.cert.Subject, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(3600, 0)}
	d.cert = issuancetest.Certify(t, old, old, d.key.Public(), d.key)
	if r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "1970", content: d.csr(t, "skew-1", testSecret)}))); r.status != pkiSuccess {
		t.Errorf("%+v", r)
	}
}

func TestSCEP_S17_S18_S24_Refusals(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d, other := newDevice(t, 0), newDevice(t, 1)
	good := d.csr(t, "dev-1", testSecret)
	forged := d.wrap(t, e, message{typ: "19", transaction: "r", content: good})
	forged[len(forged)-1] ^= 1
	ec := issuancetest.NewKey(t)
	for name, c := range map[string]struct {
		der    []byte
		fail   failInfo
		reason string
	}{
		"CertRep":         {d.wrap(t, e, message{typ: "3", transaction: "r", content: good}), badRequest, "scep_message_type"},
		"unknown type":    {d.wrap(t, e, message{typ: "99", transaction: "r", content: good}), badRequest, "scep_message_type"},
		"huge type":       {d.wrap(t, e, message{typ: "99999999999999999999", transaction: "r", content: good}), badRequest, "scep_message_type"},
		"no type":         {d.wrap(t, e, message{transaction: "r", content: good}), badRequest, "scep_message_type"},
		"SHA-1":           {d.wrap(t, e, message{typ: "19", transaction: "r", content: good, hash: crypto.SHA1}), badAlg, "digest_sha1"},
		"3DES":            {d.wrap(t, e, message{typ: "19", transaction: "r", content: good, cipher: cms.TripleDES}), badAlg, "content_cipher"},
		"DES":             {d.wrap(t, e, message{typ: "19", transaction: "r", content: good, cipher: cms.DES}), badAlg, "content_cipher"},
		"forged":          {forged, badMessageCheck, "cms_signature"},
		"other recipient": {d.wrap(t, e, message{typ: "19", transaction: "r", content: good, to: other.cert}), badMessageCheck, "cms_recipient"},
		"no content":      {d.wrap(t, e, message{typ: "19", transaction: "r", envelope: []byte{}}), badMessageCheck, "scep_unreadable"},
		"other key":       {other.wrap(t, e, message{typ: "19", transaction: "r", content: good}), badRequest, "scep_key_mismatch"},
		"wrong secret":    {d.wrap(t, e, message{typ: "19", transaction: "r", content: d.csr(t, "dev-1", "guess")}), badRequest, "scep_challenge_wrong"},
		"no secret":       {d.wrap(t, e, message{typ: "19", transaction: "r", content: d.csr(t, "dev-1", "")}), badRequest, "scep_challenge_missing"},
		"renewal by none": {d.wrap(t, e, message{typ: "17", transaction: "r", content: good}), badRequest, "renewal_signer"},
	} {
		if r := d.read(t, e.post(c.der)); r.fail != string(rune('0'+int(c.fail))) || !strings.Contains(r.text, "["+c.reason+"]") || r.content != nil || r.transaction != "r" {
			t.Errorf("%s: %+v, want %s [%s]", name, r, failInfoNames[c.fail], c.reason)
		}
	}
	signer := issuancetest.Certify(t, &x509.Certificate{SerialNumber: d.cert.SerialNumber, NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, ec.Public(), ec)
	envelope, err := cms.Encrypt(t.Context(), cms.OIDData, good, e.ra(), cms.AES128CBC, cms.KeyTransport{})
	if err != nil {
		t.Fatal(err)
	}
	der, err := cms.Sign(cms.Message{Content: envelope}, cms.Signer{Certificate: signer, Key: ec, Attributes: []cms.Attribute{
		attribute(oidTransactionID, cbasn1.PrintableString, []byte("ec")), attribute(oidMessageType, cbasn1.PrintableString, []byte("19")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantFail(t, d.read(t, e.post(der)), badAlg, "scep_signer_key")
}

// TestSCEP_S24_MD5 is the default of Cisco IOS 2800: rsaEncryption over MD5.
func TestSCEP_S24_MD5(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	der := d.wrap(t, e, message{typ: "19", transaction: "md5", content: d.csr(t, "ios", testSecret), hash: crypto.SHA1})
	md5 := []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05}
	changed := replaceElement(der, []byte{0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a}, md5)
	if !bytes.Contains(changed, md5) {
		t.Fatal("no MD5 in the message")
	}
	wantFail(t, d.read(t, e.post(changed)), badAlg, "digest_md5")
}

// replaceElement replaces every element of a DER that is from.
func replaceElement(der, from, to []byte) []byte {
	var out []byte
	for input := cryptobyte.String(der); !input.Empty(); {
		var whole, body cryptobyte.String
		var tag cbasn1.Tag
		if !input.ReadAnyASN1Element(&whole, &tag) {
			return der
		}
		inner := whole
		inner.ReadAnyASN1(&body, &tag)
		switch {
		case bytes.Equal(whole, from):
			out = append(out, to...)
		case tag&0x20 != 0: // constructed
			var b cryptobyte.Builder
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(replaceElement(body, from, to)) })
			out = append(out, b.BytesOrPanic()...)
		default:
			out = append(out, whole...)
		}
	}
	return out
}

func TestSCEP_S21_S22_Challenges(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	create := func(n credential.NewSCEPChallenge) string {
		_, secret, err := e.challenges.Create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	once := create(credential.NewSCEPChallenge{MaxUses: 1, Binding: pki.Binding{Subject: "CN=router-7"}})
	send := func(tx, cn, secret string, tag cbasn1.Tag) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: withChallenge(t, d.key, cn, secret, tag)})))
	}
	wantFail(t, send("a", "router-8", once, cbasn1.PrintableString), badRequest, "scep_challenge_wrong_subject")
	first := send("b", "router-7", once, cbasn1.UTF8String)
	if first.status != pkiSuccess {
		t.Fatalf("%+v", first)
	}
	if r := send("b", "router-7", once, cbasn1.UTF8String); r.status != pkiSuccess || !r.certs[0].Equal(first.certs[0]) {
		t.Errorf("a retransmission: %+v", r)
	}
	wantFail(t, send("c", "router-7", once, cbasn1.UTF8String), badRequest, "scep_challenge_used_up")
	for _, tag := range []cbasn1.Tag{cbasn1.T61String, cbasn1.IA5String} {
		if r := send("tag", "tag-1", testSecret, tag); r.status != pkiSuccess && !strings.Contains(r.text, "transaction_reused") {
			t.Errorf("tag %d: %+v", tag, r)
		}
	}
	// Those of device management are several KB (rule S22).
	wantFail(t, send("long", "long-1", strings.Repeat("x", 6000), cbasn1.PrintableString), badRequest, "scep_challenge_wrong")
}

func TestSCEP_S19_SameTransaction(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	send := func(cn string) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "same", content: d.csr(t, cn, testSecret)})))
	}
	first := send("one")
	if again := send("one"); first.status != pkiSuccess || !again.certs[0].Equal(first.certs[0]) {
		t.Fatalf("%+v", again)
	}
	wantFail(t, send("two"), badRequest, "transaction_reused")
	e.sleep(25 * time.Hour)
	if later := send("one"); later.status != pkiSuccess || later.certs[0].Equal(first.certs[0]) {
		t.Errorf("a day later: %+v", later)
	}
}

func TestSCEP_S28_Lockout(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	wrong := d.wrap(t, e, message{typ: "19", transaction: "w", content: d.csr(t, "dev", "guess")})
	for range 10 {
		wantFail(t, d.read(t, e.post(wrong)), badRequest, "scep_challenge_wrong")
	}
	for _, der := range [][]byte{wrong, d.wrap(t, e, message{typ: "19", transaction: "r", content: d.csr(t, "dev", testSecret)})} {
		if w := e.post(der); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("locked out: %d", w.Code)
		}
	}
	e.sleep(11 * time.Minute)
	d.enrol(t, e, "dev")
}
