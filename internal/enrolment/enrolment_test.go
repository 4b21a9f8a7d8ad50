package enrolment_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
)

// env is a CA and its enrolment; two requests of a line are allowed in an hour.
type env struct {
	*enrolment.Enrolment
	t   *testing.T
	st  *store.Store
	ca  *issuancetest.CA
	key crypto.Signer
}

var here = enrolment.Rules{Endpoint: "here", Issuer: "ca", Profiles: []string{"device"}}

func newEnv(t *testing.T, st *store.Store) *env {
	t.Helper()
	e := &env{t: t, st: st, ca: issuancetest.New(t, st, time.Now, "ca", nil), key: issuancetest.NewKey(t)}
	limits, err := limit.New(limit.Config{Enrolments: limit.Rate{Count: 2, Per: time.Hour}}, st, time.Now)
	e.must(err)
	e.Enrolment = enrolment.New(enrolment.Config{Store: st, Pipeline: e.ca.Pipeline, Limits: limits, Now: time.Now})
	return e
}

func (e *env) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// issue asks the door and returns the holder of the certificate.
func (e *env) issue(cn string, r issuance.Request) *enrolment.Holder {
	e.t.Helper()
	subject := pki.CommonNameOnly(cn)
	r.Subject, r.Names, r.PublicKey = &subject, []pki.Identifier{}, e.key.Public()
	r.Profile, r.Issuer, r.Origin = "device", "ca", "request:"+store.NewID()
	made, err := e.ca.Pipeline.Issue(e.t.Context(), r)
	e.must(err)
	return e.holder(made.DER)
}

func (e *env) holder(der []byte) *enrolment.Holder {
	e.t.Helper()
	cert, err := x509.ParseCertificate(der)
	e.must(err)
	h, err := e.Holder(e.t.Context(), cert)
	e.must(err)
	return h
}

// heir returns a certificate that was enrolled by the power of another one, as
// earlier releases put it on record: without naming the first of the line.
func (e *env) heir(of *enrolment.Holder, cn string) *enrolment.Holder {
	e.t.Helper()
	const digest = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	return e.issue(cn, issuance.Request{Protocol: "est", Requester: of.Identity(), Lineage: digest})
}

func (e *env) account() *enrolment.Holder {
	e.t.Helper()
	now := time.Now()
	a := store.Account{ID: "acct", Endpoint: "acme", Thumbprint: "t", JWK: []byte("{}"), Status: "valid"}
	a.CreatedAt = now
	_, err := e.st.CreateAccount(e.t.Context(), a, nil, store.Event{At: now})
	e.must(err)
	return e.issue("device-9", issuance.Request{Protocol: "acme", Requester: "account:acct"})
}

func (e *env) check(h *enrolment.Holder, rules enrolment.Rules, reason string) {
	e.t.Helper()
	err := e.Check(e.t.Context(), rules, h, true)
	if reason == "" {
		e.must(err)
		return
	}
	if !fault.Is(err, fault.Denied) || fault.Of(err).Reason != reason {
		e.t.Errorf("got %v, want %s", err, reason)
	}
}

// TestFS17_AccountEndsItsLine at once, on both engines, also for what was renewed
// by the power of its certificate, in this release or an earlier one.
func TestFS17_AccountEndsItsLine(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		e := newEnv(t, st)
		first := e.account()
		heir := issuance.Request{Protocol: "est", Requester: first.Identity(), Lineage: first.Line()}
		renewed := e.issue("device-9", heir)
		heir.Requester = "est_user:u"
		byPassword := e.issue("device-9", heir)
		old := e.heir(e.heir(first, "device-9"), "Device-9")
		heir.Requester, heir.Lineage = old.Identity(), old.Line()
		oldRenewed := e.issue("device-9", heir)
		line := []*enrolment.Holder{first, renewed, byPassword, old, oldRenewed}
		others := []*enrolment.Holder{
			e.issue("device-9", issuance.Request{Protocol: "est", Requester: "est_user:u"}),
			e.heir(first, "enrolled by a registration authority"),
		}
		only := here
		only.Protocols = []string{"est"}
		for _, h := range line {
			e.check(h, here, "")
			e.check(h, only, "certificate_other_protocol")
			if h.Line() != first.Row.ID {
				t.Errorf("the line of %s is %s, want %s", h.Row.ID, h.Line(), first.Row.ID)
			}
		}
		e.must(st.UpdateAccount(t.Context(), "acct", nil, true, store.Event{At: time.Now()}))
		for _, h := range line {
			e.check(h, here, "certificate_account")
		}
		for _, h := range others {
			e.check(h, only, "")
		}
	})
}

// TestFS13_LinesAreCounted by what they began with, whatever they are called now.
func TestFS13_LinesAreCounted(t *testing.T) {
	for name, next := range map[string]func(*env, *enrolment.Holder) *enrolment.Holder{
		"the same": func(_ *env, h *enrolment.Holder) *enrolment.Holder { return h },
		"other names by its power": func(e *env, h *enrolment.Holder) *enrolment.Holder {
			return e.issue("device-8", issuance.Request{Requester: h.Identity(), Lineage: h.Line()})
		},
		"the same names anew": func(e *env, _ *enrolment.Holder) *enrolment.Holder {
			return e.issue("\uff24evice-9", issuance.Request{Requester: "est_user:v", Protocol: "est"})
		},
		"of an earlier release": func(e *env, h *enrolment.Holder) *enrolment.Holder { return e.heir(h, "Device-9") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, storetest.SQLite(t))
			first := e.issue("device-9", issuance.Request{Requester: "est_user:u", Protocol: "est"})
			e.must(e.Count(t.Context(), first))
			e.must(e.Count(t.Context(), first))
			if err := e.Count(t.Context(), next(e, first)); !fault.Is(err, fault.RateLimited) {
				t.Errorf("got %v, want RateLimited", err)
			}
			another := e.issue("device-7", issuance.Request{Requester: "est_user:u", Protocol: "est"})
			e.must(e.Count(t.Context(), another))
			e.must(e.Count(t.Context(), e.heir(first, "enrolled by a registration authority")))
		})
	}
}

// TestFS13_ForeignCertificate: lines that the certificate of somebody else began
// are counted as one.
func TestFS13_ForeignCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t, storetest.SQLite(t))
	for _, cn := range []string{"a", "b"} {
		e.must(e.Count(t.Context(), e.issue(cn, issuance.Request{Requester: "certificate_sha256:00"})))
	}
	third := e.issue("c", issuance.Request{Requester: "certificate_sha256:00"})
	if err := e.Count(t.Context(), third); !fault.Is(err, fault.RateLimited) {
		t.Errorf("got %v, want RateLimited", err)
	}
}

// TestFS15_ImportedSubject: string types that this CA would not write are carried
// over.
func TestFS15_ImportedSubject(t *testing.T) {
	t.Parallel()
	e := newEnv(t, storetest.SQLite(t))
	subject, err := asn1.Marshal(pkix.Name{CommonName: "device-9"}.ToRDNSequence()) // a PrintableString
	e.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(99), RawSubject: subject, DNSNames: []string{"a.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert := issuancetest.Certify(t, template, e.ca.Issuing, e.key.Public(), e.ca.Key.Private)
	now := time.Now()
	_, err = e.st.ImportCertificates(t.Context(), []store.Certificate{{
		ID: store.NewID(), IssuerID: "ca", Serial: pki.SerialFromBig(cert.SerialNumber), Profile: "device",
		Protocol: "imported", Requester: "uid:0", Origin: "imported:1", ReservedAt: now, IssuedAt: &now, DER: cert.Raw,
		Subject: "CN=device-9", Names: []pki.Identifier{{Type: pki.DNS, Value: "a.test"}},
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}}, store.Event{At: now})
	e.must(err)
	h := e.holder(cert.Raw)
	rules := here
	rules.Protocols = []string{"operator"}
	e.check(h, rules, "")
	rules.Protocols = []string{"est"}
	e.check(h, rules, "certificate_other_protocol")

	ask, err := e.Renewal(h, &pki.CSR{PublicKey: e.key.Public(), Subject: pki.CommonNameOnly("DEVICE-9")})
	e.must(err)
	ask.CSR, ask.PublicKey, ask.Issuer = nil, e.key.Public(), "ca"
	ask.Origin, ask.Requester = "request:"+store.NewID(), h.Identity()
	made, err := e.ca.Pipeline.Issue(t.Context(), ask)
	e.must(err)
	again := e.holder(made.DER)
	if !bytes.Equal(again.Certificate.RawSubject, subject) {
		t.Errorf("the subject %x was %x", again.Certificate.RawSubject, subject)
	}
	if again.Line() != h.Row.ID {
		t.Error("the renewal began a line of its own")
	}
}

// TestFS7_NoBasis: what a request rested on and cannot be read any more lets nobody in.
func TestFS7_NoBasis(t *testing.T) {
	t.Parallel()
	e := newEnv(t, storetest.SQLite(t))
	for name, b := range map[string]issuance.Basis{"of nothing": {}, "of a certificate that is gone": {Holder: "gone"}} {
		chain, err := e.Chain(t.Context(), b)
		if !fault.Is(err, fault.Denied) || fault.Of(err).Reason != "certificate_unknown" {
			t.Errorf("%s: %v, %v", name, chain, err)
		}
	}
	if chain, err := e.Chain(t.Context(), issuance.Basis{Chain: [][]byte{{5, 0}}}); err == nil {
		t.Errorf("of what is no certificate: %v", chain)
	}
}

// TestFS5_Reserved: a row alone, whose certificate was never issued, counts for
// nothing.
func TestFS5_Reserved(t *testing.T) {
	t.Parallel()
	e := newEnv(t, storetest.SQLite(t))
	h := e.issue("device-9", issuance.Request{Requester: "est_user:u", Protocol: "est"})
	e.check(h, here, "")
	h.Row.Status = "reserved"
	e.check(h, here, "certificate_unknown")
}

// TestFS15_Again: a certificate whose names cannot be read, or whose profile is gone,
// is not given again.
func TestFS15_Again(t *testing.T) {
	t.Parallel()
	e := newEnv(t, storetest.SQLite(t))
	h := e.issue("device-9", issuance.Request{Requester: "est_user:u", Protocol: "est"})
	csr := &pki.CSR{PublicKey: e.key.Public(), Subject: pki.CommonNameOnly("device-9")}
	other := &pki.CSR{PublicKey: e.key.Public(), Subject: pki.CommonNameOnly("device-8")}
	noNames := &x509.Certificate{
		RawSubject: h.Certificate.RawSubject,
		Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{5, 0}}},
	}
	for name, c := range map[string]struct {
		cert   *x509.Certificate
		csr    *pki.CSR
		reason string
	}{
		"subject": {&x509.Certificate{RawSubject: []byte{5, 0}}, csr, "certificate_subject"},
		"names":   {noNames, csr, "certificate_names"},
		"profile": {h.Certificate, other, "subject_differs"},
	} {
		_, err := e.Again(c.cert, c.csr, "gone")
		if !fault.Is(err, fault.Denied) || fault.Of(err).Reason != c.reason {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
	h.Row.Profile = "gone"
	if _, err := e.Renewal(h, csr); !fault.Is(err, fault.InvalidProfile) {
		t.Error(err)
	}
}

func TestCheckProtocols(t *testing.T) {
	t.Parallel()
	if err := enrolment.CheckProtocols(enrolment.Protocols); err != nil {
		t.Error(err)
	}
	if err := enrolment.CheckProtocols([]string{"est", "cmp"}); err == nil {
		t.Error("cmp was taken")
	}
}
