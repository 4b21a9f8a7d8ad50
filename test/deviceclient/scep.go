// Package deviceclient is a small SCEP and EST client (RFC 8894, RFC 7030) for
// load runs and tests of the whole program: it keeps its connections, spends
// little time of its own, and takes nothing for granted: an answer that is not
// signed by the RA, not encrypted to the device or not for its transaction is an
// error.
package deviceclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/cms"
)

// Message types and statuses of SCEP.
const (
	RenewalReq = "17"
	PKCSReq    = "19"
	CertPoll   = "20"

	Success = "0"
	Failure = "2"
	Pending = "3"
)

func scepOID(last int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, last}
}

var oidFailInfoText = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}

// SCEP is one SCEP endpoint. It may be used from many goroutines.
type SCEP struct {
	http   *http.Client
	url    string
	Bundle []*x509.Certificate // of GetCACert, the RA first
}

// Device is a key with the certificate that it signs messages with.
type Device struct {
	Key  *rsa.PrivateKey
	Cert *x509.Certificate
}

// Answer is a CertRep.
type Answer struct {
	Status, FailInfo, Text string
	Certificates           []*x509.Certificate
}

// StatusError is an answer by HTTP that the protocol does not have.
type StatusError struct {
	Code       int
	Text       string
	RetryAfter string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Text) }

// NewSCEP asks an endpoint for its certificates.
func NewSCEP(ctx context.Context, hc *http.Client, url string) (*SCEP, error) {
	s := &SCEP{http: hc, url: url}
	body, err := s.do(ctx, http.MethodGet, "GetCACert", nil)
	if err != nil {
		return nil, err
	}
	if bag, err := cms.ParseSignedData(body, cms.Limits{}); err == nil {
		s.Bundle = bag.Certificates
	} else if s.Bundle, err = x509.ParseCertificates(body); err != nil {
		return nil, fmt.Errorf("GetCACert: %w", err)
	}
	if len(s.Bundle) == 0 {
		return nil, errors.New("GetCACert: no certificate")
	}
	return s, nil
}

// NewDevice returns a device with a throw-away certificate of its key.
func NewDevice(key *rsa.PrivateKey) (*Device, error) {
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Device{key, cert}, err
}

// Send makes a pkiMessage of a type, sends it and opens the answer.
func (s *SCEP) Send(ctx context.Context, d *Device, typ, transaction string, content []byte) (*Answer, error) {
	message, err := s.Message(d, typ, transaction, content)
	if err != nil {
		return nil, err
	}
	return s.Post(ctx, d, transaction, message)
}

// Message makes a pkiMessage.
func (s *SCEP) Message(d *Device, typ, transaction string, content []byte) ([]byte, error) {
	envelope, err := cms.Encrypt(context.Background(), cms.OIDData, content, s.Bundle[0], cms.AES128CBC,
		cms.KeyTransport{})
	if err != nil {
		return nil, err
	}
	return Sign(d, typ, transaction, envelope)
}

// Sign makes a pkiMessage of an envelope, whatever that is.
func Sign(d *Device, typ, transaction string, envelope []byte) ([]byte, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return cms.Sign(cms.Message{Content: envelope}, cms.Signer{Certificate: d.Cert, Key: d.Key,
		Attributes: []cms.Attribute{
			text(2, cbasn1.PrintableString, []byte(typ)), text(7, cbasn1.PrintableString, []byte(transaction)),
			text(5, cbasn1.OCTET_STRING, nonce[:]),
		}})
}

func text(last int, tag cbasn1.Tag, value []byte) cms.Attribute {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	return cms.Attribute{Type: scepOID(last), Values: [][]byte{b.BytesOrPanic()}}
}

// Post sends a pkiMessage of a transaction and opens the answer.
func (s *SCEP) Post(ctx context.Context, d *Device, transaction string, message []byte) (*Answer, error) {
	a, signed, err := s.post(ctx, transaction, message)
	if err != nil {
		return nil, err
	}
	return a, s.open(d, a, signed)
}

// PostUnopened reads no more of the answer than its status, for loads whose
// clients must not need the processors.
func (s *SCEP) PostUnopened(ctx context.Context, _ *Device, transaction string, message []byte) (*Answer, error) {
	a, _, err := s.post(ctx, transaction, message)
	return a, err
}

func (s *SCEP) post(ctx context.Context, transaction string, message []byte) (*Answer, *cms.SignedData, error) {
	body, err := s.do(ctx, http.MethodPost, "PKIOperation", message)
	if err != nil {
		return nil, nil, err
	}
	signed, err := cms.ParseSignedData(body, cms.Limits{})
	if err != nil {
		return nil, nil, err
	}
	if len(signed.Signers) != 1 {
		return nil, nil, errors.New("the answer has not exactly one signer")
	}
	value := func(oid asn1.ObjectIdentifier) string {
		der, body := cryptobyte.String(signed.Signers[0].Value(oid)), cryptobyte.String(nil)
		var tag cbasn1.Tag
		der.ReadAnyASN1(&body, &tag)
		return string(body)
	}
	a := &Answer{Status: value(scepOID(3)), FailInfo: value(scepOID(4)), Text: value(oidFailInfoText)}
	if value(scepOID(7)) != transaction {
		return nil, nil, errors.New("the answer is of another transaction")
	}
	return a, signed, nil
}

// open verifies the answer and takes the certificates out of it.
func (s *SCEP) open(d *Device, a *Answer, signed *cms.SignedData) error {
	signers, err := signed.Verify(context.Background(), cms.Policy{}, s.Bundle...)
	if err != nil {
		return err
	}
	if !signers[0].Equal(s.Bundle[0]) {
		return errors.New("the answer is not the RA's")
	}
	if a.Status != Success {
		return nil
	}
	envelope, err := cms.ParseEnvelopedData(signed.Content, cms.Limits{})
	if err != nil {
		return err
	}
	plain, err := envelope.Decrypt(d.Cert, d.Key, cms.Policy{})
	if err != nil {
		return err
	}
	bag, err := cms.ParseSignedData(plain, cms.Limits{})
	if err != nil {
		return err
	}
	a.Certificates = bag.Certificates
	return nil
}

// IssuerAndSubject is the content of a CertPoll.
func (s *SCEP) IssuerAndSubject(csr *x509.CertificateRequest) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(s.Bundle[0].RawIssuer)
		b.AddBytes(csr.RawSubject)
	})
	return b.BytesOrPanic()
}

func (s *SCEP) do(ctx context.Context, method, operation string, message []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.url+"?operation="+operation, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	return answer(s.http, r)
}

// answer sends a request and returns the body of a 200.
func answer(hc *http.Client, r *http.Request) ([]byte, error) {
	resp, err := hc.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{resp.StatusCode, string(bytes.TrimSpace(body)), resp.Header.Get("Retry-After")}
	}
	return body, nil
}
