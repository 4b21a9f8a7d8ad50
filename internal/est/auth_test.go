package est

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
)

// factory is a manufacturer's CA outside our house.
type factory struct {
	root, sub *x509.Certificate
	make      func(serial string, change func(*x509.Certificate)) *device
}

func newFactory(t *testing.T, e *env) *factory {
	t.Helper()
	rootKey, subKey := issuancetest.NewKey(t), issuancetest.NewKey(t)
	f := &factory{root: newCA(t, "Maker Root", nil, nil, rootKey.Public(), rootKey)}
	f.sub = newCA(t, "Maker CA", f.root, nil, subKey.Public(), rootKey)
	f.make = func(serial string, change func(*x509.Certificate)) *device {
		key := issuancetest.NewKey(t)
		cert := newCA(t, "device "+serial, f.sub, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.MaxPathLen = false, x509.KeyUsageDigitalSignature, 0
			c.Subject = pkix.Name{SerialNumber: serial}
			c.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
			if change != nil {
				change(c)
			}
		}, key.Public(), subKey)
		return &device{e: e, key: key, cert: cert, chain: []*x509.Certificate{f.sub}}
	}
	return f
}

// TestEST_E10_WhoMayEnrol: each way of authentication with what it takes and what
// it does not.
func TestEST_E10_WhoMayEnrol(t *testing.T) {
	t.Parallel()
	var endpoints []Endpoint
	for _, auth := range []Auth{AuthEither, AuthBoth, AuthCertificate, AuthBasic} {
		endpoints = append(endpoints, Endpoint{Name: string(auth), Label: string(auth), Issuer: "ca", Profiles: []string{"device"}, Auth: auth})
	}
	e := newEnv(t, endpoints...)
	password := e.addUser(t, credential.NewESTUser{Name: "u"})
	certified := e.enrolled(t, "d")
	device := func(certificate, user, right bool) *device {
		d := e.anonymous()
		if certificate {
			d.cert, d.key = certified.cert, certified.key
		}
		if user {
			d.user, d.password = "u", password
			if !right {
				d.password = "wrong"
			}
		}
		return d
	}
	for _, tc := range []struct {
		auth                     Auth
		certificate, user, right bool
		code                     int
		reason                   string
	}{
		{AuthEither, false, false, false, 401, "password_required"},
		{AuthEither, true, false, false, 200, ""},
		{AuthEither, false, true, true, 200, ""},
		{AuthEither, false, true, false, 401, "est_user_wrong"},
		{AuthEither, true, true, false, 401, "est_user_wrong"}, // a password that is given has to be right
		{AuthBoth, false, false, false, 403, "certificate_required"},
		{AuthBoth, true, false, false, 401, "password_required"},
		{AuthBoth, false, true, true, 403, "certificate_required"},
		{AuthBoth, true, true, true, 200, ""},
		{AuthCertificate, false, false, false, 403, "certificate_required"},
		{AuthCertificate, false, true, true, 403, "certificate_required"},
		{AuthCertificate, true, false, false, 200, ""},
		{AuthBasic, false, false, false, 401, "password_required"},
		{AuthBasic, true, false, false, 401, "password_required"},
		{AuthBasic, false, true, true, 200, ""},
	} {
		r := device(tc.certificate, tc.user, tc.right).post(t, "/"+string(tc.auth)+"/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d"))
		if tc.code == 200 {
			one(t, r)
			continue
		}
		refused(t, r, tc.code, tc.reason)
		if challenged := r.header.Get("WWW-Authenticate") != ""; challenged != (tc.code == 401) {
			t.Errorf("%+v: challenge %q", tc, r.header.Get("WWW-Authenticate"))
		}
	}
}

// TestEST_E10_Anchors: certificates of a manufacturer enrol where its CA is an
// anchor, for the device that they are about.
func TestEST_E10_Anchors(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	maker := newFactory(t, e)
	ep := func(label string, change func(*Endpoint)) Endpoint {
		out := Endpoint{Name: "e-" + label, Label: label, Issuer: "ca", Profiles: []string{"device"}, Auth: AuthCertificate, Anchors: []*x509.Certificate{maker.root}}
		if change != nil {
			change(&out)
		}
		return out
	}
	err := e.server.Swap(Config{Endpoints: []Endpoint{
		ep("serial", nil),
		ep("any", func(e *Endpoint) { e.AnchorNames = NamesAny }),
		ep("same", func(e *Endpoint) { e.AnchorNames = NamesSame }),
		ep("sub", func(e *Endpoint) { e.Anchors = []*x509.Certificate{maker.sub} }),
		ep("none", func(e *Endpoint) { e.Anchors = nil }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	d := maker.make("77", nil)
	one(t, d.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router", withSerial("77"))))
	refused(t, d.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router", withSerial("78"))), 403, "serial_differs")
	refused(t, d.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router")), 403, "serial_differs")
	one(t, d.post(t, "/any/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router")))
	refused(t, d.post(t, "/same/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router")), 403, "subject_differs")
	refused(t, d.post(t, "/none/simpleenroll", newCSR(t, issuancetest.NewKey(t), "router")), 403, "certificate_unknown")
	refused(t, d.post(t, "/serial/simplereenroll", newCSR(t, issuancetest.NewKey(t), "router")), 403, "certificate_foreign")

	row, err := e.pipeline.Lookup(t.Context(), one(t, d.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77")))).Raw)
	if err != nil || !strings.HasPrefix(row.Requester, "certificate_sha256:") {
		t.Errorf("on record: %+v %v", row, err)
	}

	d.chain = nil
	refused(t, d.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))), 403, "certificate_untrusted")
	one(t, d.post(t, "/sub/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))))

	expired := maker.make("77", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	refused(t, expired.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))), 403, "certificate_untrusted")
	server := maker.make("77", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	refused(t, server.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))), 403, "certificate_usage")
	nameless := maker.make("", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "x"} })
	refused(t, nameless.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))), 403, "certificate_serial")
	stranger := newFactory(t, e).make("77", nil)
	refused(t, stranger.post(t, "/serial/simpleenroll", newCSR(t, issuancetest.NewKey(t), "r", withSerial("77"))), 403, "certificate_untrusted")
}

// TestEST_E10_OwnNames: a certificate of ours enrols for its owner, not for
// whomever it likes, and only where its profile belongs.
func TestEST_E10_OwnNames(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthCertificate},
		Endpoint{Name: "any", Label: "any", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthCertificate, OwnNames: NamesAny},
		Endpoint{Name: "wide", Label: "wide", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthCertificate, AcceptProfiles: []string{"tls-server"}, OwnNames: NamesAny},
		Endpoint{Name: "other", Label: "other", Issuer: "elsewhere", Profiles: []string{"device"}, Auth: AuthCertificate})
	d := e.enrolled(t, "d")
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "admin")), 403, "subject_differs")
	one(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")))
	one(t, d.post(t, "/any/simpleenroll", newCSR(t, issuancetest.NewKey(t), "admin")))
	refused(t, d.post(t, "/other/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")), 403, "certificate_other_issuer")

	web := &device{e: e, key: issuancetest.NewKey(t)}
	web.cert = e.issue(t, "tls-server", newCSR(t, web.key, "w.test", withDNS("w.test")))
	refused(t, web.post(t, "/any/simpleenroll", newCSR(t, issuancetest.NewKey(t), "admin")), 403, "certificate_other_profile")
	refused(t, web.post(t, "/wide/simpleenroll", newCSR(t, issuancetest.NewKey(t), "admin")), 403, "certificate_usage")
}

// TestEST_E14_RA: a registration authority enrols others; both are on record.
func TestEST_E14_RA(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthCertificate, RAProfiles: []string{"ra"}, AcceptProfiles: []string{"device"}})
	ra := &device{e: e, key: issuancetest.NewKey(t)}
	ra.cert = e.issue(t, "ra", newCSR(t, ra.key, "RA of plant 4"))
	cert := one(t, ra.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "some device")))
	if cert.Subject.CommonName != "some device" {
		t.Errorf("got %s", cert.Subject)
	}
	row, err := e.pipeline.Lookup(t.Context(), cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	events, _, err := e.store.AuditTail(t.Context(), 10, "")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, ev := range events {
		if ev.Action != "certificate.intent" || ev.Subject != row.ID {
			continue
		}
		var detail struct {
			Subject  string
			Evidence evidence
		}
		if err := json.Unmarshal(ev.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		found = strings.Contains(detail.Subject, "some device") && detail.Evidence.Certificate != nil &&
			detail.Evidence.Certificate.RA && strings.Contains(detail.Evidence.Certificate.Subject, "RA of plant 4")
	}
	if !found {
		t.Error("the audit record does not name both")
	}
	refused(t, e.enrolled(t, "d").post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "some device")), 403, "subject_differs")
}

// TestEST_E17_ChannelBinding: the challenge password holds the connection, in TLS
// 1.2 and 1.3, and not another one.
func TestEST_E17_ChannelBinding(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}},
		Endpoint{Name: "ignore", Label: "ignore", Issuer: "ca", Profiles: []string{"device"}, Challenge: ChallengeIgnore})
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		d.tls = func(c *tls.Config) { c.MaxVersion = version }
		client := d.client()
		client.Transport.(*http.Transport).DisableKeepAlives = false
		first := want(t, d.send(t, client, http.MethodGet, "/cacerts", nil), 200)
		if first.tls.Version != version {
			t.Fatalf("TLS %x, want %x", first.tls.Version, version)
		}
		exported, err := first.tls.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
		if err != nil {
			t.Fatal(err)
		}
		good := [][]byte{exported}
		if version == tls.VersionTLS12 {
			good = append(good, first.tls.TLSUnique)
		}
		for _, value := range good {
			csr := newCSR(t, issuancetest.NewKey(t), "d", withChallenge(base64.StdEncoding.EncodeToString(value)))
			one(t, d.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10))
			refused(t, d.post(t, "/simpleenroll", csr), 400, "binding_differs") // on a new connection
		}
		client.CloseIdleConnections()
	}
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d", withChallenge("one-time-password"))), 400, "binding_differs")
	one(t, d.post(t, "/ignore/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d", withChallenge("one-time-password"))))
}

// TestEST_E17_RequiredBindingStaysAtTLS12 and follows a reload.
func TestEST_E17_RequiredBindingStaysAtTLS12(t *testing.T) {
	t.Parallel()
	required := Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, Challenge: ChallengeRequired}
	e := newEnv(t, required)
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	client := d.client()
	client.Transport.(*http.Transport).DisableKeepAlives = false
	defer client.CloseIdleConnections()
	first := want(t, d.send(t, client, http.MethodGet, "/csrattrs", nil), 200)
	if first.tls.Version != tls.VersionTLS12 || first.tls.DidResume {
		t.Errorf("TLS %x", first.tls.Version)
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(first.body)))
	var attrs []asn1.RawValue
	if err == nil {
		_, err = asn1.Unmarshal(der, &attrs)
	}
	oid := asn1.ObjectIdentifier{}
	if err == nil {
		_, err = asn1.Unmarshal(attrs[0].FullBytes, &oid)
	}
	if err != nil || !oid.Equal(oidChallengePassword) {
		t.Errorf("csrattrs do not ask for a challenge password: %v %v", oid, err)
	}
	refused(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")), 400, "binding_required")
	csr := newCSR(t, issuancetest.NewKey(t), "d", withChallenge(base64.StdEncoding.EncodeToString(first.tls.TLSUnique)))
	one(t, d.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10))

	required.Challenge = ChallengeBinding
	if err := e.server.Swap(Config{Endpoints: []Endpoint{required}}); err != nil {
		t.Fatal(err)
	}
	if r := want(t, d.do(t, http.MethodGet, "/cacerts", nil), 200); r.tls.Version != tls.VersionTLS13 {
		t.Errorf("TLS %x after the reload", r.tls.Version)
	}
}

// TestEST_GuessingIsLimited: ten wrong passwords, then 503 even for the right one.
func TestEST_GuessingIsLimited(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "u"})
	guess := &device{e: e, user: "u", password: "wrong"}
	for range 10 {
		refused(t, guess.post(t, "/simpleenroll", nil), 401, "est_user_wrong")
	}
	for _, d := range []*device{guess, d} {
		r := d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d"))
		refused(t, r, 503, "")
		if r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	e.sleep(10 * time.Minute)
	one(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")))
}

// TestEST_E21_EnrolmentsAreLimited for one device; not for an authority, which
// stands for many.
func TestEST_E21_EnrolmentsAreLimited(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, RAProfiles: []string{"ra"}})
	d, ra := e.enrolled(t, "d"), &device{e: e, key: issuancetest.NewKey(t)}
	ra.cert = e.issue(t, "ra", newCSR(t, ra.key, "RA"))
	csr := newCSR(t, issuancetest.NewKey(t), "d")
	for _, who := range []*device{d, ra} {
		client := who.client()
		client.Transport.(*http.Transport).DisableKeepAlives = false
		for range limit.Defaults().Enrolments.Count {
			one(t, who.send(t, client, http.MethodPost, "/simpleenroll", encodeBody(csr), "Content-Type", typePKCS10))
		}
		client.CloseIdleConnections()
	}
	one(t, ra.post(t, "/simpleenroll", csr))
	r := want(t, d.post(t, "/simplereenroll", csr), 503)
	if wait, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	e.sleep(time.Minute)
	one(t, d.post(t, "/simplereenroll", csr))
}

// TestEST_UsersAreBound to an endpoint and a profile.
func TestEST_UsersAreBound(t *testing.T) {
	t.Parallel()
	e := newEnv(t,
		Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device", "tls-client"}},
		Endpoint{Name: "two", Label: "two", Issuer: "ca", Profiles: []string{"device"}})
	csr := newCSR(t, issuancetest.NewKey(t), "d.test", withDNS("d.test"))
	bound := e.withPassword(t, credential.NewESTUser{Name: "bound", Endpoint: "est", Profile: "tls-client"})
	row, err := e.pipeline.Lookup(t.Context(), one(t, bound.post(t, "/simpleenroll", csr)).Raw)
	if err != nil || row.Profile != "tls-client" {
		t.Errorf("%+v %v", row, err)
	}
	refused(t, bound.post(t, "/two/simpleenroll", csr), 403, "est_user_wrong_endpoint")
	other := e.withPassword(t, credential.NewESTUser{Name: "other", Profile: "tls-client"})
	refused(t, other.post(t, "/two/simpleenroll", csr), 403, "est_user_wrong_profile")
}
