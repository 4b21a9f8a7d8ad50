package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smallstep/pkcs7"
	"github.com/smallstep/scep"
	"github.com/smallstep/scep/x509util"

	"github.com/privyseal/privyseal/test/deviceclient"
)

// smallstepClient drives github.com/smallstep/scep, the library of several MDMs.
type smallstepClient struct {
	url  string
	hc   *http.Client
	cas  []*x509.Certificate
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

func (c *smallstepClient) call(t *testing.T, operation string, body []byte) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"?operation="+operation, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == nil {
		r.Method, r.Body = http.MethodGet, http.NoBody
	}
	resp, err := c.hc.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", operation, resp.Status, text, err)
	}
	return text
}

// enrol sends a request of a type and opens the answer.
func (c *smallstepClient) enrol(t *testing.T, typ scep.MessageType, challenge string) *scep.PKIMessage {
	t.Helper()
	der, err := x509util.CreateCertificateRequest(rand.Reader, &x509util.CertificateRequest{
		CertificateRequest: x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone-7"}}, ChallengePassword: challenge,
	}, c.key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	message, err := scep.NewCSRRequest(csr, &scep.PKIMessage{
		MessageType: typ, Recipients: c.cas, SignerCert: c.cert, SignerKey: c.key,
	}, scep.WithCertsSelector(scep.EnciphermentCertsSelector()))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := scep.ParsePKIMessage(c.call(t, "PKIOperation", message.Raw), scep.WithCACerts(c.cas))
	if err != nil {
		t.Fatal(err)
	}
	if answer.TransactionID != message.TransactionID {
		t.Errorf("the transaction is %s, want %s", answer.TransactionID, message.TransactionID)
	}
	return answer
}

// TestSmallstep enrols, renews twice and is refused with smallstep's library. Its
// message ciphers are globals; DES, which it takes by itself, is what the
// development endpoint still answers.
func TestSmallstep(t *testing.T) {
	l := newSite(t, "")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	device, err := deviceclient.NewDevice(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &smallstepClient{url: "http://" + l.Addr.HTTP + "/scep/default", hc: l.client(t, ""), key: key, cert: device.Cert}
	if c.cas, err = scep.CACerts(c.call(t, "GetCACert", nil)); err != nil || len(c.cas) != 2 {
		t.Fatalf("%d certificates, %v", len(c.cas), err)
	}
	secret := strings.TrimSpace(string(read(t, filepath.Join(l.Dir, "scep-challenge"))))
	serials := map[string]bool{}
	before := pkcs7.ContentEncryptionAlgorithm
	defer func() { pkcs7.ContentEncryptionAlgorithm = before }()
	for _, tc := range []struct {
		typ       scep.MessageType
		challenge string
		cipher    int
	}{
		{scep.PKCSReq, secret, pkcs7.EncryptionAlgorithmAES256CBC}, {scep.RenewalReq, "", pkcs7.EncryptionAlgorithmAES128CBC},
		{scep.RenewalReq, "", pkcs7.EncryptionAlgorithmDESCBC},
	} {
		pkcs7.ContentEncryptionAlgorithm = tc.cipher
		answer := c.enrol(t, tc.typ, tc.challenge)
		if answer.PKIStatus != scep.SUCCESS {
			t.Fatalf("%s: status %s, failInfo %s", tc.typ, answer.PKIStatus, answer.FailInfo)
		}
		if err := answer.DecryptPKIEnvelope(c.cert, c.key); err != nil {
			t.Fatal(err)
		}
		c.cert = answer.CertRepMessage.Certificate
		serial := c.cert.SerialNumber.String()
		if c.cert.Subject.CommonName != "phone-7" || serials[serial] {
			t.Errorf("got %s %s", c.cert.Subject, serial)
		}
		serials[serial] = true
		if err := c.cert.CheckSignatureFrom(c.cas[1]); err != nil {
			t.Error(err)
		}
	}
	c.cert = device.Cert
	if answer := c.enrol(t, scep.PKCSReq, "a wrong one"); answer.PKIStatus != scep.FAILURE || answer.FailInfo != scep.BadRequest {
		t.Errorf("a wrong challenge: %s", answer.PKIStatus)
	}
}
