package est

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"regexp"
	"strconv"
	"testing"

	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/enrolment"
	"github.com/privyseal/privyseal/internal/enrolment/enrolmenttest"
	"github.com/privyseal/privyseal/internal/issuance"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/limit"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

func TestFS5_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FS5", openHere) }
func TestFS13_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS13", openHere) }
func TestFS15_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS15", openHere) }
func TestFS17_Renewal(t *testing.T) { t.Parallel(); enrolmenttest.Run(t, "FS17", openHere) }
func TestFS7_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FS7", openHere) }
func TestFR9_Renewal(t *testing.T)  { t.Parallel(); enrolmenttest.Run(t, "FR9", openHere) }

var reasonInText = regexp.MustCompile(`\(([a-z_]+)\)\n`)

// openHere is the server of the cases that all protocols share.
func openHere(t *testing.T, r enrolment.Rules) *enrolmenttest.Server {
	t.Helper()
	e := newEnv(t, Endpoint{
		Name: r.Endpoint, Issuer: r.Issuer, Profiles: r.Profiles, Grace: r.Grace, AcceptProtocols: r.Protocols,
	})
	return &enrolmenttest.Server{
		Store: e.store, CA: e.ca, Approvals: e.approvals, Now: e.now, Sleep: e.sleep,
		NewKey: func(t testing.TB) crypto.Signer { return issuancetest.NewKey(t) },
		Renew: func(t testing.TB, cert *x509.Certificate, key crypto.Signer, csr []byte) (*x509.Certificate, string) {
			r := (&device{e: e, key: key, cert: cert}).post(t, "/simplereenroll", csr)
			if r.code == 200 {
				return one(t, r), ""
			}
			if r.code == 202 {
				return nil, "waits"
			}
			if r.code == 503 && r.header.Get("Retry-After") != "" {
				return nil, "limited"
			}
			found := reasonInText.FindSubmatch(r.body)
			if found == nil {
				t.Fatalf("%d %s", r.code, r.body)
			}
			return nil, string(found[1])
		},
	}
}

// TestFS15_EnrolmentKeepsTheSpelling also where a certificate enrols for its own
// names and renews nothing: a certificate of ours or of an anchor.
func TestFS15_EnrolmentKeepsTheSpelling(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	maker := newFactory(t, e)
	if err := e.server.Swap(Config{Endpoints: []Endpoint{{
		Name: "est", Issuer: "ca", Profiles: []string{"device"}, Keygen: true,
		Anchors: []*x509.Certificate{maker.root}, AnchorNames: NamesSame,
	}}}); err != nil {
		t.Fatal(err)
	}
	same := func(got, old *x509.Certificate) {
		t.Helper()
		if !bytes.Equal(got.RawSubject, old.RawSubject) {
			t.Errorf("the subject %x was %x", got.RawSubject, old.RawSubject)
		}
	}
	d, fullWidth := e.enrolled(t, "device-9"), "ｄevice-9"
	key := issuancetest.NewKey(t)
	same(one(t, d.post(t, "/simpleenroll", newCSR(t, key, fullWidth))), d.cert)
	a := d.cmc(t, 200, signCMC(t, d.cert, d.key, cmctest.PKIData(nil, []cmctest.Part{
		cmctest.PKCS10(1, newCSR(t, key, fullWidth)), cmctest.CRMF(crmf(t, 2, key, "DEVICE-9")),
	}))).wants(t, success(1), success(2))
	same(a.certs[0], d.cert)
	same(a.certs[1], d.cert)
	want(t, d.post(t, "/serverkeygen", newCSR(t, key, fullWidth)), 200)
	made, _, err := e.store.SearchCertificates(t.Context(), store.Search{Profile: "device", Limit: 10})
	if err != nil || len(made) != 5 {
		t.Fatalf("%d certificates, %v", len(made), err)
	}
	for _, row := range made {
		if row.Subject != "CN=device-9" {
			t.Errorf("on record: %s", row.Subject)
		}
	}
	foreign := maker.make("SN1", func(c *x509.Certificate) { c.Subject.CommonName = "device-7" })
	same(one(t, foreign.post(t, "/simpleenroll", newCSR(t, key, "ｄevice-7", withSerial("SN1")))), foreign.cert)
}

// TestFS13_LineOfOtherNames: who enrols others by the power of its certificate, and
// those by theirs, is one line.
func TestFS13_LineOfOtherNames(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, OwnNames: NamesAny},
		Endpoint{Name: "two", Label: "two", Issuer: "ca", Profiles: []string{"device"}, OwnNames: NamesAny})
	d := e.enrolled(t, "d")
	for i := range limit.Defaults().Enrolments.Count {
		d.enrol(t, []string{"", "/two"}[i%2]+"/simpleenroll", "d-"+strconv.Itoa(i))
	}
	want(t, d.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "another")), 503)
	want(t, d.post(t, "/two/simplereenroll", newCSR(t, d.key, d.cert.Subject.CommonName)), 503)
}

// TestFS17_PasswordBeside: a password that is given beside the certificate does not
// take a renewal out of its line.
func TestFS17_PasswordBeside(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	now := e.now()
	_, err := e.store.CreateAccount(t.Context(), store.Account{
		ID: "acct", Endpoint: "acme", Thumbprint: "t", JWK: []byte("{}"), Status: "valid", CreatedAt: now,
	}, nil, store.Event{At: now})
	if err != nil {
		t.Fatal(err)
	}
	d := &device{e: e, key: issuancetest.NewKey(t), user: "u", password: e.addUser(t, credential.NewESTUser{Name: "u"})}
	made, err := e.pipeline.Issue(t.Context(), issuance.Request{
		Protocol: "acme", Profile: "device", Issuer: "ca", Origin: "order:1", Requester: "account:acct",
		CSR: parseCSR(t, newCSR(t, d.key, "d")),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.cert = parseCert(t, made.DER)
	d.enrol(t, "/simplereenroll", "d")
	if err := e.store.UpdateAccount(t.Context(), "acct", nil, true, store.Event{At: now}); err != nil {
		t.Fatal(err)
	}
	refused(t, d.post(t, "/simplereenroll", newCSR(t, d.key, "d")), 403, "certificate_account")
	d.user = ""
	refused(t, d.post(t, "/simpleenroll", newCSR(t, d.key, "d")), 401, "certificate_account")
}

// TestFS5_ProfilesThatOnlyLogIn are not renewed to be another one.
func TestFS5_ProfilesThatOnlyLogIn(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, RAProfiles: []string{"ra"}})
	ra := &device{e: e, key: issuancetest.NewKey(t)}
	ra.cert = e.issue(t, "ra", newCSR(t, ra.key, "RA"))
	one(t, ra.post(t, "/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")))
	refused(t, ra.post(t, "/simplereenroll", newCSR(t, ra.key, "RA")), 403, "certificate_other_profile")
}

// TestFS5_AnchorsCompromisedKey: the key of a certificate that is not ours may be on
// a list too. It does not count then, at endpoints that would do without as well.
func TestFS5_AnchorsCompromisedKey(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	maker := newFactory(t, e)
	var all []Endpoint
	for _, auth := range []Auth{AuthEither, AuthCertificate} {
		all = append(all, Endpoint{
			Name: string(auth), Label: string(auth), Issuer: "ca", Profiles: []string{"device"}, Auth: auth,
			Anchors: []*x509.Certificate{maker.root}, AnchorNames: NamesAny,
		})
	}
	if err := e.server.Swap(Config{Endpoints: all}); err != nil {
		t.Fatal(err)
	}
	d := maker.make("77", nil)
	one(t, d.post(t, "/either/simpleenroll", newCSR(t, issuancetest.NewKey(t), "d")))
	row, err := e.pipeline.Lookup(t.Context(), e.issue(t, "device", newCSR(t, d.key, "e")).Raw)
	if err != nil {
		t.Fatal(err)
	}
	e.revoke(t, row.ID, pki.KeyCompromise)
	csr := newCSR(t, issuancetest.NewKey(t), "d")
	refused(t, d.post(t, "/either/simpleenroll", csr), 401, "certificate_key_compromised")
	refused(t, d.post(t, "/certificate/simpleenroll", csr), 403, "certificate_key_compromised")
}
