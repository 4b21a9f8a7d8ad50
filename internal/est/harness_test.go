package est

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/goleak"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const base = "/.well-known/est"

// env is a CA with an EST listener, all in memory but the store.
type env struct {
	store     *store.Store
	server    *Server
	pipeline  *issuance.Pipeline
	ca        *issuancetest.CA
	approvals *approval.Queue
	users     *credential.ESTUsers
	web       *httptest.Server
	signer    *issuancetest.Key
	root      *x509.Certificate
	issuing   *x509.Certificate
	ahead     atomic.Int64 // nanoseconds that the clock runs ahead
}

func (e *env) now() time.Time        { return time.Now().Add(time.Duration(e.ahead.Load())) }
func (e *env) sleep(d time.Duration) { e.ahead.Add(int64(d)) }

// extraProfiles are those of the tests, beside the built-in ones.
func extraProfiles() map[string]profile.Config {
	waiting := profile.BuiltIn()["device"]
	waiting.Approval = true
	ra := profile.BuiltIn()["device"]
	ra.ExtKeyUsage = []string{"clientAuth", "cmcRA"}
	onlyP384 := profile.BuiltIn()["device"]
	onlyP384.Keys = []string{"ec-p384"}
	onlyRSA := profile.BuiltIn()["device"]
	onlyRSA.Keys = []string{"rsa-3072+"}
	return map[string]profile.Config{"waiting": waiting, "ra": ra, "p384": onlyP384, "rsa": onlyRSA}
}

// newEnv returns a running server with the endpoints given, or with one without
// a label.
func newEnv(t testing.TB, endpoints ...Endpoint) *env {
	t.Helper()
	e := &env{store: storetest.SQLite(t)}
	if len(endpoints) == 0 {
		endpoints = []Endpoint{{Name: "est", Issuer: "ca", Profiles: []string{"device"}, Keygen: true}}
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ca := issuancetest.New(t, e.store, e.now, "ca", extraProfiles())
	e.ca = ca
	e.pipeline, e.signer, e.root, e.issuing = ca.Pipeline, ca.Key, ca.Root, ca.Issuing
	limits, err := limit.New(limit.Defaults(), e.store, e.now)
	if err != nil {
		t.Fatal(err)
	}
	e.users = credential.NewESTUsers(e.store, limits, e.now)
	e.approvals = approval.New(e.store, e.pipeline, e.now, log)
	own := e.serverCertificate(t)
	e.server, err = New(Config{Endpoints: endpoints}, Deps{
		Pipeline: e.pipeline, Approvals: e.approvals, Users: e.users, Limits: limits,
		Enrolment: enrolment.New(enrolment.Config{Store: e.store, Pipeline: e.pipeline, Limits: limits, Now: e.now}),
		Signer:    func() *tls.Certificate { return own }, Log: log, Now: e.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	r.Mount(base, e.server.Routes())
	e.web = httptest.NewUnstartedServer(r)
	e.web.TLS = e.server.TLS(&tls.Config{Certificates: []tls.Certificate{*own}, MinVersion: tls.VersionTLS12})
	e.web.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	e.web.StartTLS()
	t.Cleanup(e.web.Close)
	t.Cleanup(func() { e.verify(t) })
	return e
}

// verify holds the store against the invariants of a CA, once a test is over.
func (e *env) verify(t testing.TB) {
	t.Helper()
	report, err := verify.CheckCA(context.Background(), e.store, verify.Config{Now: e.now()})
	if fault.Is(err, fault.Unavailable) {
		return // the test took the store away
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Error(f)
	}
}

// serverCertificate asks the door for the certificate of the listener.
func (e *env) serverCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key := issuancetest.NewKey(t)
	csr := parseCSR(t, newCSR(t, key, "localhost", withDNS("localhost")))
	cert, err := e.pipeline.Issue(t.Context(), issuance.Request{
		Protocol: "server", Profile: "est-server", Issuer: "ca", Origin: "request:" + store.NewID(), CSR: csr, Requester: "server",
	})
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{cert.DER, e.issuing.Raw}, PrivateKey: key, Leaf: parseCert(t, cert.DER)}
}

// anyName is the binding of credentials that a test does not bind.
var anyName = pki.Binding{AnyName: true}

// addUser makes an EST user, for any name unless it is bound, and returns its password.
func (e *env) addUser(t testing.TB, u credential.NewESTUser) string {
	t.Helper()
	if !u.Binding.Binds() {
		u.Binding = anyName
	}
	_, password, err := e.users.Create(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return password
}

// device is a client with a key and perhaps a certificate and a password.
type device struct {
	e              *env
	key            crypto.Signer
	cert           *x509.Certificate
	chain          []*x509.Certificate
	user, password string
	tls            func(*tls.Config) // changes the client's settings; may be nil
}

// response is what came back.
type response struct {
	code   int
	header http.Header
	body   []byte
	tls    *tls.ConnectionState
}

func (e *env) anonymous() *device { return &device{e: e} }

// enrolled returns a device that has a certificate of ours.
func (e *env) enrolled(t testing.TB, cn string, options ...csrOption) *device {
	t.Helper()
	d := &device{e: e, key: issuancetest.NewKey(t)}
	d.cert = e.issue(t, "device", newCSR(t, d.key, cn, options...))
	return d
}

// issue asks the door for a certificate, past EST.
func (e *env) issue(t testing.TB, prof string, csr []byte) *x509.Certificate {
	t.Helper()
	cert, err := e.pipeline.Issue(t.Context(), issuance.Request{
		Protocol: "operator", Profile: prof, Issuer: "ca", Origin: "request:" + store.NewID(), CSR: parseCSR(t, csr), Requester: "uid:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	return parseCert(t, cert.DER)
}

func (d *device) client() *http.Client {
	c := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // who the server is is not what these tests are about
	if d.cert != nil {
		pair := tls.Certificate{Certificate: [][]byte{d.cert.Raw}, PrivateKey: d.key}
		for _, up := range d.chain {
			pair.Certificate = append(pair.Certificate, up.Raw)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if d.tls != nil {
		d.tls(c)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
}

// do sends a request; header fields come in pairs.
func (d *device) do(t testing.TB, method, path string, body []byte, header ...string) *response {
	t.Helper()
	return d.send(t, d.client(), method, path, body, header...)
}

func (d *device) send(t testing.TB, client *http.Client, method, path string, body []byte, header ...string) *response {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, d.e.web.URL+base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if d.user != "" {
		r.SetBasicAuth(d.user, d.password)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &response{res.StatusCode, res.Header, text, res.TLS}
}

// post sends a PKCS#10 as EST wants it.
func (d *device) post(t testing.TB, path string, csr []byte) *response {
	t.Helper()
	return d.do(t, http.MethodPost, path, encodeBody(csr), "Content-Type", typePKCS10)
}

func want(t testing.TB, r *response, code int) *response {
	t.Helper()
	if r.code != code {
		t.Fatalf("got %d %s, want %d", r.code, r.body, code)
	}
	return r
}

// refused wants an error in text with a reason (rule E8).
func refused(t testing.TB, r *response, code int, reason string) {
	t.Helper()
	want(t, r, code)
	if ct := r.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", ct)
	}
	if reason != "" && !strings.Contains(string(r.body), "("+reason+")") {
		t.Errorf("the answer %q lacks the reason %s", r.body, reason)
	}
}

// one returns the only certificate of an answer.
func one(t testing.TB, r *response) *x509.Certificate {
	t.Helper()
	certs := bagged(t, want(t, r, http.StatusOK))
	if len(certs) != 1 {
		t.Fatalf("%d certificates, want exactly one", len(certs))
	}
	return certs[0]
}

// bagged reads an answer that is a bag of certificates.
func bagged(t testing.TB, r *response) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(r.body), "\n"))
	if err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	s, err := cms.ParseSignedData(der, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Signers) != 0 || s.Content != nil {
		t.Error("the bag is not degenerate")
	}
	return s.Certificates
}

// enrol makes a key, enrols over EST and keeps the certificate.
func (d *device) enrol(t testing.TB, path, cn string) {
	t.Helper()
	key := issuancetest.NewKey(t)
	d.cert = one(t, d.post(t, path, newCSR(t, key, cn)))
	d.key = key
}

func parseCert(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var serials atomic.Int64

// newCA makes a CA certificate; a nil parent makes a root.
func newCA(t testing.TB, cn string, parent *x509.Certificate, change func(*x509.Certificate), pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-2 * time.Hour), NotAfter: now.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: -1,
	}
	if parent == nil {
		parent = c
		c.NotAfter = now.AddDate(10, 0, 0)
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return parseCert(t, der)
}

// decide approves or rejects a request that waits.
func (e *env) decide(t testing.TB, id string, approve bool) {
	t.Helper()
	var err error
	if approve {
		_, err = e.approvals.Approve(t.Context(), id, approval.Actor{Name: "uid:0"})
	} else {
		_, err = e.approvals.Reject(t.Context(), id, "not ours", approval.Actor{Name: "uid:0"})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (e *env) revoke(t testing.TB, id string, reason pki.Reason) {
	t.Helper()
	r := issuance.Revocation{CertificateID: id, Reason: reason, Requester: "uid:0", BlockKey: true}
	if err := e.pipeline.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}
