package est

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/approval"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/issuer"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// withPassword returns a device that has nothing but a password.
func (e *env) withPassword(t testing.TB, u credential.NewESTUser) *device {
	t.Helper()
	return &device{e: e, user: u.Name, password: e.addUser(t, u)}
}

func TestEST_E5_SimpleEnrollAnswersWithOneCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	key := issuancetest.NewKey(t)
	r := d.post(t, "/simpleenroll", newCSR(t, key, "device-1", withDNS("device-1.test")))
	cert := one(t, r)
	if err := cert.CheckSignatureFrom(e.issuing); err != nil {
		t.Error(err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != "device-1" || !slices.Equal(cert.DNSNames, []string{"device-1.test"}) {
		t.Errorf("got %s %v", cert.Subject, cert.DNSNames)
	}
	for field, value := range map[string]string{
		"Content-Type":              "application/pkcs7-mime; smime-type=certs-only",
		"Content-Transfer-Encoding": "base64",
		"Content-Length":            strconv.Itoa(len(r.body)),
	} {
		if r.header.Get(field) != value {
			t.Errorf("%s is %q, want %q", field, r.header.Get(field), value)
		}
	}
	if bytes.Count(r.body, []byte("\n")) != 1 || r.body[len(r.body)-1] != '\n' {
		t.Error("the answer is not one line (rule E2)")
	}
	row, err := e.pipeline.Lookup(t.Context(), cert.Raw)
	if err != nil || row.Protocol != "est" || row.Endpoint != "est" || row.Requester != "est_user:device" {
		t.Errorf("on record: %+v %v", row, err)
	}
}

// TestEST_E2_TransferEncodingIsIgnored: whatever the field says, or if it is not
// there, base64 is read.
func TestEST_E2_TransferEncodingIsIgnored(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	for _, encoding := range []string{"", "base64", "BASE64", "binary", "7bit", "quoted-printable", "nonsense"} {
		header := []string{"Content-Type", "application/pkcs10"}
		if encoding != "" {
			header = append(header, "Content-Transfer-Encoding", encoding)
		}
		one(t, d.do(t, http.MethodPost, "/simpleenroll", encodeBody(newCSR(t, issuancetest.NewKey(t), "d")), header...))
	}
}

func TestEST_E2_BodiesOverHTTP(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	files, _ := bodies(t)
	var first *x509.Certificate
	for name, text := range files {
		cert := one(t, d.do(t, http.MethodPost, "/simpleenroll", text, "Content-Type", "application/pkcs10"))
		if first == nil {
			first = cert
		}
		if !first.Equal(cert) {
			t.Errorf("%s: the same request got another certificate", name)
		}
	}
	for typ, code := range map[string]int{
		"application/pkcs10; charset=us-ascii": 200, "APPLICATION/PKCS10": 200, "application/x-pkcs10": 415, "application/json": 415,
		"": 415, "application/x-www-form-urlencoded": 415, "application/pkcs7-mime; smime-type=CMC-request": 415, ";": 415,
	} {
		want(t, d.do(t, http.MethodPost, "/simpleenroll", files["one-line.b64"], "Content-Type", typ), code)
	}
}

// TestEST_E6_Requests: the request's own signature and form are checked.
func TestEST_E6_Requests(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device", MaxUses: 1})
	good := newCSR(t, issuancetest.NewKey(t), "d")
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d", forged())), 400, "signature")
	refused(t, d.post(t, "/simpleenroll", append(slices.Clone(good), 0)), 400, "csr_syntax")
	refused(t, d.post(t, "/simpleenroll", []byte("hello")), 400, "csr_syntax")
	refused(t, d.do(t, http.MethodPost, "/simpleenroll", []byte("%%%"), "Content-Type", typePKCS10), 400, "est_body")
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "", withDNS("a_b.test"))), 403, "")
	big := bytes.Repeat([]byte("A"), maxBody+1)
	refused(t, d.do(t, http.MethodPost, "/simpleenroll", big, "Content-Type", typePKCS10), 413, "")
	one(t, d.post(t, "/simpleenroll", good)) // none of the refused ones used the password up
}

// TestEST_E12_PasswordsAreConsumedBySuccess: not by the first request, which known
// clients send without any, not by a refusal, and an answer that was lost can be
// had again.
func TestEST_E12_PasswordsAreConsumedBySuccess(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "once", MaxUses: 1})
	csr := newCSR(t, issuancetest.NewKey(t), "d")
	client := d.client()
	client.Transport.(*http.Transport).DisableKeepAlives = false
	defer client.CloseIdleConnections()
	anonymous := &device{e: e}
	r := anonymous.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10)
	refused(t, r, 401, "password_required")
	if got := r.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Basic realm="`) {
		t.Errorf("challenge %q", got)
	}
	fail := error(issuerAway)
	e.signer.Broken.Store(&fail)
	refused(t, d.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10), 503, "")
	e.signer.Broken.Store(nil)
	cert := one(t, d.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10))
	if again := one(t, d.post(t, "/simpleenroll", csr)); !again.Equal(cert) {
		t.Error("the same request again got another certificate")
	}
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")), 403, "est_user_used_up")
	e.sleep(approval.KeepEST + time.Minute)
	refused(t, d.post(t, "/simpleenroll", csr), 403, "est_user_used_up")
}

// issuerAway is a key that certainly signed nothing.
var issuerAway = errors.Join(issuer.ErrUnsigned, fault.New(fault.Unavailable, "the key is away"))

// TestEST_E12_OneUseIsOneUse: of many at once, one wins.
func TestEST_E12_OneUseIsOneUse(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "once", MaxUses: 1})
	var wg sync.WaitGroup
	codes := make(chan int, 8)
	for range cap(codes) {
		csr := newCSR(t, issuancetest.NewKey(t), "d")
		wg.Go(func() { codes <- d.post(t, "/simpleenroll", csr).code })
	}
	wg.Wait()
	close(codes)
	issued := 0
	for code := range codes {
		switch code {
		case 200:
			issued++
		case 403:
		default:
			t.Errorf("status %d", code)
		}
	}
	if issued != 1 {
		t.Errorf("%d certificates for one use", issued)
	}
}

func TestEST_E7_Approval(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"waiting"}, Keygen: true})
	d := e.withPassword(t, credential.NewESTUser{Name: "device", MaxUses: 1})
	csr := newCSR(t, issuancetest.NewKey(t), "d")
	for range 2 {
		r := want(t, d.post(t, "/simpleenroll", csr), http.StatusAccepted)
		if n, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
	}
	waiting, err := e.store.SearchRequests(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 10})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%d requests wait, want one (%v)", len(waiting), err)
	}
	e.decide(t, waiting[0].ID, true)
	cert := one(t, d.post(t, "/simpleenroll", csr))
	if again := one(t, d.post(t, "/simpleenroll", csr)); !again.Equal(cert) {
		t.Error("the answer changed")
	}
	other := e.withPassword(t, credential.NewESTUser{Name: "other"})
	want(t, other.post(t, "/simpleenroll", csr), http.StatusAccepted) // somebody else's request is another one
	waiting, err = e.store.SearchRequests(t.Context(), store.RequestSearch{Status: store.RequestPending, Limit: 10})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%d requests wait, want one (%v)", len(waiting), err)
	}
	e.decide(t, waiting[0].ID, false)
	refused(t, other.post(t, "/simpleenroll", csr), 403, "approval_rejected")
	refused(t, d.post(t, "/serverkeygen", csr), 403, "approval_unsupported")
}

// TestEST_E13_Reenroll renews twice in a row, each time with the certificate of
// the time before.
func TestEST_E13_Reenroll(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	d.enrol(t, "/simpleenroll", "d")
	d.user = ""
	seen := []string{d.cert.SerialNumber.String()}
	csr := newCSR(t, d.key, "d")
	for range 2 { // the same key and request
		before := d.cert
		d.cert = one(t, d.post(t, "/simplereenroll", csr))
		if again := one(t, (&device{e: e, key: d.key, cert: before}).post(t, "/simplereenroll", csr)); !again.Equal(d.cert) {
			t.Error("the same renewal again got another certificate")
		}
		seen = append(seen, d.cert.SerialNumber.String())
	}
	d.enrol(t, "/simplereenroll", "d") // a new key
	seen = append(seen, d.cert.SerialNumber.String())
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 4 {
		t.Errorf("serials %v", seen)
	}
}

// TestEST_E13_RenewalKeepsTheName compares as RFC 5280 does.
func TestEST_E13_RenewalKeepsTheName(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.enrolled(t, "Device One", withDNS("a.test", "b.test"))
	utf8 := []byte{0x30, 0x15, 0x31, 0x13, 0x30, 0x11, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x0a, 'd', 'e', 'v', 'i', 'c', 'e', ' ', 'O', 'N', 'E'}
	for name, tc := range map[string]struct {
		csr    []byte
		code   int
		reason string
	}{
		"the same":              {newCSR(t, issuancetest.NewKey(t), "Device One", withDNS("a.test", "b.test")), 200, ""},
		"another order":         {newCSR(t, issuancetest.NewKey(t), "Device One", withDNS("b.test", "a.test")), 200, ""},
		"other string and case": {newCSR(t, issuancetest.NewKey(t), "", withSubject(utf8), withDNS("a.test", "b.test")), 200, ""},
		"no names at all":       {newCSR(t, issuancetest.NewKey(t), "Device One"), 200, ""},
		"another subject":       {newCSR(t, issuancetest.NewKey(t), "Device Two", withDNS("a.test", "b.test")), 403, "subject_differs"},
		"one more attribute":    {newCSR(t, issuancetest.NewKey(t), "Device One", withSerial("1"), withDNS("a.test", "b.test")), 403, "subject_differs"},
		"a name less":           {newCSR(t, issuancetest.NewKey(t), "Device One", withDNS("a.test")), 403, "names_differ"},
		"a name more":           {newCSR(t, issuancetest.NewKey(t), "Device One", withDNS("a.test", "b.test", "c.test")), 403, "names_differ"},
		"ChangeSubjectName":     {newCSR(t, issuancetest.NewKey(t), "Device One", withAttribute(oidChangeName, []string{"x"})), 403, "subject_change"},
	} {
		r := d.post(t, "/simplereenroll", tc.csr)
		if tc.code != 200 {
			refused(t, r, tc.code, tc.reason)
			continue
		}
		if cert := one(t, r); !slices.Equal(sortedStrings(cert.DNSNames), []string{"a.test", "b.test"}) {
			t.Errorf("%s: names %v", name, cert.DNSNames)
		}
	}
}

func sortedStrings(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

// TestEST_E13_RenewKey: the same key or a new one, as the endpoint says.
func TestEST_E13_RenewKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "new", Label: "new", Issuer: "ca", Profiles: []string{"device"}, RenewKey: RenewNew},
		Endpoint{Name: "same", Label: "same", Issuer: "ca", Profiles: []string{"device"}, RenewKey: RenewSame})
	d := e.enrolled(t, "d")
	refused(t, d.post(t, "/new/simplereenroll", newCSR(t, d.key, "d")), 400, "key_reused")
	refused(t, d.post(t, "/same/simplereenroll", newCSR(t, issuancetest.NewKey(t), "d")), 400, "key_changed")
	one(t, d.post(t, "/new/simplereenroll", newCSR(t, issuancetest.NewKey(t), "d")))
	one(t, d.post(t, "/same/simplereenroll", newCSR(t, d.key, "d")))
}

// TestEST_E13_OnlyOwnCurrentCertificatesRenew: no certificate, a revoked one, an
// expired one.
func TestEST_E13_OnlyOwnCurrentCertificatesRenew(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "strict", Label: "strict", Issuer: "ca", Profiles: []string{"device"}},
		Endpoint{Name: "graceful", Label: "graceful", Issuer: "ca", Profiles: []string{"device"}, Grace: 30 * 24 * time.Hour})
	password := e.withPassword(t, credential.NewESTUser{Name: "device"})
	csr := newCSR(t, issuancetest.NewKey(t), "d")
	refused(t, password.post(t, "/strict/simplereenroll", csr), 403, "certificate_required")

	revoked := e.enrolled(t, "d")
	row, err := e.pipeline.Lookup(t.Context(), revoked.cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	e.revoke(t, row.ID, pki.Superseded)
	refused(t, revoked.post(t, "/strict/simplereenroll", csr), 403, "certificate_revoked")
	refused(t, revoked.post(t, "/strict/simpleenroll", csr), 401, "certificate_revoked")

	d := e.enrolled(t, "d")
	e.sleep(d.cert.NotAfter.Sub(e.now()) + 24*time.Hour)
	refused(t, d.post(t, "/strict/simplereenroll", csr), 403, "certificate_expired")
	refused(t, d.post(t, "/graceful/simpleenroll", csr), 401, "certificate_expired") // the grace is for renewals
	one(t, d.post(t, "/graceful/simplereenroll", csr))
	e.sleep(30 * 24 * time.Hour)
	refused(t, d.post(t, "/graceful/simplereenroll", newCSR(t, issuancetest.NewKey(t), "d")), 403, "certificate_expired")
}

// TestEST_E10_CompromisedKey: the key of another certificate that was revoked for
// its key logs in nowhere.
func TestEST_E10_CompromisedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.enrolled(t, "d")
	second := e.issue(t, "device", newCSR(t, d.key, "e"))
	row, err := e.pipeline.Lookup(context.Background(), second.Raw)
	if err != nil {
		t.Fatal(err)
	}
	e.revoke(t, row.ID, pki.KeyCompromise)
	refused(t, d.post(t, "/simplereenroll", newCSR(t, issuancetest.NewKey(t), "d")), 403, "certificate_key_compromised")
}
