package issuance_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/privyseal/privyseal/internal/ca"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
	"github.com/privyseal/privyseal/internal/profile"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/internal/store/storetest"
	"github.com/privyseal/privyseal/internal/verify"
)

// signer is a CA key whose behaviour a test decides.
type signer struct {
	key  *ecdsa.PrivateKey
	fail atomic.Pointer[func() ([]byte, error)] // nil signs
	sign func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
	used atomic.Int64
	ill  atomic.Bool // what Healthy says
}

func (s *signer) Healthy() error {
	if s.ill.Load() {
		return errors.New("the token is away")
	}
	return nil
}

func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

func (s *signer) SignContext(_ context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.used.Add(1)
	if f := s.fail.Load(); f != nil {
		return (*f)()
	}
	if s.sign != nil {
		return s.sign(digest, opts)
	}
	return s.key.Sign(rand.Reader, digest, opts)
}

func (s *signer) breaks(f func() ([]byte, error)) { s.fail.Store(&f) }

// lab is a root and issuing CAs under it, all made for the test.
type lab struct {
	store    *store.Store
	pipeline *issuance.Pipeline
	signers  []*signer
	now      func() time.Time
	inputs   ca.Inputs
	extra    []*ca.CA // beside what the inputs make
	root     *signer  // of newTree
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t *testing.T, s *store.Store, ids ...string) *lab {
	t.Helper()
	c := &lab{store: s, now: time.Now}
	rootKey, now := newKey(t), time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(20, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	root := sign(t, template, template, rootKey.Public(), rootKey)
	rules := issuance.Rules{Profiles: map[string]*profile.Profile{}}
	c.inputs = ca.Inputs{Keys: map[string]issuer.Signer{}, Now: now}
	putIssuer(t, s, "root", "", root)
	for i, id := range ids {
		sg := &signer{key: newKey(t)}
		c.signers = append(c.signers, sg)
		cert := sign(t, &x509.Certificate{
			SerialNumber: big.NewInt(int64(2 + i)), Subject: pkix.Name{CommonName: "Test Issuing CA " + id}, IsCA: true, BasicConstraintsValid: true,
			MaxPathLenZero: true, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}, root, sg.Public(), rootKey)
		putIssuer(t, s, id, "root", cert)
		c.inputs.Declared = append(c.inputs.Declared, ca.Declaration{ID: id, Pool: "pool", Locations: issuer.Locations{
			CRL: "http://ca.test/crl/" + id + ".crl", OCSP: "http://ca.test/ocsp/" + id, CAIssuers: "http://ca.test/issuers/" + id + ".cer",
		}})
		c.inputs.Keys[id] = sg
	}
	for name, cfg := range profile.BuiltIn() {
		p, err := profile.Compile(name, cfg)
		if err != nil {
			t.Fatal(err)
		}
		rules.Profiles[name] = p
	}
	c.pipeline = c.node("node-1")
	rules.CAs = c.set(t)
	c.pipeline.Swap(rules)
	return c
}

// set is what the inputs and the store say now.
func (c *lab) set(t *testing.T) *ca.Set {
	t.Helper()
	var err error
	if c.inputs.Records, err = c.store.Issuers(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ca.NewSet(append(ca.Build(c.inputs).All(), c.extra...)...)
}

// node returns another pipeline on the same store.
func (c *lab) node(name string) *issuance.Pipeline {
	p := issuance.New(issuance.Config{
		Store: c.store, Node: name, Now: c.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if c.pipeline != nil {
		p.Swap(*c.pipeline.Rules())
	}
	return p
}

func sign(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	return pkitest.Certify(t, template, parent, pub, key)
}

func putIssuer(t *testing.T, s *store.Store, id, parent string, cert *x509.Certificate) {
	t.Helper()
	err := s.PutIssuer(t.Context(), store.IssuerRecord{
		ID: id, Name: id, Generation: 1, State: "active", ParentID: parent, Certificate: cert.Raw,
		Subject: cert.Subject.String(), NotAfter: cert.NotAfter, CreatedAt: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// request asks for a TLS server certificate for the given name.
func request(t *testing.T, origin, name string) issuance.Request {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(t.Context(), der)
	if err != nil {
		t.Fatal(err)
	}
	return issuance.Request{
		Protocol: "operator", Profile: "tls-server", Issuer: "pool", Origin: origin, CSR: csr, Requester: "uid:0", RequestID: "r-1",
	}
}

// holds runs the whole-store oracle.
func (c *lab) holds(t *testing.T) {
	t.Helper()
	report, err := verify.CheckCA(t.Context(), c.store, verify.Config{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("CheckCA: %s", f)
	}
}

func (c *lab) statuses(t *testing.T) map[string]int {
	t.Helper()
	rows, _, err := c.store.SearchCertificates(t.Context(), store.Search{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range rows {
		n[r.Status]++
	}
	return n
}

func TestIssue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		cert, err := c.pipeline.Issue(t.Context(), request(t, "request:1", "www.example.test"))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.DER)
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.VerifyHostname("www.example.test"); err != nil || len(cert.Chain) != 1 {
			t.Errorf("hostname: %v; chain of %d certificates, want the issuing CA alone", err, len(cert.Chain))
		}
		again, err := c.pipeline.Issue(t.Context(), request(t, "request:1", "www.example.test"))
		if err != nil || again.Serial != cert.Serial {
			t.Errorf("the same origin got %v, %v; want the certificate it has", again, err)
		}
		c.holds(t)
	})
}

func TestIssueOneOriginOneCertificate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		var wg sync.WaitGroup
		serials := make(chan pki.Serial, 16)
		for range cap(serials) {
			r := request(t, "order:1", "a.example.test")
			wg.Go(func() {
				cert, err := c.pipeline.Issue(t.Context(), r)
				switch {
				case err == nil:
					serials <- cert.Serial
				case !fault.Is(err, fault.Pending):
					t.Errorf("a second finalize got %v, want the certificate or Pending", err)
				}
			})
		}
		wg.Wait()
		close(serials)
		seen := map[pki.Serial]bool{}
		for s := range serials {
			seen[s] = true
		}
		if len(seen) != 1 {
			t.Errorf("%d certificates for one origin, want 1", len(seen))
		}
		c.holds(t)
	})
}

func TestIssueRefusals(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		for name, tt := range map[string]struct {
			change func(*issuance.Request)
			kind   fault.Kind
		}{
			"unknown profile":  {func(r *issuance.Request) { r.Profile = "nothing" }, fault.InvalidProfile},
			"unknown issuer":   {func(r *issuance.Request) { r.Issuer = "nobody" }, fault.NotFound},
			"notAfter too far": {func(r *issuance.Request) { r.NotAfter = time.Now().AddDate(3, 0, 0) }, fault.Malformed},
		} {
			r := request(t, "request:"+name, "b.example.test")
			tt.change(&r)
			if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, tt.kind) {
				t.Errorf("%s: %v, want %v", name, err, tt.kind)
			}
			if p := c.pipeline.Preview(t.Context(), r); p.Allowed || p.Fault.Kind != tt.kind {
				t.Errorf("%s: the dry run says %+v, want %v", name, p, tt.kind)
			}
		}
		if used := c.signers[0].used.Load(); used != 0 {
			t.Errorf("the CA key signed %d times for refused requests", used)
		}
		c.holds(t)
	})
}

func TestX1_SerialIsUniqueForTheIssuer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1", "web-2")
		cert, err := c.pipeline.Issue(t.Context(), request(t, "request:1", "k.example.test"))
		if err != nil {
			t.Fatal(err)
		}
		row, err := s.CertificateByID(t.Context(), cert.ID)
		if err != nil {
			t.Fatal(err)
		}
		row.ID, row.Origin = store.NewID(), "request:2"
		if err := s.Reserve(t.Context(), *row, nil, store.Event{Action: "test"}); !fault.Is(err, fault.Conflict) {
			t.Errorf("the same serial of the same issuer again: %v, want a conflict", err)
		}
		row.IssuerID = "web-2"
		if err := s.Reserve(t.Context(), *row, nil, store.Event{Action: "test"}); err != nil {
			t.Errorf("the same serial of another issuer: %v", err)
		}
	})
}

func TestX18_TheRecordOfAnIntent(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	r := request(t, "request:1", "l.example.test")
	r.Evidence = json.RawMessage(`{"method":"http-01"}`)
	cert, err := c.pipeline.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	events, err := c.store.AuditEvents(t.Context(), c.store.Node(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Action != "certificate.intent" || events[1].Action != "certificate.issued" {
		t.Fatalf("%v, want the intent, then the result", events)
	}
	if e := events[0]; e.Subject != cert.ID || e.Actor != r.Requester || e.RequestID != r.RequestID {
		t.Errorf("the intent names %q, %q, %q", e.Subject, e.Actor, e.RequestID)
	}
	var detail map[string]any
	if err := json.Unmarshal(events[0].Detail, &detail); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(r.CSR.Raw)
	want := map[string]any{
		"protocol": "operator", "profile": "tls-server", "origin": "request:1", "lint": "passed", "serial": string(cert.Serial),
		"csr_sha256": hex.EncodeToString(digest[:]), "evidence": map[string]any{"method": "http-01"},
	}
	for field, value := range want {
		if diff := cmp.Diff(value, detail[field]); diff != "" {
			t.Errorf("%s: %s", field, diff)
		}
	}
	for _, field := range []string{"profile_version", "template_sha256", "tbs_sha256", "key_sha256"} {
		if text, _ := detail[field].(string); text == "" {
			t.Errorf("the intent lacks %s", field)
		}
	}
}

// The door never looks at the protocol: the same request is granted the same
// template, or refused for the same reason, whoever brings it.
func TestX18_OneVerdictForEveryProtocol(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	good, bad := request(t, "request:1", "m.example.test"), request(t, "request:2", "m.example.test")
	bad.NotAfter = time.Now().AddDate(5, 0, 0)
	for i, protocol := range []string{"acme", "est", "scep", "operator"} {
		good.Protocol, good.Origin = protocol, fmt.Sprint("order:", i)
		bad.Protocol = protocol
		if _, err := c.pipeline.Issue(t.Context(), good); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		_, err := c.pipeline.Issue(t.Context(), bad)
		dry := c.pipeline.Preview(t.Context(), bad)
		if f := fault.Of(err); f == nil || dry.Fault == nil || f.Kind != fault.Malformed || f.Detail != dry.Fault.Detail || f.Reason != dry.Fault.Reason {
			t.Errorf("%s: %v; the dry run says %v", protocol, err, dry.Fault)
		}
	}
}

// A key that strangers know gets no certificate, and no account.
func TestX13_KnownKeysAreRefused(t *testing.T) {
	t.Parallel()
	c := newCA(t, storetest.SQLite(t), "web-1")
	listed, other := request(t, "request:1", "a.test"), request(t, "request:2", "b.test")
	hash, err := pki.HashKey(listed.CSR.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	rules := *c.pipeline.Rules()
	if err := rules.KnownKeys.Read(strings.NewReader(hash.String()), pki.KeyListSPKI); err != nil {
		t.Fatal(err)
	}
	c.pipeline.Swap(rules)
	_, err = c.pipeline.Issue(t.Context(), listed)
	for _, err := range []error{err, c.pipeline.CheckKey(t.Context(), listed.CSR.PublicKey)} {
		if f := fault.Of(err); f == nil || f.Kind != fault.BadPublicKey || f.Reason != "known_key" {
			t.Errorf("%v", err)
		}
	}
	if _, err := c.pipeline.Issue(t.Context(), other); err != nil {
		t.Error(err)
	}
}

func TestX14_CompromisedKeyIsRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		r := request(t, "request:1", "c.example.test")
		cert, err := c.pipeline.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		rev := issuance.Revocation{CertificateID: cert.ID, Reason: pki.Superseded, Requester: "uid:0", BlockKey: true}
		for _, tt := range []struct {
			reason pki.Reason
			want   fault.Kind
		}{
			{pki.RemoveFromCRL, fault.BadRevocationReason}, {pki.Superseded, 0}, {pki.Superseded, fault.AlreadyRevoked},
			{pki.KeyCompromise, 0}, {pki.KeyCompromise, fault.AlreadyRevoked},
		} {
			rev.Reason = tt.reason
			err := c.pipeline.Revoke(t.Context(), rev)
			if (tt.want == 0) != (err == nil) || err != nil && !fault.Is(err, tt.want) {
				t.Errorf("revoke for %v: %v, want %v", tt.reason, err, tt.want)
			}
		}
		r.Origin = "request:2"
		if _, err := c.pipeline.Issue(t.Context(), r); fault.Of(err) == nil || fault.Of(err).Reason != "compromised_key" {
			t.Errorf("a compromised key got %v", err)
		}
		c.holds(t)
	})
}

func TestSignerFailures(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		for name, tt := range map[string]struct {
			fail   func() ([]byte, error)
			status string
		}{
			"outcome unknown": {func() ([]byte, error) { return nil, errors.New("CKR_DEVICE_ERROR") }, "void"},
			"garbage":         {func() ([]byte, error) { return []byte{0x30, 0x03, 0x02, 0x01, 0x01}, nil }, "void"},
			"surely unsigned": {func() ([]byte, error) {
				return nil, errors.Join(issuer.ErrUnsigned, fault.New(fault.Unavailable, "the key is busy").After(time.Second))
			}, "abandoned"},
		} {
			before := c.statuses(t)[tt.status]
			c.signers[0].breaks(tt.fail)
			r := request(t, "order:"+name, "d.example.test")
			if _, err := c.pipeline.Issue(t.Context(), r); !fault.Is(err, fault.Unavailable) || fault.Of(err).RetryAfter == 0 {
				t.Errorf("%s: %v, want Unavailable with a time to come back", name, err)
			}
			if got := c.statuses(t)[tt.status] - before; got != 1 {
				t.Errorf("%s: %d rows became %s, want 1", name, got, tt.status)
			}
			c.signers[0].fail.Store(nil)
			if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
				t.Errorf("%s: the origin was not released: %v", name, err)
			}
		}
		c.holds(t)
	})
}

// Under concurrent orders a signer that fails now and then, in every way there
// is, leaves nothing unaccounted for, and every order ends with one certificate.
func TestSignerThatFailsNowAndThen(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		key := c.signers[0]
		var calls atomic.Int64
		key.sign = func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			switch calls.Add(1) % 5 {
			case 0:
				return nil, errors.New("CKR_DEVICE_ERROR")
			case 1:
				return nil, errors.Join(issuer.ErrUnsigned, errors.New("queue full"))
			case 2:
				return []byte("garbage"), nil
			default:
				return key.key.Sign(rand.Reader, digest, opts)
			}
		}
		const clients, each = 8, 10
		var wg sync.WaitGroup
		for client := range clients {
			var requests []issuance.Request
			for n := range each {
				requests = append(requests, request(t, fmt.Sprintf("order:%d-%d", client, n), "j.example.test"))
			}
			wg.Go(func() {
				for _, r := range requests {
					for try := 0; ; try++ {
						_, err := c.pipeline.Issue(t.Context(), r)
						if err == nil {
							break
						}
						if !fault.Is(err, fault.Unavailable) || try == 100 {
							t.Errorf("%s, try %d: %v", r.Origin, try, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		rows := c.statuses(t)
		if rows["issued"] != clients*each || rows["reserved"] != 0 || rows["void"] == 0 || rows["abandoned"] == 0 {
			t.Errorf("rows %v, want %d issued, some void, some abandoned, none reserved", rows, clients*each)
		}
		c.holds(t)
	})
}

func TestPoolGoesOnWithTheOtherIssuer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1", "web-2")
		c.signers[0].breaks(func() ([]byte, error) { return nil, errors.New("CKR_SESSION_HANDLE_INVALID") })
		cert, err := c.pipeline.Issue(t.Context(), request(t, "order:1", "e.example.test"))
		if err != nil || cert.IssuerID != "web-2" {
			t.Errorf("got %v from %v, want a certificate of web-2", err, cert)
		}
		c.holds(t)
	})
}

func TestA42_ReservationLeftBehindIsVoided(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		c := newCA(t, s, "web-1")
		r := request(t, "order:1", "f.example.test")
		leaveBehind(t, c, r)

		if _, err := c.node("node-2").Issue(t.Context(), r); !fault.Is(err, fault.Pending) {
			t.Errorf("another node got %v while the reservation is fresh, want Pending", err)
		}
		n, err := c.node("node-1").Settle(t.Context())
		if err != nil || n != 1 || c.statuses(t)["void"] != 1 {
			t.Fatalf("Settle = %d, %v with rows %v; want one void", n, err, c.statuses(t))
		}
		if _, err := c.pipeline.Issue(t.Context(), r); err != nil {
			t.Errorf("the order cannot be finished with a new serial: %v", err)
		}

		r.Origin = "order:2" // without Settle, the same node's next Issue clears the way itself
		leaveBehind(t, c, r)
		if _, err := c.node("node-1").Issue(t.Context(), r); err != nil {
			t.Errorf("the node does not clear its own stale reservation: %v", err)
		}
		c.holds(t)
	})
}

// leaveBehind does what a process does that is killed while the key signs.
func leaveBehind(t *testing.T, c *lab, r issuance.Request) {
	t.Helper()
	reached, gone := make(chan struct{}), make(chan struct{})
	c.signers[0].breaks(func() ([]byte, error) { close(reached); <-gone; return nil, errors.New("killed") })
	dying := c.node("node-1")
	ended := make(chan struct{})
	go func() { _, _ = dying.Issue(context.Background(), r); close(ended) }()
	<-reached
	c.signers[0].fail.Store(nil)
	t.Cleanup(func() { close(gone); <-ended })
}

func TestDrain(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	reached, goOn := make(chan struct{}), make(chan struct{})
	key := c.signers[0].key
	c.signers[0].breaks(func() ([]byte, error) { close(reached); <-goOn; return nil, errors.New("late") })
	_ = key
	ended := make(chan struct{})
	r := request(t, "order:1", "g.example.test")
	go func() { _, _ = c.pipeline.Issue(context.Background(), r); close(ended) }()
	<-reached
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.pipeline.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Drain = %v while an Issue is under way", err)
	}
	if _, err := c.pipeline.Issue(t.Context(), request(t, "order:2", "h.example.test")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a draining pipeline answered %v", err)
	}
	close(goOn)
	if err := c.pipeline.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	<-ended
	c.holds(t)
}

func TestLookupMatchesTheStoredBytes(t *testing.T) {
	c := newCA(t, storetest.SQLite(t), "web-1")
	cert, err := c.pipeline.Issue(t.Context(), request(t, "order:1", "i.example.test"))
	if err != nil {
		t.Fatal(err)
	}
	row, err := c.pipeline.Lookup(t.Context(), cert.DER)
	if err != nil || row.ID != cert.ID {
		t.Fatalf("Lookup = %v, %v", row, err)
	}
	// A47: the same serial and issuer name under another signature is not ours.
	parsed, err := x509.ParseCertificate(cert.DER)
	if err != nil {
		t.Fatal(err)
	}
	other := newKey(t)
	forged := sign(t, &x509.Certificate{SerialNumber: parsed.SerialNumber, NotAfter: parsed.NotAfter}, &x509.Certificate{RawSubject: parsed.RawIssuer}, other.Public(), other)
	if _, err := c.pipeline.Lookup(t.Context(), forged.Raw); !fault.Is(err, fault.NotFound) {
		t.Errorf("a forged certificate got %v, want NotFound", err)
	}
	if _, err := c.pipeline.Lookup(t.Context(), []byte("junk")); !fault.Is(err, fault.Malformed) {
		t.Errorf("junk got %v, want Malformed", err)
	}
}
