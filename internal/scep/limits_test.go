package scep

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"testing"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// TestFS2_HugeKeyInTheRequest: the largest key that fits a message, whose signature
// is right. Who verifies it says what is wrong with the key; who does not, cannot
// know that the request is the sender's.
func TestFS2_HugeKeyInTheRequest(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	d := newDevice(t, 0)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "dev-1"}}, pkitest.Huge(254_000))
	if err != nil {
		t.Fatal(err)
	}
	message := d.wrap(t, e, message{typ: "19", transaction: "huge", content: csr})
	if len(message) > maxMessage {
		t.Fatalf("the message has %d octets", len(message))
	}
	wantFail(t, d.read(t, e.post(message)), badMessageCheck, "scep_unreadable")
}

// TestFS2_Busy does not run beside others: nobody's signature is verified meanwhile.
func TestFS2_Busy(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	e := newEnv(t)
	d := newDevice(t, 0)
	body := d.wrap(t, e, message{typ: "19", transaction: "busy", content: d.csr(t, "dev-1", testSecret)})
	ep := e.server.current()["default"]
	c := &call{attributes: attributes{typ: pkcsReq}, ep: ep, source: "192.0.2.1", ra: &ep.ras.list()[0]}
	pkitest.Busy(t)
	// What cannot be read is told the same as what would wait for its signature.
	err := e.server.unreadable(t.Context(), c, &hidden{errors.New("the cause")})
	if !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	w := e.post(body)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || !bytes.Contains(w.Body.Bytes(), []byte("[busy]")) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestFR4_BusyIsNotUnreadable: whether a request is intact is not known while nothing
// is verified, and whoever sent it did nothing wrong.
func TestFR4_BusyIsNotUnreadable(t *testing.T) { //nolint:paralleltest // it fills the process's queue
	e := newEnv(t)
	d := newDevice(t, 0)
	good := d.csr(t, "dev-1", testSecret)
	c := &call{attributes: attributes{typ: pkcsReq}, ep: e.server.current()["default"], source: "192.0.2.1"}
	unread := pkix.Extension{Id: pki.OIDSubjectAltName, Value: []byte{0x30, 4, 0x88, 2, 0x2a, 3}}
	pkitest.Busy(t)
	for what, der := range map[string][]byte{
		"good": good, "MD5": signedBy(t, d.key, good, crypto.MD5, md5WithRSA), "SHA-1": signedBy(t, d.key, good,
			crypto.SHA1, sha1WithRSA),
		"a name of no known form": d.csr(t, "dev-1", "",
			func(r *x509.CertificateRequest) { r.ExtraExtensions = []pkix.Extension{unread} }),
	} {
		c.opened = e.now()
		_, err := e.server.readCSR(t.Context(), c, der)
		var h *hidden
		if errors.As(err, &h) || !fault.Is(err, fault.Unavailable) || fault.Of(err).Reason != "busy" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFR1_AnyVersion: device management of Apple's calls its requests version 1 or 2.
func TestFR1_AnyVersion(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for version := range 3 {
		d := newDevice(t, 0)
		csr := pkitest.Versioned(t, d.csr(t, "dev-1", testSecret), d.key, version)
		r := d.read(t, e.post(d.wrap(t, e, message{typ: "19", transaction: "version-" + string(rune('0'+version)), content: csr})))
		if r.status != pkiSuccess {
			t.Errorf("version %d: %+v", version, r)
		}
	}
}
