package acme

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the refused digest is wanted
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

func TestACME_A40_Finalize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	pending, _ := c.order("pending.localhost")
	wantProblem(t, c.post(pending.Finalize, csrPayload(csr(t, nil, "pending.localhost"))), http.StatusForbidden, "orderNotReady")

	o, u := c.ready("a.localhost")
	request := csr(t, nil, "a.localhost")
	r := c.post(o.Finalize, csrPayload(request))
	want(t, r, http.StatusOK)
	if r.header.Get("Location") != u {
		t.Errorf("location %q", r.header.Get("Location"))
	}
	c.await(u, statusProcessing)
	again := c.post(o.Finalize, csrPayload(request))
	want(t, again, http.StatusOK)
	if got := decodeInto[orderView](t, again); got.Status != statusValid || got.Certificate == "" || again.header.Get("Location") != u {
		t.Errorf("%s", again.body)
	}
	wantProblem(t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost"))), http.StatusForbidden, "orderNotReady")
	wantProblem(t, c.post(c.base+"/order/x/finalize", csrPayload(request)), http.StatusNotFound, "malformed")
}

func TestACME_A42_ManyFinalizesOneCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	request := csr(t, nil, "a.localhost")
	before := e.signer.Used.Load()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if r := c.post(o.Finalize, csrPayload(request)); r.code != http.StatusOK {
				t.Errorf("%d %s", r.code, r.body)
			}
		})
	}
	wg.Wait()
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Fatalf("%s", r.body)
	}
	if n := e.signer.Used.Load() - before; n != 1 {
		t.Errorf("%d signatures", n)
	}
}

func TestACME_A41_CSRsThatAreRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, other := e.account(t), e.account(t)
	o, u := c.ready("a.localhost", "b.localhost", "127.0.0.1")
	names := []string{"a.localhost", "b.localhost"}
	ips := []net.IP{net.ParseIP("127.0.0.1")}
	req := func(change func(*x509.CertificateRequest)) []byte {
		r := &x509.CertificateRequest{DNSNames: names, IPAddresses: ips}
		change(r)
		return csrOf(t, r, nil)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	mail, _ := url.Parse("urn:x:y")
	good := csr(t, nil, "a.localhost", "b.localhost", "127.0.0.1")
	broken := append([]byte(nil), good...)
	broken[len(broken)-1] ^= 1
	kid, mac := e.newEAB(t, credential.NewKey{})
	elsewhere := e.client(t, "eab")
	elsewhere.register(map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": elsewhere.bind(kid, mac, nil, "")})

	for name, der := range map[string][]byte{
		"junk":                   []byte("junk"),
		"trailing data":          append(append([]byte(nil), good...), 0),
		"signature does not fit": broken,
		"SHA-1":                  sha1CSR(t, names),
		"a name too few":         csr(t, nil, "a.localhost", "127.0.0.1"),
		"a name too many":        csr(t, nil, "a.localhost", "b.localhost", "127.0.0.1", "c.localhost"),
		"another name":           csr(t, nil, "a.localhost", "c.localhost", "127.0.0.1"),
		"address as DNS name": req(func(r *x509.CertificateRequest) {
			r.IPAddresses, r.DNSNames = nil, append([]string{"127.0.0.1"}, names...)
		}),
		"address only as CN": req(func(r *x509.CertificateRequest) {
			r.IPAddresses, r.Subject.CommonName = nil, "127.0.0.1"
		}),
		"CN is no identifier": req(func(r *x509.CertificateRequest) { r.Subject.CommonName = "c.localhost" }),
		"SAN of another type": req(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@example.com"} }),
		"URI in the SAN":      req(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{mail} }),
		"must-staple, not allowed": req(func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		}),
		"an unknown extension": req(func(r *x509.CertificateRequest) {
			r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}}
		}),
		"the account's key":                   csr(t, c.key, "a.localhost", "b.localhost", "127.0.0.1"),
		"another account's key":               csr(t, other.key, "a.localhost", "b.localhost", "127.0.0.1"),
		"a key of another endpoint's account": csr(t, elsewhere.key, "a.localhost", "b.localhost", "127.0.0.1"),
		"a weak key":                          csr(t, weak, "a.localhost", "b.localhost", "127.0.0.1"),
		"a key type not accepted":             csr(t, edKey, "a.localhost", "b.localhost", "127.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, c.post(o.Finalize, csrPayload(der)), http.StatusBadRequest, "badCSR")
		})
	}
	for _, payload := range []string{`{}`, `{"csr":""}`, `{"csr":"a+b"}`, `{"csr":"` + b64("x") + `="}`} {
		wantProblem(t, c.post(o.Finalize, payload), http.StatusBadRequest, "badCSR")
	}
	wantProblem(t, c.post(o.Finalize, `{"csr":7}`), http.StatusBadRequest, "malformed")
	p := decodeInto[problem](t, c.post(o.Finalize, csrPayload(csr(t, nil, "a.localhost", "c.localhost"))))
	if len(p.Subproblems) != 3 {
		t.Errorf("subproblems %+v, want one for each wrong name", p.Subproblems)
	}
	if got := decodeInto[orderView](t, c.read(u)); got.Status != statusReady {
		t.Fatalf("refused requests made the order %s", got.Status)
	}
	harmless := req(func(r *x509.CertificateRequest) {
		r.Subject.CommonName = "A.localhost"
		r.DNSNames = []string{"B.LOCALHOST", "a.localhost", "a.localhost"}
		r.ExtraExtensions = []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{3, 2, 1, 6}},          // keyCertSign, cRLSign
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}, // CA:TRUE
		}
	})
	want(t, c.post(o.Finalize, csrPayload(harmless)), 200)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Fatalf("%s", r.body)
	}
	o = decodeInto[orderView](t, c.read(u))
	leaf := chainOf(t, c.read(o.Certificate).body)[0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("the CSR's extensions were copied")
	}
}

func TestACME_A41_CompromisedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	want(t, c.post(c.base+"/revoke-cert", map[string]any{"certificate": b64(string(leaf.Raw)), "reason": 1}), 200)
	o, u := c.ready("b.localhost")
	wantProblem(t, c.post(o.Finalize, csrPayload(csr(t, key, "b.localhost"))), http.StatusBadRequest, "badCSR")
	got := decodeInto[orderView](t, c.read(u))
	if got.Status != statusInvalid || !strings.Contains(string(got.Error), "badCSR") {
		t.Errorf("%+v", got)
	}
}

// sha1CSR is a request that is signed with SHA-1, which Go does not make.
func sha1CSR(t *testing.T, names []string) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(csr(t, key, names...), &parts); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(parts.Info.FullBytes) //nolint:gosec // as above
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	parts.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	parts.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(parts)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestACME_A41_CNAloneIsEnough(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	der := csrOf(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "A.localhost"}}, nil)
	want(t, c.post(o.Finalize, csrPayload(der)), 200)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Fatalf("%s", r.body)
	}
	leaf := chainOf(t, c.read(decodeInto[orderView](t, c.read(u)).Certificate).body)[0]
	if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "a.localhost" {
		t.Errorf("SAN %v", leaf.DNSNames)
	}
}

func TestACME_A47_Revocation(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, holder, stranger := e.account(t), e.account(t), e.account(t)
	target := c.base + "/revoke-cert"
	payload := func(der []byte, reason any) map[string]any {
		p := map[string]any{"certificate": base64.RawURLEncoding.EncodeToString(der)}
		if reason != nil {
			p["reason"] = reason
		}
		return p
	}
	revoked := func(der []byte) pki.Reason {
		t.Helper()
		row, err := e.server.Pipeline.Lookup(t.Context(), der)
		if err != nil || row.Revocation == nil {
			t.Fatalf("not revoked: %+v %v", row, err)
		}
		return row.Revocation.Reason
	}

	leaf := c.issue(nil, "a.localhost")[0]
	for _, reason := range []int{-1, 2, 6, 7, 8, 10, 11, 99} {
		wantProblem(t, c.post(target, payload(leaf.Raw, reason)), 400, "badRevocationReason")
	}
	wantProblem(t, c.post(target, payload(leaf.Raw, "1")), 400, "malformed")
	wantProblem(t, stranger.post(target, payload(leaf.Raw, nil)), 403, "unauthorized")
	wantProblem(t, c.post(target, map[string]any{"certificate": "!"}), 400, "malformed")
	wantProblem(t, c.post(target, payload([]byte("junk"), nil)), 400, "malformed")
	altered := append([]byte(nil), leaf.Raw...)
	altered[len(altered)-1] ^= 1
	wantProblem(t, c.post(target, payload(altered, nil)), 404, "malformed") // the stored bytes count, not the serial
	wantProblem(t, c.post(target, payload(e.root.Raw, nil)), 404, "malformed")

	r := c.post(target, payload(leaf.Raw, 4))
	want(t, r, 200)
	if len(r.body) != 0 || revoked(leaf.Raw) != pki.Superseded {
		t.Errorf("%q %s", r.body, revoked(leaf.Raw))
	}
	wantProblem(t, c.post(target, payload(leaf.Raw, 4)), 400, "alreadyRevoked")

	// (b) an account that proved all names, and one that proved only some
	leaf = c.issue(nil, "b.localhost", "*.w.lab.test", "127.0.0.1")[0]
	holder.ready("b.localhost", "127.0.0.1")
	wantProblem(t, holder.post(target, payload(leaf.Raw, nil)), 403, "unauthorized")
	holder.ready("w.lab.test")
	wantProblem(t, holder.post(target, payload(leaf.Raw, nil)), 403, "unauthorized")
	holder.ready("*.w.lab.test")
	want(t, holder.post(target, payload(leaf.Raw, nil)), 200)
	if got := revoked(leaf.Raw); got != pki.Unspecified {
		t.Errorf("reason %s", got)
	}

	// (c) whoever has the certificate's key
	key := newECKey(t, elliptic.P256())
	leaf = c.issue(key, "c.localhost")[0]
	wantProblem(t, e.client(t, "default").postJWK(target, payload(leaf.Raw, nil)), 403, "unauthorized")
	owner := e.client(t, "default")
	owner.key = key
	want(t, owner.postJWK(target, payload(leaf.Raw, nil)), 200)
	if got := revoked(leaf.Raw); got != pki.KeyCompromise {
		t.Errorf("reason %s, want keyCompromise", got)
	}
	if err := e.server.Pipeline.CheckKey(t.Context(), key.Public()); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("the key is not blocked: %v", err)
	}
}

func TestACME_A48_RevocationAfterTheAccountEnded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	key := newECKey(t, elliptic.P256())
	leaf := c.issue(key, "a.localhost")[0]
	want(t, c.post(c.kid, `{"status":"deactivated"}`), 200)
	payload := map[string]any{"certificate": base64.RawURLEncoding.EncodeToString(leaf.Raw)}
	wantProblem(t, c.post(c.base+"/revoke-cert", payload), 403, "unauthorized")
	owner := e.client(t, "default")
	owner.key = key
	want(t, owner.postJWK(owner.base+"/revoke-cert", payload), 200)
}

// TestProfileGoneBeforeFinalize: the order says so and waits for it to come back.
func TestProfileGoneBeforeFinalize(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := e.account(t)
	o, u := c.ready("a.localhost")
	was := *e.server.Pipeline.Rules()
	without := was
	without.Profiles = maps.Clone(was.Profiles)
	delete(without.Profiles, "tls-server")
	e.server.Pipeline.Swap(without)
	request := csrPayload(csr(t, nil, "a.localhost"))
	wantProblem(t, c.post(o.Finalize, request), http.StatusBadRequest, "invalidProfile")
	e.server.Pipeline.Swap(was)
	want(t, c.post(o.Finalize, request), http.StatusOK)
	if status, r := c.await(u, statusProcessing); status != statusValid {
		t.Errorf("%s", r.body)
	}
}
