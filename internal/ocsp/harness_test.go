package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	authorities "github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/owncert"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/verify"
)

// signer is a key whose behaviour a test decides.
type signer struct {
	crypto.Signer
	fail atomic.Pointer[error]
	used atomic.Int64
}

func (s *signer) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.used.Add(1)
	if err := s.fail.Load(); err != nil {
		return nil, *err
	}
	return s.Sign(rand.Reader, digest, opts)
}

// clock is a test's time.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// lab is a root, an issuing CA on a store, and a responder for it.
type lab struct {
	t        testing.TB
	store    *store.Store
	clock    *clock
	root, ca *x509.Certificate
	rootKey  crypto.Signer
	key      *signer // of the issuing CA
	issuer   *issuer.Issuer
	rules    issuance.Rules
	pipeline *issuance.Pipeline
	server   *Server
	changes  func(ctx context.Context, each func(store.Change))
}

const caID = "web-1"

func newKey(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "ec-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const caUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature

func newLab(t testing.TB, s *store.Store, alg string) *lab {
	t.Helper()
	l := &lab{t: t, store: s, clock: &clock{}, key: &signer{Signer: newKey(t, alg)}, rootKey: newKey(t, "")}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0), KeyUsage: caUsage,
	}
	l.root = issuancetest.Certify(t, template, template, l.rootKey.Public(), l.rootKey)
	l.ca = issuancetest.Certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(0x1002), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: caUsage,
	}, l.root, l.key.Public(), l.rootKey)
	l.put("root", "", "offline", l.root)
	l.put(caID, "root", "active", l.ca)
	l.rules = issuance.Rules{Profiles: map[string]*profile.Profile{}, CAs: l.set()}
	l.issuer = l.rules.CAs.Get(caID).Issuer()
	var err error
	for name, cfg := range profile.BuiltIn() {
		if l.rules.Profiles[name], err = profile.Compile(name, cfg); err != nil {
			t.Fatal(err)
		}
	}
	l.pipeline = issuance.New(issuance.Config{Store: s, Node: s.Node(), Now: l.clock.now, Log: quiet()})
	l.pipeline.Swap(l.rules)
	return l
}

// set is the CAs whose rows are in the store.
func (l *lab) set() *authorities.Set {
	l.t.Helper()
	records, err := l.store.Issuers(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	set := authorities.Build(authorities.Inputs{
		Declared: []authorities.Declaration{{ID: caID, Locations: issuer.Locations{
			CRL: "http://ca.test/crl/web-1.crl", OCSP: "http://ca.test/ocsp/web-1",
			CAIssuers: "http://ca.test/issuers/web-1.cer",
		}}},
		Records: records, Keys: map[string]issuer.Signer{caID: l.key}, Now: l.clock.now(),
	})
	if err := set.Get(caID).Barred(); err != nil {
		l.t.Fatal(err)
	}
	return set
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (l *lab) put(id, parent, state string, c *x509.Certificate) {
	l.t.Helper()
	err := l.store.PutIssuer(l.t.Context(), store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: state, ParentID: parent, Certificate: c.Raw,
		Subject: c.Subject.String(), NotAfter: c.NotAfter, CreatedAt: time.Now(),
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) policy(change ...func(*Policy)) Policy {
	p := Policy{Mode: Presigned, Validity: 24 * time.Hour, Unknown: UnknownUnauthorized, Cache: 4 << 20}
	for _, c := range change {
		c(&p)
	}
	return p
}

// serve starts a responder in the lab's process and waits until it has looked.
func (l *lab) serve(policy Policy, sign func() (*issuer.Responder, error)) *Server {
	l.t.Helper()
	return l.serveAll(Authority{caID, Answers{policy, sign}})
}

// Authority is a CA that a test answers for.
type Authority struct {
	ID     string
	Answer Answers
}

// swap answers for these CAs, whose rows are in the store.
func (l *lab) swap(s *Server, all ...Authority) error {
	l.t.Helper()
	return s.Swap(l.set(), answers(all))
}

func answers(all []Authority) map[string]Answers {
	out := map[string]Answers{}
	for _, a := range all {
		out[a.ID] = a.Answer
	}
	return out
}

func (l *lab) serveAll(all ...Authority) *Server {
	l.t.Helper()
	s := New(Config{Store: l.store, Changes: l.changes, Now: l.clock.now, Log: quiet()})
	if err := l.swap(s, all...); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	l.t.Cleanup(func() { cancel(); running.Wait() })
	eventually(l.t, func() bool { return s.fresh(l.clock.now()) })
	l.server = s
	return s
}

// own is the responder with the CA's own key.
func (l *lab) own() func() (*issuer.Responder, error) {
	r, err := l.issuer.Responder()
	return func() (*issuer.Responder, error) { return r, err }
}

// delegated is the responder with a delegate that this lab's node keeps.
func (l *lab) delegated() *Delegate {
	l.t.Helper()
	d := NewDelegate(DelegateConfig{
		Folder: owncert.Folder{
			IssuerID: caID, Node: l.store.Node(), Dir: filepath.Join(l.t.TempDir(), "ocsp"),
			Secret: func() ([]byte, error) { return []byte("correct horse"), nil },
			Store:  l.store, Now: l.clock.now, Log: quiet(),
		},
		Pipeline: l.pipeline,
	})
	if err := d.Ensure(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return d
}

func eventually(t testing.TB, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatal("it did not happen within 10 s")
}

// issue gets a certificate through the door.
func (l *lab) issue(name string) *issuance.Certificate {
	l.t.Helper()
	c, err := l.pipeline.Issue(l.t.Context(), issuance.Request{
		Protocol: "operator", Profile: "tls-server", Issuer: caID, Origin: "request:" + store.NewID(),
		PublicKey: newKey(l.t, "").Public(), Names: []pki.Identifier{{Type: pki.DNS, Value: name}}, Subject: &pki.Name{}, Requester: "uid:0",
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

func (l *lab) revoke(c *issuance.Certificate, reason pki.Reason) {
	l.t.Helper()
	if err := l.pipeline.Revoke(context.Background(),
		issuance.Revocation{CertificateID: c.ID, Reason: reason, Requester: "uid:0", BlockKey: true}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) holds() {
	l.t.Helper()
	report, err := verify.CheckCA(context.Background(), l.store, verify.Config{Now: l.clock.now()})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range report.Findings {
		l.t.Errorf("CheckCA: %s", f)
	}
}

// ask builds a request.
type ask struct {
	ca      *x509.Certificate
	serials []*big.Int
	hash    crypto.Hash
	absent  bool // no parameters instead of NULL
	nonce   []byte
	edit    func(request *cryptobyte.Builder) // more requestExtensions
}

func (q ask) certID(b *cryptobyte.Builder, serial *big.Int) {
	h := q.hash
	if h == 0 {
		h = crypto.SHA256
	}
	key, _ := issuer.PublicKeyBits(q.ca)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) {
				for _, o := range hashOIDs {
					if o.hash == h {
						b.AddBytes(o.oid)
					}
				}
			})
			if !q.absent {
				b.AddASN1NULL()
			}
		})
		b.AddASN1OctetString(sum(h, q.ca.RawSubject))
		b.AddASN1OctetString(sum(h, key))
		b.AddASN1BigInt(serial)
	})
}

func (q ask) der() []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, s := range q.serials {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { q.certID(b, s) })
				}
			})
			if q.nonce != nil || q.edit != nil {
				b.AddASN1(explicit(2), func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						if q.nonce != nil {
							addExtension(b, oidNonce, func(b *cryptobyte.Builder) { b.AddASN1OctetString(q.nonce) })
						}
						if q.edit != nil {
							q.edit(b)
						}
					})
				})
			}
		})
	})
	return b.BytesOrPanic()
}

func (l *lab) ask(certs ...*issuance.Certificate) ask {
	q := ask{ca: l.ca}
	for _, c := range certs {
		q.serials = append(q.serials, c.Serial.Big())
	}
	return q
}

func post(h http.Handler, der []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/ocsp/"+caID, bytes.NewReader(der)))
	return w
}

func get(h http.Handler, der []byte) *httptest.ResponseRecorder {
	return getPath(h, "/ocsp/"+caID+"/"+url.PathEscape(base64.StdEncoding.EncodeToString(der)))
}

func getPath(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RequestURI = path
	h.ServeHTTP(w, r)
	return w
}

func pathOf(der []byte) string { return url.PathEscape(base64.StdEncoding.EncodeToString(der)) }

// discard is a ResponseWriter that costs nothing.
type discard struct{}

var discarded = http.Header{}

func (discard) Header() http.Header         { return discarded }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
