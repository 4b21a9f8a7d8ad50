package scep

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/seal"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

const testSecret = "correct horse battery"

// env is a CA with a SCEP server, all in memory but the store.
type env struct {
	store      *store.Store
	pipeline   *issuance.Pipeline
	approvals  *approval.Queue
	challenges *credential.SCEPChallenges
	server     *Server
	handler    http.Handler
	root       *x509.Certificate
	ca         *x509.Certificate
	caKey      *issuancetest.Key
	issuing    *issuancetest.CA
	ahead      atomic.Int64

	mu     sync.Mutex
	events []Event
}

func (e *env) now() time.Time        { return time.Now().Add(time.Duration(e.ahead.Load())) }
func (e *env) sleep(d time.Duration) { e.ahead.Add(int64(d)) }

// newEnv returns a server with the endpoint "default" and what change makes of it.
func newEnv(t testing.TB, change ...func(*Endpoint)) *env {
	t.Helper()
	return newLimitedEnv(t, limit.Defaults(), change...)
}

// unlimited is for tests that send more unreadable messages than anybody may.
func unlimited() limit.Config {
	bounds := limit.Defaults()
	bounds.UnreadableBySource, bounds.UnreadableByEnvelope, bounds.UnreadableByRecipient = limit.Rate{}, limit.Rate{}, limit.Rate{}
	return bounds
}

func newLimitedEnv(t testing.TB, bounds limit.Config, change ...func(*Endpoint)) *env {
	t.Helper()
	e := &env{store: storetest.SQLite(t)}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	waits := profile.BuiltIn()["device"]
	waits.Approval = true
	ca := issuancetest.New(t, e.store, e.now, "ca", map[string]profile.Config{"waiting": waits})
	e.issuing = ca
	e.pipeline, e.caKey, e.root, e.ca = ca.Pipeline, ca.Key, ca.Root, ca.Issuing
	limits, err := limit.New(bounds, e.store, e.now)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.New(bytes.Repeat([]byte{7}, seal.KEKSize))
	if err != nil {
		t.Fatal(err)
	}
	e.approvals = approval.New(e.store, e.pipeline, e.now, log)
	e.challenges = credential.NewSCEPChallenges(e.store, limits, e.now)
	ep := Endpoint{Name: "default", Issuer: "ca", Profiles: []string{"device", "waiting"}, DefaultProfile: "device", Secret: testSecret}
	for _, f := range change {
		f(&ep)
	}
	deps := Deps{
		Store: e.store, Pipeline: e.pipeline, Approvals: e.approvals, Challenges: e.challenges, Limits: limits, Sealer: sealer,
		Enrolment: enrolment.New(enrolment.Config{Store: e.store, Pipeline: e.pipeline, Limits: limits, Now: e.now}),
		Log:       log, Now: e.now, Observe: func(ev Event) { e.mu.Lock(); e.events = append(e.events, ev); e.mu.Unlock() },
	}
	if e.server, err = New([]Endpoint{ep}, deps); err != nil {
		t.Fatal(err)
	}
	if err := e.server.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	r.Mount("/scep", e.server.Routes())
	e.handler = r
	t.Cleanup(func() {
		report, err := verify.CheckCA(context.Background(), e.store, verify.Config{Now: e.now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			t.Error(f)
		}
	})
	return e
}

// device is a SCEP client: a key and the certificate that it signs with.
type device struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// spareKeys are shared by the tests: RSA keys are dear.
var spareKeys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

// newDevice returns a device with a throw-away certificate.
func newDevice(t testing.TB, n int) *device {
	t.Helper()
	d := &device{key: spareKeys()[n]}
	throwAway := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"}, NotAfter: time.Now().Add(time.Hour)}
	d.cert = issuancetest.Certify(t, throwAway, throwAway, d.key.Public(), d.key)
	return d
}

// csr returns a request of the device for a common name; a challenge of "" is
// left out.
func (d *device) csr(t testing.TB, cn, challenge string, change ...func(*x509.CertificateRequest)) []byte {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	if challenge != "" { // the field is deprecated, and the only way
		template.Attributes = []pkix.AttributeTypeAndValueSET{} //nolint:staticcheck // see above
		return withChallenge(t, d.key, cn, challenge, cbasn1.PrintableString)
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, d.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withChallenge writes a PKCS#10 by hand: crypto/x509 cannot write challenges.
func withChallenge(
	t testing.TB, key *rsa.PrivateKey, cn, challenge string, tag cbasn1.Tag, names ...pki.Identifier,
) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	subject, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	var extensions []byte
	if len(names) > 0 {
		san, err := pki.MarshalSAN(names)
		if err != nil {
			t.Fatal(err)
		}
		if extensions, err = asn1.Marshal([]pkix.Extension{{Id: pki.OIDSubjectAltName, Value: san}}); err != nil {
			t.Fatal(err)
		}
	}
	var info cryptobyte.Builder
	info.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7})
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(challenge)) })
				})
			})
			if len(names) == 0 {
				return
			}
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14})
				b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
			})
		})
	})
	tbs := info.BytesOrPanic()
	h := crypto.SHA256.New()
	h.Write(tbs)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

// message is a pkiMessage in the making.
type message struct {
	typ         string
	transaction string
	nonce       []byte
	content     []byte // to be encrypted; nil with envelope set
	envelope    []byte
	cipher      cms.Cipher
	hash        crypto.Hash
	pss         bool
	to          *x509.Certificate
}

func (e *env) ra() *x509.Certificate {
	return e.server.current()["default"].ras.list()[0].decrypt.cert
}

// wrap encrypts and signs a message as a device does.
func (d *device) wrap(t testing.TB, e *env, m message) []byte {
	t.Helper()
	if m.cipher == 0 {
		m.cipher = cms.AES128CBC
	}
	if m.to == nil {
		m.to = e.ra()
	}
	if m.envelope == nil {
		var err error
		if m.envelope, err = cms.Encrypt(t.Context(), cms.OIDData, m.content, m.to, m.cipher, cms.KeyTransport{}); err != nil {
			t.Fatal(err)
		}
	}
	if m.nonce == nil {
		m.nonce = []byte("0123456789abcdef")
	}
	attributes := []cms.Attribute{attribute(oidSenderNonce, cbasn1.OCTET_STRING, m.nonce)}
	if m.typ != "" {
		attributes = append(attributes, attribute(oidMessageType, cbasn1.PrintableString, []byte(m.typ)))
	}
	if m.transaction != "" {
		attributes = append(attributes, attribute(oidTransactionID, cbasn1.PrintableString, []byte(m.transaction)))
	}
	der, err := cms.Sign(cms.Message{Type: cms.OIDData, Content: m.envelope}, cms.Signer{
		Certificate: d.cert, Key: d.key, Hash: m.hash, SHA1: true, PSS: m.pss, Attributes: attributes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (e *env) send(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, r)
	return w
}

func (e *env) get(query string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/scep/default", nil)
	r.URL.RawQuery = query
	return e.send(r)
}

func (e *env) post(body []byte) *httptest.ResponseRecorder {
	return e.send(httptest.NewRequest(http.MethodPost, "/scep/default?operation=PKIOperation", bytes.NewReader(body)))
}

// rep is a CertRep as a client reads it.
type rep struct {
	status, fail, text, transaction string
	nonce, recipient                []byte
	content                         []byte
	signer                          *x509.Certificate
	hash                            crypto.Hash
	cipher                          cms.Cipher
	certs                           []*x509.Certificate
	crls                            [][]byte
}

// read verifies a CertRep and opens it.
func (d *device) read(t testing.TB, w *httptest.ResponseRecorder) rep {
	t.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != typePKIAnswer || w.Header().Get("Content-Length") == "" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	signed, err := cms.ParseSignedData(w.Body.Bytes(), cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	signers, err := signed.Verify(t.Context(), cms.Policy{SHA1: true})
	if err != nil {
		t.Fatal(err)
	}
	info := signed.Signers[0]
	text := func(oid asn1.ObjectIdentifier) string {
		s, _ := readString(info.Value(oid))
		return s
	}
	octets := func(oid asn1.ObjectIdentifier) (out []byte) {
		s := cryptobyte.String(info.Value(oid))
		s.ReadASN1Bytes(&out, cbasn1.OCTET_STRING)
		return out
	}
	if text(oidMessageType) != "3" {
		t.Errorf("messageType %q", text(oidMessageType))
	}
	r := rep{
		status: text(oidPKIStatus), fail: text(oidFailInfo), text: text(oidFailInfoText), transaction: text(oidTransactionID),
		nonce: octets(oidSenderNonce), recipient: octets(oidRecipientNonce), content: signed.Content, signer: signers[0], hash: info.Hash,
	}
	if r.status != pkiSuccess {
		return r
	}
	envelope, err := cms.ParseEnvelopedData(signed.Content, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r.cipher = envelope.Cipher
	bag, err := envelope.Decrypt(d.cert, d.key, cms.Policy{Ciphers: []cms.Cipher{envelope.Cipher}})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := cms.ParseSignedData(bag, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	r.certs, r.crls = inner.Certificates, inner.CRLs
	return r
}

// enrol gets a certificate by the shared secret and returns the device with it.
func (d *device) enrol(t testing.TB, e *env, cn string) *device {
	t.Helper()
	r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "enrol-" + cn, content: d.csr(t, cn, testSecret)})))
	if r.status != pkiSuccess || len(r.certs) != 1 {
		t.Fatalf("%+v", r)
	}
	return &device{d.key, r.certs[0]}
}

func wantFail(t testing.TB, r rep, fail failInfo, reason string) {
	t.Helper()
	if r.status != pkiFailure || r.fail != string(rune('0'+int(fail))) || !bytes.Contains([]byte(r.text), []byte("["+reason+"]")) || r.content != nil {
		t.Fatalf("status %s failInfo %s %q, content %d; want %s [%s]", r.status, r.fail, r.text, len(r.content), failInfoNames[fail], reason)
	}
}
