// Package enrolmenttest is one table of renewals that every protocol runs, so that
// all of them give the same verdict and the same reason code.
package enrolmenttest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
)

// Server is a running front-end with the endpoint "here".
type Server struct {
	Store     *store.Store
	CA        *issuancetest.CA // of the id "ca"
	Approvals *approval.Queue
	Now       func() time.Time
	Sleep     func(time.Duration)
	// NewKey returns another key at each call.
	NewKey func(testing.TB) crypto.Signer
	// Renew renews a certificate by the protocol and returns the new one, or the
	// reason code of the refusal; of a limit that is "limited", of what waits for a person "waits".
	Renew func(t testing.TB, cert *x509.Certificate, key crypto.Signer, csr []byte) (*x509.Certificate, string)
}

// world is a server in the middle of a case.
type world struct {
	*Server
	t     testing.TB
	rules enrolment.Rules
	key   crypto.Signer     // of the certificate
	cert  *x509.Certificate // to be renewed
	next  crypto.Signer     // key of the request
	csr   x509.CertificateRequest
}

// Run runs the cases of one row. open starts a server with the endpoint given.
func Run(t *testing.T, row string, open func(*testing.T, enrolment.Rules) *Server) {
	t.Helper()
	ran := false
	for _, c := range cases {
		name, ok := strings.CutPrefix(c.name, row+" ")
		if !ok {
			continue
		}
		ran = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, &c, open)
		})
	}
	if !ran {
		t.Errorf("no case of %s", row)
	}
}

func run(t *testing.T, c *testCase, open func(*testing.T, enrolment.Rules) *Server) {
	t.Helper()
	rules := enrolment.Rules{Endpoint: "here", Issuer: "ca", Profiles: []string{"device"}}
	if c.rules != nil {
		c.rules(&rules)
	}
	w := &world{Server: open(t, rules), t: t, rules: rules}
	w.key, w.next = w.NewKey(t), w.NewKey(t)
	if c.certificate != nil {
		w.cert = c.certificate(w)
	} else {
		w.cert = w.issue(issuance.Request{})
	}
	w.csr.RawSubject = w.cert.RawSubject
	w.csr.DNSNames = w.cert.DNSNames
	if c.change != nil {
		c.change(w)
	}
	if c.meanwhile != nil {
		w.decide(c.meanwhile, c.reason)
		return
	}
	got, reason := w.renew()
	if reason != c.reason {
		t.Fatalf("the reason is %q, want %q", reason, c.reason)
	}
	if reason == "" {
		w.same(got)
	}
}

// issue asks the door for a certificate of the key; empty fields have defaults.
func (w *world) issue(r issuance.Request) *x509.Certificate {
	w.t.Helper()
	subject, err := pki.ParseName("CN=device-9")
	if err != nil {
		w.t.Fatal(err)
	}
	ask := issuance.Request{
		Protocol: "operator", Profile: "device", Issuer: "ca", Requester: "uid:0", Origin: "request:" + store.NewID(),
		PublicKey: w.key.Public(), Subject: &subject,
		Names: []pki.Identifier{{Type: pki.DNS, Value: "b.test"}, {Type: pki.DNS, Value: "a.test"}},
	}
	for _, f := range []struct{ into, from *string }{
		{&ask.Protocol, &r.Protocol}, {&ask.Profile, &r.Profile}, {&ask.Issuer, &r.Issuer},
		{&ask.Requester, &r.Requester}, {&ask.Endpoint, &r.Endpoint},
	} {
		if *f.from != "" {
			*f.into = *f.from
		}
	}
	if r.Names != nil {
		ask.Names = r.Names
	}
	if r.Subject != nil {
		ask.Subject = r.Subject
	}
	made, err := w.CA.Pipeline.Issue(w.t.Context(), ask)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(made.DER)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// renew sends the request of the case.
func (w *world) renew() (*x509.Certificate, string) {
	w.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &w.csr, w.next)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Renew(w.t, w.cert, w.key, csr)
}

// decide has the renewal wait for a person, changes something, and wants the
// approval to be refused for the reason given, before and after it was shown.
func (w *world) decide(meanwhile func(*world), reason string) {
	w.t.Helper()
	w.approval()
	if _, got := w.renew(); got != "waits" {
		w.t.Fatalf("the renewal does not wait: %q", got)
	}
	id := w.waiting()
	meanwhile(w)
	v, err := w.Approvals.Show(w.t.Context(), id)
	w.must(err)
	if v.Preview.Allowed != (reason == "") || (len(v.Changes) > 0) != (reason != "") {
		w.t.Errorf("shown: allowed %t, changes %q", v.Preview.Allowed, v.Changes)
	}
	v, err = w.Approvals.Approve(w.t.Context(), id, approval.Actor{Name: "uid:1"})
	if reason == "" {
		w.must(err)
		if v.State != store.RequestIssued {
			w.t.Errorf("approved: %s", v.State)
		}
		return
	}
	if err == nil || fault.Of(err).Reason != reason {
		w.t.Errorf("approved: %v, want a refusal because %s", err, reason)
	}
	row, err := w.Store.Request(w.t.Context(), id)
	if err != nil || row.CertificateID != "" || row.Status != store.RequestPending {
		w.t.Errorf("afterwards: %+v, %v", row, err)
	}
}

// approval makes device a profile that wants a person.
func (w *world) approval() {
	w.t.Helper()
	cfg := profile.BuiltIn()["device"]
	cfg.Approval = true
	p, err := profile.Compile("device", cfg)
	w.must(err)
	w.CA.Change(func(r *issuance.Rules) { r.Profiles["device"] = p })
}

// waiting is the id of the one request that waits.
func (w *world) waiting() string {
	w.t.Helper()
	all, err := w.Approvals.List(w.t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 2})
	w.must(err)
	if len(all) != 1 {
		w.t.Fatalf("%d requests wait", len(all))
	}
	return all[0].ID
}

// same wants the names of the certificate renewed, octet by octet.
func (w *world) same(got *x509.Certificate) {
	w.t.Helper()
	if !bytes.Equal(got.RawSubject, w.cert.RawSubject) {
		w.t.Errorf("the subject %x was %x", got.RawSubject, w.cert.RawSubject)
	}
	if a, b := san(got), san(w.cert); !bytes.Equal(a, b) {
		w.t.Errorf("the alternative names %x were %x", a, b)
	}
}

func san(cert *x509.Certificate) []byte {
	for _, e := range cert.Extensions {
		if e.Id.String() == "2.5.29.17" {
			return e.Value
		}
	}
	return nil
}

func (w *world) row(cert *x509.Certificate) *store.Certificate {
	w.t.Helper()
	row, err := w.CA.Pipeline.Lookup(w.t.Context(), cert.Raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return row
}

func (w *world) revoke(cert *x509.Certificate, reason pki.Reason) {
	w.t.Helper()
	r := issuance.Revocation{CertificateID: w.row(cert).ID, Reason: reason, Requester: "uid:0", BlockKey: true}
	w.must(w.CA.Pipeline.Revoke(w.t.Context(), r))
}

// know puts a key on the list of known ones.
func (w *world) know(key crypto.Signer) {
	w.t.Helper()
	hash, err := pki.HashKey(key.Public())
	w.must(err)
	var list pki.KeyList
	w.must(list.Read(strings.NewReader(hash.String()), pki.KeyListSPKI))
	w.CA.Change(func(r *issuance.Rules) { r.KnownKeys = list })
}

// compromise puts a key on the list of those that were revoked as compromised.
func (w *world) compromise(key crypto.Signer) {
	w.t.Helper()
	mine := w.key
	w.key = key
	cert := w.issue(issuance.Request{Names: []pki.Identifier{}})
	w.key = mine
	w.revoke(cert, pki.KeyCompromise)
}

// account makes an ACME account and a certificate of it.
func (w *world) account() *x509.Certificate {
	w.t.Helper()
	a := store.Account{
		ID: "acct", Endpoint: "acme", Thumbprint: "t", JWK: []byte("{}"), Status: "valid", CreatedAt: w.Now(),
	}
	_, err := w.Store.CreateAccount(w.t.Context(), a, nil, store.Event{At: w.Now()})
	w.must(err)
	return w.issue(issuance.Request{Protocol: "acme", Endpoint: "acme", Requester: "account:acct"})
}

func (w *world) deactivate() {
	w.t.Helper()
	w.must(w.Store.UpdateAccount(w.t.Context(), "acct", nil, true, store.Event{At: w.Now()}))
}

// revokeAccount ends the account as an operator does.
func (w *world) revokeAccount() {
	w.t.Helper()
	w.must(w.Store.RevokeAccount(w.t.Context(), &store.Account{ID: "acct"}, nil, store.Event{At: w.Now()}))
}

// follow renews once and goes on with the certificate and the key of it.
func (w *world) follow() {
	w.t.Helper()
	got, reason := w.renew()
	if reason != "" {
		w.t.Fatalf("refused: %s", reason)
	}
	w.same(got)
	w.cert, w.key, w.next = got, w.next, w.NewKey(w.t)
}

// write writes a common name into the request, in the string type of the tag.
func (w *world) write(tag byte, value string) {
	body := append([]byte{0x06, 0x03, 0x55, 0x04, 0x03, tag, byte(len(value))}, value...)
	for _, t := range []byte{0x30, 0x31, 0x30} {
		body = append([]byte{t, byte(len(body))}, body...)
	}
	w.csr.RawSubject, w.csr.Subject = body, pkix.Name{}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(fault.Of(err), err)
	}
}
