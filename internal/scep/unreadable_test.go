package scep

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/limit"
)

// signedBy writes a request anew, signed by RSA with a hash.
func signedBy(t testing.TB, key *rsa.PrivateKey, csr []byte, hash crypto.Hash, algorithm int) []byte {
	t.Helper()
	parsed, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	h := hash.New()
	h.Write(parsed.RawTBSCertificateRequest)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(parsed.RawTBSCertificateRequest)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, algorithm})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

const (
	md5WithRSA  = 4
	sha1WithRSA = 5
)

func flipped(der []byte, fromEnd int) []byte {
	der = slices.Clone(der)
	der[len(der)-fromEnd] ^= 1
	return der
}

// brokenRequests are contents that are not exactly one request whose own signature
// is right.
func brokenRequests(t testing.TB, d *device) map[string][]byte {
	t.Helper()
	good := d.csr(t, "victim", testSecret)
	ec, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ec"}}, ec)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"nothing":           {},
		"garbage":           []byte("garbage"),
		"PEM":               pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good}),
		"an octet more":     append(slices.Clone(good), 0),
		"two line feeds":    append(slices.Clone(good), '\n', '\n'),
		"CR LF":             append(slices.Clone(good), '\r', '\n'),
		"an octet less":     good[:len(good)-1],
		"the subject":       bytes.Replace(good, []byte("victim"), []byte("victjm"), 1),
		"the challenge":     bytes.Replace(good, []byte(testSecret), []byte("korrect horse battery"), 1),
		"the syntax":        bytes.Replace(good, []byte{0x02, 0x01, 0x00}, []byte{0x03, 0x01, 0x00}, 1),
		"the version":       bytes.Replace(good, []byte{0x02, 0x01, 0x00}, []byte{0x02, 0x01, 0x01}, 1),
		"the signature":     flipped(good, 1),
		"an ECDSA one":      flipped(small, 1),
		"an MD5 one":        flipped(signedBy(t, d.key, good, crypto.MD5, md5WithRSA), 1),
		"a SHA-1 one":       flipped(signedBy(t, d.key, good, crypto.SHA1, sha1WithRSA), 1),
		"an unknown one":    signedBy(t, d.key, good, crypto.SHA1, 99),
		"a subject, wrong":  flipped(d.csr(t, strings.Repeat("x", 65), ""), 1),
		"a Name, no serial": issuerAndSerial([]byte{0x30, 0}, big.NewInt(1)),
	}
}

// told is everything that the wire says of an answer, but for nonces, times and
// signatures.
type told struct {
	HTTP                      int
	Type                      string
	Status, FailInfo, Text    string
	Recipient                 string
	Content                   int
	Hash                      crypto.Hash
	Signer, RetryAfter, Cache string
}

func (d *device) told(t testing.TB, w *httptest.ResponseRecorder) told {
	t.Helper()
	r := d.read(t, w)
	return told{
		w.Code, w.Header().Get("Content-Type"), r.status, r.fail, r.text, string(r.recipient), len(r.content), r.hash,
		r.signer.SerialNumber.String(), w.Header().Get("Retry-After"), w.Header().Get("Cache-Control"),
	}
}

var refusals = map[string]struct {
	fail failInfo
	text string
}{
	"17": {badMessageCheck, errUnreadable.Detail}, "18": {badMessageCheck, errUnreadable.Detail}, "19": {badMessageCheck, errUnreadable.Detail},
	"20": {badCertID, errNothing.Detail}, "21": {badCertID, errNothing.Detail}, "22": {badCertID, errNothing.Detail},
}

// TestFS1_OneAnswer sends, in every messageType and signed by a stranger and by a
// holder of a certificate of ours, somebody's envelope broken in every way, and
// contents that do not parse or that name nothing.
func TestFS1_OneAnswer(t *testing.T) {
	t.Parallel()
	e := newLimitedEnv(t, unlimited(), func(ep *Endpoint) { ep.Manual = true })
	victim, stranger := newDevice(t, 0), newDevice(t, 1)
	holder := newDevice(t, 2).enrol(t, e, "holder") // by the transaction enrol-holder
	e.publishList(t)
	secret := victim.csr(t, "victim", testSecret)
	mine := issuerAndSerial(e.ca.RawSubject, holder.cert.SerialNumber)
	lookups := map[string][]byte{
		"garbage": []byte("garbage"), "a request": secret, "an octet more": append(slices.Clone(mine), 0),
		"unknown certificate":    issuerAndSerial(e.ca.RawSubject, big.NewInt(7)),
		"unknown issuer":         issuerAndSerial(holder.cert.RawSubject, big.NewInt(7)),
		"no such number":         issuerAndSerial(e.ca.RawSubject, big.NewInt(0)),
		"issuer that is no name": issuerAndSerial([]byte{0x30, 2, 5, 0}, big.NewInt(7)),
		"a huge number":          issuerAndSerial(e.ca.RawSubject, new(big.Int).Lsh(big.NewInt(1), 3000)),
		"two names":              issuerAndSubject(t, e, "holder"),
	}
	polls := map[string][]byte{
		"garbage": []byte("garbage"), "a request": secret, "a number": mine, "wrong subject": issuerAndSubject(t, e, "victim"),
		"an octet more":          append(issuerAndSubject(t, e, "holder"), 0),
		"issuer that is no name": issuerAndCommonName(t, []byte{0x30, 2, 5, 0}, "holder"),
	}
	requests := brokenRequests(t, victim)
	contents := map[string]map[string][]byte{"17": requests, "18": requests, "19": requests, "20": polls, "21": lookups, "22": lookups}
	for typ, want := range refusals {
		envelopes := map[string][]byte{"no envelope": {}, "half an envelope": {0x30, 0x80}}
		for kind := range 6 {
			envelopes[fmt.Sprint("damage ", kind)] = damage(t, e, kind, secret)
		}
		for name, content := range contents[typ] {
			envelope, err := cms.Encrypt(t.Context(), cms.OIDData, content, e.ra(), cms.AES128CBC, cms.KeyTransport{})
			if err != nil {
				t.Fatal(err)
			}
			envelopes[name] = envelope
		}
		for who, d := range map[string]*device{"stranger": stranger, "holder": holder} {
			first := told{
				HTTP: http.StatusOK, Type: typePKIAnswer,
				Status: pkiFailure, FailInfo: fmt.Sprint(int(want.fail)), Text: want.text + " [scep_unreadable]",
				Recipient: "0123456789abcdef", Hash: crypto.SHA256, Signer: e.ra().SerialNumber.String(), Cache: "no-store",
			}
			for name, envelope := range envelopes {
				got := d.told(t, e.post(d.wrap(t, e, message{typ: typ, transaction: "enrol-holder", envelope: envelope})))
				if diff := cmp.Diff(first, got); diff != "" {
					t.Errorf("type %s by a %s, %s: %s", typ, who, name, diff)
				}
			}
		}
	}
	right := message{typ: "20", transaction: "enrol-holder", content: issuerAndSubject(t, e, "holder")}
	if r := holder.read(t, e.post(holder.wrap(t, e, right))); r.status != pkiSuccess {
		t.Errorf("the poll that is right: %+v", r)
	}
}

// TestFS1_OtherCiphers: the content key of somebody's envelope, used with another
// cipher, tells no more than with its own.
func TestFS1_OtherCiphers(t *testing.T) {
	t.Parallel()
	e := newLimitedEnv(t, unlimited(), func(ep *Endpoint) { ep.TripleDES, ep.SingleDES = true, true })
	d := newDevice(t, 0)
	csr := d.csr(t, "victim", testSecret)
	for _, from := range []cms.Cipher{cms.AES128CBC, cms.AES256GCM, cms.TripleDES, cms.DES} {
		parsed := func(c cms.Cipher) []byte {
			envelope, err := cms.Encrypt(t.Context(), cms.OIDData, csr, e.ra(), c, cms.KeyTransport{})
			if err != nil {
				t.Fatal(err)
			}
			return envelope
		}
		key := envelopeKey(t, e, parsed(from))
		for _, to := range []cms.Cipher{cms.AES128CBC, cms.AES192CBC, cms.AES256CBC, cms.AES128GCM, cms.TripleDES, cms.DES} {
			if to == from {
				continue
			}
			envelope := parsed(to)
			copy(envelope[bytes.Index(envelope, envelopeKey(t, e, envelope)):], key)
			got := d.told(t, e.post(d.wrap(t, e, message{typ: "21", transaction: "x", envelope: envelope})))
			if got.FailInfo != "4" || got.Text != errNothing.Detail+" [scep_unreadable]" {
				t.Errorf("%v as %v: %+v", from, to, got)
			}
		}
	}
}

func envelopeKey(t testing.TB, e *env, envelope []byte) []byte {
	t.Helper()
	parsed, err := cms.ParseEnvelopedData(envelope, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.EncryptedKey(e.ra())
}

// TestFS1_OneTime: whatever is wrong, no answer comes before its time. How alike
// the times are is what test/load/scep-oracle measures.
func TestFS1_OneTime(t *testing.T) {
	t.Parallel()
	e := newLimitedEnv(t, unlimited())
	d := newDevice(t, 0)
	good := d.csr(t, "victim", testSecret)
	for typ := range refusals {
		for name, envelope := range map[string][]byte{"padding": damage(t, e, 3, good), "parse": damage(t, e, 4, good)} {
			der := d.wrap(t, e, message{typ: typ, transaction: "t", envelope: envelope})
			began := time.Now()
			d.told(t, e.post(der))
			if took := time.Since(began); took < step {
				t.Errorf("type %s, %s: answered after %v", typ, name, took)
			}
		}
	}
}

func (e *env) postFrom(address string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/scep/default?operation=PKIOperation", bytes.NewReader(body))
	r.RemoteAddr = address + ":4711"
	return e.send(r)
}

// wantLimited wants 503, and a time to come back of at most so many seconds.
func wantLimited(t testing.TB, what string, w *httptest.ResponseRecorder, within int) {
	t.Helper()
	after, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != http.StatusServiceUnavailable || err != nil || after < 1 || after > within || !strings.Contains(w.Body.String(), "cannot be read") {
		t.Fatalf("%s: %d, Retry-After %q, %s", what, w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// TestFS1_LimitBySource: a source may send so many, of every kind together, and
// then one at a time; what is readable waits no longer than for the next one, and
// other sources do not wait.
func TestFS1_LimitBySource(t *testing.T) {
	t.Parallel()
	bounds := unlimited()
	bounds.UnreadableBySource = limit.Rate{Count: 6, Per: time.Minute}
	e := newLimitedEnv(t, bounds)
	d := newDevice(t, 0)
	csr := d.csr(t, "victim", testSecret)
	bad := func(typ string, kind int) []byte {
		return d.wrap(t, e, message{typ: typ, transaction: "x", envelope: damage(t, e, kind, csr)})
	}
	good := d.wrap(t, e, message{typ: "19", transaction: "good", content: d.csr(t, "good", testSecret)})
	for i, typ := range []string{"17", "18", "19", "20", "21", "22"} {
		d.told(t, e.postFrom("192.0.2.7", bad(typ, i)))
	}
	for i, typ := range []string{"17", "18", "19", "20", "21", "22"} {
		wantLimited(t, typ, e.postFrom("192.0.2.7", bad(typ, i)), 10)
	}
	wantLimited(t, "a good one", e.postFrom("192.0.2.7", good), 10)
	d.told(t, e.postFrom("192.0.2.8", bad("19", 3)))
	e.sleep(10 * time.Second)
	for range 3 {
		if r := d.read(t, e.postFrom("192.0.2.7", good)); r.status != pkiSuccess {
			t.Fatalf("when it was to come back: %+v", r)
		}
	}
	d.told(t, e.postFrom("192.0.2.7", bad("19", 3)))
	wantLimited(t, "the next one", e.postFrom("192.0.2.7", bad("21", 3)), 10)
}

// TestFS1_LimitByEnvelope: an encrypted content key may be tried so often, from
// wherever, in whatever type, however its number is written.
func TestFS1_LimitByEnvelope(t *testing.T) {
	t.Parallel()
	bounds := unlimited()
	bounds.UnreadableByEnvelope = limit.Rate{Count: 4, Per: time.Hour}
	e := newLimitedEnv(t, bounds)
	d := newDevice(t, 0)
	envelope := damage(t, e, 3, d.csr(t, "victim", testSecret))
	types := []string{"19", "20", "21", "22", "17"}
	for i, typ := range types {
		envelope = flipped(envelope, 100+i) // another content each time
		w := e.postFrom(fmt.Sprint("192.0.2.", i), d.wrap(t, e, message{typ: typ, transaction: "x", envelope: envelope}))
		if i == len(types)-1 {
			wantLimited(t, "the fifth", w, 900)
			break
		}
		d.told(t, w)
	}
	d.enrol(t, e, "honest")
}

// TestFS1_LimitByRecipient: where one RA key got too many from all sources, each
// source has to make up for its own ones first, and who sent none does not notice.
func TestFS1_LimitByRecipient(t *testing.T) {
	t.Parallel()
	bounds := unlimited()
	bounds.UnreadableBySource = limit.Rate{Count: 60, Per: 10 * time.Minute}
	bounds.UnreadableByRecipient = limit.Rate{Count: 3, Per: time.Hour}
	e := newLimitedEnv(t, bounds)
	d := newDevice(t, 0)
	csr := d.csr(t, "victim", testSecret)
	bad := func(from string) *httptest.ResponseRecorder {
		return e.postFrom(from, d.wrap(t, e, message{typ: "21", transaction: "x", envelope: damage(t, e, 3, csr)}))
	}
	for range 3 {
		d.told(t, bad("192.0.2.1"))
	}
	wantLimited(t, "the fourth", bad("192.0.2.1"), 30)
	d.told(t, bad("192.0.2.2"))
	wantLimited(t, "another source", bad("192.0.2.2"), 10)
	good := d.wrap(t, e, message{typ: "19", transaction: "good", content: d.csr(t, "good", testSecret)})
	if r := d.read(t, e.postFrom("192.0.2.3", good)); r.status != pkiSuccess {
		t.Errorf("a source that sent none: %+v", r)
	}
	e.sleep(10 * time.Second)
	d.told(t, bad("192.0.2.2"))
}
