package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cmc"
	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/store"
	"github.com/privyseal/privyseal/test/need"
)

// throwAway is a self-signed certificate of a key.
func throwAway(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	return newCA(t, "throw-away", nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage, c.SubjectKeyId = false, 0, []byte("key id") }, key.Public(), key)
}

// crmf is a proved CRMF request of a key for a common name.
func crmf(t testing.TB, part int64, key *ecdsa.PrivateKey, cn string) []byte {
	t.Helper()
	return cmctest.Proved(t, crmfRequest(t, part, key, cn), key)
}

func crmfRequest(t testing.TB, part int64, key *ecdsa.PrivateKey, cn string) []byte {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return cmctest.CertRequest(t, part, cmctest.Template{Subject: subject, Key: key.Public()})
}

// cmcAnswer is what a client makes of an answer.
type cmcAnswer struct {
	*cmctest.Response
	certs []*x509.Certificate // without the server's
	der   []byte
}

// signCMC signs a PKIData.
func signCMC(t testing.TB, cert *x509.Certificate, key crypto.Signer, data []byte) []byte {
	t.Helper()
	der, err := cms.Sign(cms.Message{Type: cmc.OIDPKIData, Content: data}, cms.Signer{Certificate: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// cmc sends a message and reads the answer, whose HTTP status has to be code.
func (d *device) cmc(t testing.TB, code int, message []byte) *cmcAnswer {
	t.Helper()
	r := want(t, d.do(t, http.MethodPost, "/fullcmc", encodeBody(message), "Content-Type", "application/pkcs7-mime; smime-type=CMC-request"), code)
	if got := r.header.Get("Content-Type"); got != "application/pkcs7-mime; smime-type=CMC-response" {
		t.Fatalf("content type %q: %s", got, r.body)
	}
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(r.body)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := cms.ParseSignedData(der, cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	signers, err := signed.Verify(t.Context(), cms.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(signers[0].UnknownExtKeyUsage, oidCMCRA.Equal) || !signed.Type.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 12, 3}) {
		t.Errorf("type %s, signed by %s", signed.Type, signers[0].Subject)
	}
	a := &cmcAnswer{der: der}
	if a.Response, err = cmctest.Read(signed.Content); err != nil {
		t.Fatal(err)
	}
	for _, c := range signed.Certificates {
		if !c.Equal(signers[0]) && !c.IsCA {
			a.certs = append(a.certs, c)
		}
	}
	return a
}

// wants checks the statuses: part, code, failInfo and what the text has.
func (a *cmcAnswer) wants(t testing.TB, statuses ...cmctest.Status) *cmcAnswer {
	t.Helper()
	if len(a.Statuses) != len(statuses) {
		t.Fatalf("got %+v", a.Statuses)
	}
	for i, want := range statuses {
		if got := a.Statuses[i]; got.Code != want.Code || got.Fail != want.Fail || !slices.Equal(got.Parts, want.Parts) || !strings.Contains(got.Text, want.Text) {
			t.Fatalf("status %d: got %+v, want %+v", i, got, want)
		}
	}
	return a
}

func success(parts ...int) cmctest.Status { return cmctest.Status{Code: 0, Fail: -1, Parts: parts} }

func failure(part, fail int, reason string) cmctest.Status {
	return cmctest.Status{Code: 2, Fail: fail, Parts: []int{part}, Text: "(" + reason + ")"}
}

// TestEST_E19_FullCMC: PKCS#10 and CRMF in one message, each answered for itself,
// and what a client wants to see again.
func TestEST_E19_FullCMC(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	one, two := issuancetest.NewKey(t), issuancetest.NewKey(t)
	message := signCMC(t, throwAway(t, one), one, cmctest.PKIData(
		[]cmctest.Part{cmctest.TransactionID(1, 4711), cmctest.SenderNonce(2, []byte("a nonce")), cmctest.DataReturn(3, []byte("mine"))},
		[]cmctest.Part{cmctest.PKCS10(10, newCSR(t, one, "one", withDNS("one.test"))), cmctest.CRMF(crmf(t, 11, two, "two")), cmctest.PKCS10(12, newCSR(t, issuancetest.NewKey(t), ""))},
	))
	a := d.cmc(t, 200, message).wants(t, success(10), success(11), failure(12, 2, "no_name"))
	if len(a.certs) != 2 || a.certs[0].Subject.CommonName != "one" || !two.PublicKey.Equal(a.certs[1].PublicKey) || a.certs[1].Subject.CommonName != "two" {
		t.Fatalf("certificates %v", a.certs)
	}
	if a.Transaction.Int64() != 4711 || string(a.RecipientNonce) != "a nonce" || len(a.SenderNonce) != 16 || string(a.DataReturn) != "mine" {
		t.Errorf("%+v", a.Response)
	}
	again := d.cmc(t, 200, message)
	if !again.certs[0].Equal(a.certs[0]) || !again.certs[1].Equal(a.certs[1]) {
		t.Error("the same message again got other certificates")
	}
	row, err := e.pipeline.Lookup(t.Context(), a.certs[1].Raw)
	if err != nil || row.Requester != "est_user:device" || row.Protocol != "est" {
		t.Errorf("on record: %+v %v", row, err)
	}
	// With its certificate a device may have its own names and no others.
	d = &device{e: e, key: two, cert: a.certs[1]}
	a = d.cmc(t, 200, signCMC(t, d.cert, two, cmctest.PKIData(nil, []cmctest.Part{
		cmctest.CRMF(crmf(t, 1, issuancetest.NewKey(t), "two")), cmctest.CRMF(crmf(t, 2, issuancetest.NewKey(t), "admin")),
	})))
	a.wants(t, success(1), failure(2, 7, "subject_differs"))
	if empty := d.cmc(t, 200, signCMC(t, d.cert, two, cmctest.PKIData(nil, nil))).wants(t, success(0)); empty.SenderNonce != nil {
		t.Error("a nonce that nobody asked for")
	}
}

// TestEST_E19_WhoSigned: the key of a request, by a throw-away certificate or by
// its identifier; a certificate that counts here; nobody else.
func TestEST_E19_WhoSigned(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	key, other := issuancetest.NewKey(t), issuancetest.NewKey(t)
	data := cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, newCSR(t, key, "d"))})
	d.cmc(t, 200, signCMC(t, throwAway(t, key), key, data)).wants(t, success(1))
	d.cmc(t, 401, signCMC(t, throwAway(t, other), other, data)).wants(t, failure(0, 1, "cmc_signer"))
	held := e.enrolled(t, "held")
	d.cmc(t, 200, signCMC(t, held.cert, held.key, data)).wants(t, success(1))
	stranger := newFactory(t, e).make("77", nil)
	d.cmc(t, 403, signCMC(t, stranger.cert, stranger.key, data)).wants(t, failure(0, 7, "certificate_unknown"))
	broken := signCMC(t, throwAway(t, key), key, data)
	broken[len(broken)-1] ^= 1
	d.cmc(t, 401, broken).wants(t, failure(0, 1, "cms_signature"))
	row, err := e.pipeline.Lookup(t.Context(), held.cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	e.revoke(t, row.ID, 1)
	d.cmc(t, 403, signCMC(t, held.cert, held.key, data)).wants(t, failure(0, 7, "certificate_revoked"))
}

// TestEST_E19_Refusals of messages as a whole: nothing in them is done.
func TestEST_E19_Refusals(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device", "p384"}},
		Endpoint{Name: "bound", Label: "bound", Issuer: "ca", Profiles: []string{"device"}, Challenge: ChallengeRequired})
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	key := issuancetest.NewKey(t)
	self := throwAway(t, key)
	csr := cmctest.PKCS10(1, newCSR(t, key, "d"))
	sign := func(data []byte) []byte { return signCMC(t, self, key, data) }
	d.cmc(t, 400, sign([]byte("hello"))).wants(t, failure(0, 2, "cmc_syntax"))
	d.cmc(t, 400, sign(cmctest.PKIData([]cmctest.Part{cmctest.Control(9, 18, cmctest.Int(1))}, []cmctest.Part{csr}))).wants(t, failure(9, 2, "cmc_unknown"))
	var many []cmctest.Part
	for i := range 33 {
		many = append(many, cmctest.TransactionID(int64(i+1), 1))
	}
	d.cmc(t, 400, sign(cmctest.PKIData(many, nil))).wants(t, failure(0, 2, "cmc_syntax"))
	other, err := cms.Sign(cms.Message{Content: cmctest.PKIData(nil, []cmctest.Part{csr})}, cms.Signer{Certificate: self, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	d.cmc(t, 400, other).wants(t, failure(0, 2, "cmc_type"))
	message, err := cms.Degenerate([]*x509.Certificate{self}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.cmc(t, 400, message).wants(t, failure(0, 2, "cmc_type"))

	// What is no signed message gets no CMC.
	post := func(d *device, path string, body []byte, typ string) *response {
		return d.do(t, http.MethodPost, path, encodeBody(body), "Content-Type", typ)
	}
	refused(t, post(d, "/fullcmc", []byte("hello"), typeCMS), 400, "cms_syntax")
	refused(t, post(d, "/fullcmc", sign(nil), typePKCS10), 415, "")
	refused(t, post(d, "/fullcmc", make([]byte, maxBody), typeCMS), 413, "")
	refused(t, post(e.anonymous(), "/fullcmc", sign(nil), typeCMS), 401, "password_required")

	// And single requests.
	ca := e.enrolled(t, "signer")
	for _, tc := range []struct {
		part   cmctest.Part
		code   int
		status cmctest.Status
	}{
		{cmctest.PKCS10(1, newCSR(t, issuancetest.NewKey(t), "d", forged())), 400, failure(1, 9, "signature")},
		{cmctest.CRMF(cmctest.RAVerified(crmfRequest(t, 1, key, "d"))), 400, failure(1, 8, "crmf_pop")},
		{cmctest.CRMF(cmctest.Proved(t, crmfRequest(t, 1, key, "d"), issuancetest.NewKey(t))), 400, failure(1, 9, "signature")},
		{cmctest.CRMF(crmf(t, 1, issuancetest.NewKey(t), "")), 400, failure(1, 2, "no_name")},
	} {
		d.cmc(t, tc.code, signCMC(t, ca.cert, ca.key, cmctest.PKIData(nil, []cmctest.Part{tc.part}))).wants(t, tc.status)
	}
	r := d.do(t, http.MethodPost, "/bound/fullcmc", encodeBody(signCMC(t, ca.cert, ca.key, cmctest.PKIData(nil, []cmctest.Part{csr}))), "Content-Type", typeCMS)
	want(t, r, 400)
	gone := error(issuerAway)
	e.signer.Broken.Store(&gone)
	a := d.cmc(t, 503, sign(cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, newCSR(t, key, "e"))})))
	if a.Statuses[0].Fail != 12 {
		t.Errorf("%+v", a.Statuses)
	}
	e.signer.Broken.Store(nil)
	e.server.Signer = nil
	refused(t, post(d, "/fullcmc", sign(nil), typeCMS), 503, "")
}

// TestEST_E19_Revocation: by the holder, by a registration authority, by nobody
// else.
func TestEST_E19_Revocation(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"device"}, RAProfiles: []string{"ra"}})
	password := e.withPassword(t, credential.NewESTUser{Name: "device"})
	enrol := func(cn string) *device {
		d := *password
		d.enrol(t, "/simpleenroll", cn)
		d.user = ""
		return &d
	}
	status := func(d *device) *store.Revocation {
		t.Helper()
		row, err := e.pipeline.Lookup(t.Context(), d.cert.Raw)
		if err != nil {
			t.Fatal(err)
		}
		return row.Revocation
	}
	mine, other := enrol("mine"), enrol("other")
	revoke := func(by *device, code int, want cmctest.Status, cert *x509.Certificate, extra ...cmctest.Part) {
		t.Helper()
		by.cmc(t, code, signCMC(t, by.cert, by.key, cmctest.PKIData([]cmctest.Part{cmctest.RevokeRequest(5, cert, 4, extra...)}, nil))).wants(t, want)
	}
	secret := cmctest.Tagged(cbasn1.OCTET_STRING, cmctest.Raw([]byte("secret")))
	revoke(mine, 403, failure(5, 7, "revocation_foreign"), other.cert)
	revoke(mine, 403, failure(5, 7, "revocation_foreign"), &x509.Certificate{RawIssuer: e.issuing.RawSubject, SerialNumber: big.NewInt(7)})
	revoke(mine, 403, failure(5, 7, "revocation_foreign"), &x509.Certificate{RawIssuer: other.cert.RawSubject, SerialNumber: big.NewInt(7)})
	revoke(mine, 400, failure(5, 2, "revocation_passphrase"), mine.cert, secret)
	revoke(mine, 200, success(5), mine.cert)
	if r := status(mine); r == nil || r.Reason != 4 || !strings.HasPrefix(r.Requester, "certificate:") {
		t.Errorf("on record: %+v", r)
	}
	// Who has a password and a key that nobody certified revokes nothing.
	key := issuancetest.NewKey(t)
	password.cmc(t, 200, signCMC(t, throwAway(t, key), key, cmctest.PKIData(
		[]cmctest.Part{cmctest.RevokeRequest(5, other.cert, 4)}, []cmctest.Part{cmctest.PKCS10(1, newCSR(t, key, "d"))},
	))).wants(t, success(1), failure(5, 7, "revocation_signer"))

	ra := &device{e: e, key: issuancetest.NewKey(t)}
	ra.cert = e.issue(t, "ra", newCSR(t, ra.key, "RA"))
	operators := e.enrolled(t, "not of this endpoint")
	revoke(ra, 404, failure(5, 4, "revocation_unknown"), operators.cert)
	revoke(ra, 404, failure(5, 4, "revocation_unknown"), &x509.Certificate{RawIssuer: e.issuing.RawSubject, SerialNumber: big.NewInt(7)})
	revoke(ra, 200, success(5), other.cert)
	revoke(ra, 409, cmctest.Status{Code: 2, Fail: 2, Parts: []int{5}}, other.cert)
	if status(other) == nil || status(operators) != nil {
		t.Error("what was revoked is not on record, or something else is")
	}
	// Its word is proof of possession.
	someone := issuancetest.NewKey(t)
	a := ra.cmc(t, 200, signCMC(t, ra.cert, ra.key, cmctest.PKIData(nil, []cmctest.Part{cmctest.CRMF(cmctest.RAVerified(crmfRequest(t, 3, someone, "some device")))})))
	if a.wants(t, success(3)); !someone.PublicKey.Equal(a.certs[0].PublicKey) {
		t.Error("another key")
	}
}

// TestEST_E19_Pending: 202 and a token, by which the client asks; the same message
// again does as well.
func TestEST_E19_Pending(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Endpoint{Name: "est", Issuer: "ca", Profiles: []string{"waiting"}})
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	key := issuancetest.NewKey(t)
	message := signCMC(t, throwAway(t, key), key, cmctest.PKIData(nil, []cmctest.Part{cmctest.CRMF(crmf(t, 1, key, "d"))}))
	waits := cmctest.Status{Code: 3, Fail: -1, Parts: []int{1}, Text: "(approval_pending)"}
	token := d.cmc(t, 202, message).wants(t, waits).Statuses[0].Token
	if r := d.do(t, http.MethodPost, "/fullcmc", encodeBody(message), "Content-Type", typeCMS); r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	held := e.enrolled(t, "held")
	ask := func(token string) []byte {
		return signCMC(t, held.cert, held.key, cmctest.PKIData([]cmctest.Part{cmctest.QueryPending(1, []byte(token))}, nil))
	}
	// The certificate that signs has a profile that does not count here.
	d.cmc(t, 403, ask(string(token))).wants(t, failure(0, 7, "certificate_other_profile"))
	query := func(key *ecdsa.PrivateKey, token []byte) []byte {
		return signCMC(t, throwAway(t, key), key, cmctest.PKIData([]cmctest.Part{cmctest.QueryPending(1, token)}, []cmctest.Part{cmctest.CRMF(crmf(t, 2, key, "d"))}))
	}
	stillWaits := waits
	stillWaits.Parts = []int{2}
	d.cmc(t, 202, query(key, token)).wants(t, stillWaits, waits)
	e.decide(t, string(token), true)
	a := d.cmc(t, 200, message).wants(t, success(1))
	for _, bad := range [][]byte{[]byte("unknown"), {0, 1, 0xff}, nil} {
		got := d.cmc(t, 202, query(issuancetest.NewKey(t), bad)).Statuses
		if got[1].Code != 2 || got[1].Fail != 4 {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	b := d.cmc(t, 200, query(issuancetest.NewKey(t), token))
	if b.Statuses[1].Code != 0 || len(b.certs) != 1 || !b.certs[0].Equal(a.certs[0]) {
		t.Errorf("%+v", b.Response)
	}
	foreign := e.withPassword(t, credential.NewESTUser{Name: "other"})
	if got := foreign.cmc(t, 202, query(issuancetest.NewKey(t), token)).Statuses; got[1].Fail != 4 {
		t.Errorf("somebody else's token: %+v", got)
	}
}

// TestEST_E19_OpenSSL: openssl signs what we read, also with a key that is named by
// its identifier alone, and reads what we sign.
func TestEST_E19_OpenSSL(t *testing.T) {
	t.Parallel()
	program := need.Program(t, "openssl")
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	dir, key := t.TempDir(), issuancetest.NewKey(t)
	put := func(name, typ string, der []byte) {
		t.Helper()
		if typ != "" {
			der = pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})
		}
		if err := os.WriteFile(filepath.Join(dir, name), der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			t.Fatalf("openssl %s: %s", args[0], exit.Stderr)
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put("key", "PRIVATE KEY", pkcs8)
	put("cert", "CERTIFICATE", throwAway(t, key).Raw)
	put("root", "CERTIFICATE", e.root.Raw)
	put("data", "", cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, newCSR(t, key, "d"))}))
	for _, more := range [][]string{nil, {"-keyid"}, {"-keyid", "-nocerts"}, {"-stream"}} {
		message := openssl(append([]string{"cms", "-sign", "-binary", "-nodetach", "-in", "data", "-econtent_type", "1.3.6.1.5.5.7.12.2", "-outform", "DER", "-signer", "cert", "-inkey", "key"}, more...)...)
		put("answer", "", d.cmc(t, 200, message).wants(t, success(1)).der)
	}
	content := openssl("cms", "-verify", "-inform", "DER", "-in", "answer", "-CAfile", "root", "-purpose", "any", "-binary")
	if r, err := cmctest.Read(content); err != nil || len(r.Statuses) != 1 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestEST_E19_EveryFaultHasAFailInfo of RFC 5272.
func TestEST_E19_EveryFaultHasAFailInfo(t *testing.T) {
	t.Parallel()
	for _, k := range fault.Kinds() {
		if n := failInfo(fault.New(k, "x")); n < 0 || n > 13 || n == 0 && k != fault.BadAlgorithm && k != fault.BadPublicKey {
			t.Errorf("%s: %d", k, n)
		}
	}
	x := &exchange{Server: &Server{Deps: Deps{Now: time.Now}}, r: (&http.Request{}).WithContext(t.Context())}
	x.note(nil, errors.New("password=hunter2"))
	if st := x.response.Statuses[0]; strings.Contains(st.Text, "hunter2") || st.Fail != cmc.InternalCAError {
		t.Errorf("%+v", st)
	}
}
