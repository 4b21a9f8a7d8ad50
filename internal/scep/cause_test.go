package scep

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	"github.com/privyseal/privyseal/internal/cms"
	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
)

// cause sends a message and returns the cause that the line in the log has.
func (e *env) cause(t testing.TB, der []byte) string {
	t.Helper()
	r, err := e.server.operate(t.Context(), e.server.current()["default"], "192.0.2.1", der, &Event{})
	if err != nil {
		t.Fatal(err)
	}
	if r.cause == nil {
		return ""
	}
	return r.cause.Error()
}

// TestFR4_TheLogHasTheCause of every answer that tells the client none.
func TestFR4_TheLogHasTheCause(t *testing.T) {
	t.Parallel()
	e := newLimitedEnv(t, unlimited(), func(ep *Endpoint) { ep.Manual = true })
	d := newDevice(t, 0).enrol(t, e, "dev")
	broken := brokenRequests(t, d)
	for _, c := range []struct {
		typ, what string
		m         message
		want      string
	}{
		{"19", "PEM", message{content: broken["PEM"]}, "PEM"},
		{"19", "an octet more", message{content: broken["an octet more"]}, "1 octets of"},
		{"19", "two line feeds", message{content: broken["two line feeds"]}, "2 octets of"},
		{"17", "the signature", message{content: broken["the signature"]}, "its signature does not verify"},
		{"18", "an MD5 one", message{content: broken["an MD5 one"]}, "signed by an algorithm that is not accepted"},
		{"19", "the syntax", message{content: broken["the syntax"]}, "its information part is not DER"},
		{"19", "the padding", message{envelope: damage(t, e, 3, broken["PEM"])}, "it cannot be decrypted"},
		{"21", "the padding", message{envelope: damage(t, e, 3, broken["PEM"])}, "it cannot be decrypted"},
		{"22", "no envelope", message{envelope: []byte{0x30}}, "message:"},
		{"21", "garbage", message{content: []byte("garbage")}, "IssuerAndSerialNumber"},
		{"21", "no such issuer", message{content: issuerAndSerial(d.cert.RawSubject, big.NewInt(7))}, "no issuer of that name"},
		{"22", "no such certificate", message{content: issuerAndSerial(e.ca.RawSubject, big.NewInt(7))}, "no such certificate"},
		{"22", "no list", message{content: issuerAndSerial(e.ca.RawSubject, d.cert.SerialNumber)}, "no revocation list"},
		{"20", "garbage", message{content: []byte("garbage")}, "IssuerAndSubject"},
		{"20", "no such transaction", message{content: issuerAndSubject(t, e, "dev")}, "no request of this transaction"},
		{
			"20", "no issuer",
			message{transaction: "enrol-dev", content: issuerAndCommonName(t, []byte{0x30, 2, 5, 0}, "dev")},
			"a name in the content",
		},
		{"20", "another subject", message{transaction: "enrol-dev", content: issuerAndSubject(t, e, "other")}, "another subject"},
	} {
		c.m.typ = c.typ
		if c.m.transaction == "" {
			c.m.transaction = "t"
		}
		got := e.cause(t, d.wrap(t, e, c.m))
		if !strings.Contains(got, c.want) || !strings.Contains(got, "cannot be decrypted or read") {
			t.Errorf("type %s, %s: the log has %q, want %q in it", c.typ, c.what, got, c.want)
		}
	}
}

// TestFR4_LimitedAnswersHaveTheCauseToo, and those that are refused unread say so.
func TestFR4_LimitedAnswersHaveTheCauseToo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	ep := e.server.current()["default"]
	c := &call{attributes: attributes{typ: getCert}, ep: ep, source: "192.0.2.1", ra: &ep.ras.list()[0]}
	why := &hidden{fault.New(fault.BadCSR, "the cause")}
	for range 101 {
		f := fault.Of(e.server.unreadable(t.Context(), c, why))
		if !strings.Contains(f.Error(), "the cause") || strings.Contains(failInfoText(f), "the cause") {
			t.Fatalf("%v; on the wire: %s", f, failInfoText(f))
		}
	}
	if err := e.server.unreadable(t.Context(), c, why); !fault.Is(err, fault.RateLimited) {
		t.Error(err)
	}
	der := d.wrap(t, e, message{typ: "21", transaction: "t", content: []byte("garbage")})
	if _, err := e.server.operate(t.Context(), c.ep, c.source, der, &Event{}); !fault.Is(err, fault.RateLimited) {
		t.Error(err)
	}
}

// TestFR4_IntactRequestsAreToldWhy: exactly one request whose own signature is
// right gets a specific answer; a line feed after it is passed over.
func TestFR4_IntactRequestsAreToldWhy(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	good := d.csr(t, "dev", testSecret)
	send := func(tx string, content []byte) rep {
		return d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: tx, content: content})))
	}
	wantFail(t, send("md5", signedBy(t, d.key, good, crypto.MD5, md5WithRSA)), badAlg, "signature_algorithm")
	wantFail(t, send("sha1", signedBy(t, d.key, good, crypto.SHA1, sha1WithRSA)), badAlg, "signature_algorithm")
	wantFail(t, send("subject", d.csr(t, "", "", func(r *x509.CertificateRequest) {
		r.RawSubject = []byte{0x30, 2,
			5, 0}
	})),
		badRequest, "subject")
	twice := d.csr(t, "dev", "", func(r *x509.CertificateRequest) {
		r.ExtraExtensions = []pkix.Extension{
			{Id: pki.OIDSubjectAltName, Value: []byte{0x30, 3, 0x82, 1, 'a'}}, {Id: pki.OIDSubjectAltName,
				Value: []byte{0x30, 0}},
		}
	})
	wantFail(t, send("twice", twice), badRequest, "csr_attribute")
	first, second := send("lf", good), send("lf", append(good, '\n'))
	if first.status != pkiSuccess || second.status != pkiSuccess || !second.certs[0].Equal(first.certs[0]) {
		t.Errorf("with a line feed: %+v", second)
	}
	if r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "gcm", content: append(good, '\n'), cipher: cms.AES128GCM}))); r.status != pkiSuccess {
		t.Errorf("with a line feed, by GCM: %+v", r)
	}
}
