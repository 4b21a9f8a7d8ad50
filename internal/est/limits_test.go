package est

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/cmc"
	"github.com/privyseal/privyseal/internal/cmc/cmctest"
	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/credential"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/issuance/issuancetest"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFS2_HugeIntermediateInFullCMC: the certificates of a message are its sender's
// to choose, and no signature is verified with a key of any size among them.
func TestFS2_HugeIntermediateInFullCMC(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	root, huge, between, leaf := issuancetest.NewKey(t), pkitest.Huge(20_000), issuancetest.NewKey(t), issuancetest.NewKey(t)
	anchor := newCA(t, "maker", nil, nil, root.Public(), root)
	err := e.server.Swap(Config{Endpoints: []Endpoint{{
		Name: "e", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthEither, Anchors: []*x509.Certificate{anchor},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	asked := issuancetest.NewKey(t)
	data := cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(10, newCSR(t, asked, "one", withDNS("one.test")))})
	send := func(code int, up *x509.Certificate, key crypto.Signer) *cmcAnswer {
		own := newCA(t, "leaf", up, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature
		}, leaf.Public(), key)
		der, err := cms.Sign(cms.Message{
			Type: cmc.OIDPKIData, Content: data, Certificates: []*x509.Certificate{own, up},
		}, cms.Signer{Certificate: own, Key: leaf})
		if err != nil {
			t.Fatal(err)
		}
		return d.cmc(t, code, der)
	}
	send(200, newCA(t, "between", anchor, nil, between.Public(), root), between).wants(t, success(10))
	refused := send(403, newCA(t, "between", anchor, nil, huge.Public(), root), huge)
	if len(refused.Statuses) != 1 || !strings.Contains(refused.Statuses[0].Text, "(certificate_untrusted)") {
		t.Errorf("%+v", refused.Statuses)
	}
}

// TestFS2_HugeClientCertificate: in the handshake it is crypto/tls that looks at
// the size before it verifies anything; 8192 bits is its bound too.
func TestFS2_HugeClientCertificate(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	key, huge := issuancetest.NewKey(t), pkitest.Huge(9_000)
	root := newCA(t, "maker", nil, nil, key.Public(), key)
	d := &device{e: e, key: unsigning{huge}, cert: newCA(t, "device", root, nil, huge.Public(), key)}
	res, err := d.client().Get(e.web.URL + "/.well-known/est/cacerts") //nolint:noctx // the handshake fails
	if err == nil {
		_ = res.Body.Close()
		t.Fatalf("answered: %s", res.Status)
	}
	if !strings.Contains(err.Error(), "tls: bad certificate") { // and not "error decrypting message"
		t.Error(err)
	}
}

// unsigning is a key whose signatures are not right.
type unsigning struct{ *pkitest.HugeKey }

func (k unsigning) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	junk := make([]byte, 9_000/8)
	_, _ = rand.Read(junk)
	return junk, nil
}

// TestFS2_Busy does not run beside others: nobody's signature is verified meanwhile.
func TestFS2_Busy(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	csr := newCSR(t, issuancetest.NewKey(t), "device-1", withDNS("device-1.test"))
	pkitest.Busy(t)
	r := d.post(t, "/simpleenroll", csr)
	if refused(t, r, http.StatusServiceUnavailable, "busy"); r.header.Get("Retry-After") != "5" {
		t.Errorf("%v", r.header)
	}
}

// TestFS2_BusyAnchor does not run beside others either: a certificate that could not be
// judged is not taken for one that does not count.
func TestFS2_BusyAnchor(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	e := newEnv(t)
	maker := newFactory(t, e)
	err := e.server.Swap(Config{Endpoints: []Endpoint{{
		Name: "e", Issuer: "ca", Profiles: []string{"device"}, Auth: AuthEither, Anchors: []*x509.Certificate{maker.root},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, issuancetest.NewKey(t), "device-1")
	pkitest.Busy(t)
	refused(t, maker.make("77", nil).post(t, "/simpleenroll", csr), http.StatusServiceUnavailable, "busy")
}

// TestFS2_BusyBareKey does not run beside others either: a message that is signed by
// the key of one of its requests is refused for now, and not for its signature.
func TestFS2_BusyBareKey(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	key := issuancetest.NewKey(t)
	data := cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(1, newCSR(t, key, "d"))})
	signed, err := cms.ParseSignedData(signCMC(t, throwAway(t, key), key, data), cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	signed.Certificates, signed.Signers[0].Name = nil, cms.Name{SubjectKeyID: []byte("key id")}
	m, err := cmc.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{c: &client{}}
	if by, err := x.signer(t.Context(), signed, m); err != nil || !strings.HasPrefix(by.name, "key:") {
		t.Errorf("%+v, %v", by, err)
	}
	pkitest.Busy(t)
	if by, err := x.signer(t.Context(), signed, m); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%+v, %v", by, err)
	}
}

// TestFR1_AnyVersion: wolfSSL and others call their requests version 1 or 2.
func TestFR1_AnyVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := e.withPassword(t, credential.NewESTUser{Name: "device"})
	for _, version := range []int{1, 2} {
		key := issuancetest.NewKey(t)
		csr := pkitest.Versioned(t, newCSR(t, key, "one", withDNS("one.test")), key, version)
		held := one(t, d.post(t, "/simpleenroll", csr))
		renewing := &device{e: e, key: key, cert: held}
		one(t, renewing.post(t, "/simplereenroll", csr))
		parts(t, d.post(t, "/serverkeygen", csr))
		message := signCMC(t, throwAway(t, key), key, cmctest.PKIData(nil, []cmctest.Part{cmctest.PKCS10(10, csr)}))
		d.cmc(t, http.StatusOK, message).wants(t, success(10))
	}
}
