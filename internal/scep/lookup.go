package scep

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// errNoCertificate is for the log; clients get errNothing.
var errNoCertificate error = fault.New(fault.NotFound, "there is no such certificate").Because("scep_no_certificate")

// getCertificate answers GetCert (RFC 8894, section 3.3.4; rule S20).
func (s *Server) getCertificate(ctx context.Context, plain []byte) (*content, error) {
	row, _, err := s.lookup(ctx, plain)
	if err != nil {
		return nil, err
	}
	if row == nil || row.DER == nil {
		return nil, errNoCertificate
	}
	cert, err := x509.ParseCertificate(row.DER)
	if err != nil {
		return nil, err
	}
	return &content{certs: []*x509.Certificate{cert}}, nil
}

// getList answers GetCRL (RFC 8894, section 3.3.4; rule S20) with the newest list
// on which the certificate would stand. There has to be such a certificate: a list
// for any number whatever would tell who cannot read the number that it decrypted.
func (s *Server) getList(ctx context.Context, plain []byte) (*content, error) {
	row, issuerID, err := s.lookup(ctx, plain)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, errNoCertificate
	}
	_, der, err := s.Store.LatestCRL(ctx, issuerID, row.Shard)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "no revocation list of this issuer is published yet").
			Because("scep_no_crl")
	}
	if err != nil {
		return nil, err
	}
	return &content{crls: [][]byte{der}}, nil
}

// lookup finds the issuer that the content of GetCert and GetCRL names, and the
// certificate, nil if the issuer has none of that number.
func (s *Server) lookup(ctx context.Context, plain []byte) (*store.Certificate, string, error) {
	name, serial, err := readIssuerAndSerial(plain)
	if err != nil {
		return nil, "", err
	}
	return s.Pipeline.LookupNumber(ctx, name, serial)
}

// readIssuerAndSerial reads IssuerAndSerialNumber (RFC 5652, section 10.2.4).
func readIssuerAndSerial(der []byte) (issuer []byte, serial pki.Serial, err error) {
	input := cryptobyte.String(der)
	var body, name cryptobyte.String
	number := new(big.Int)
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() || !body.ReadASN1Element(&name, cbasn1.SEQUENCE) ||
		!body.ReadASN1Integer(number) || !body.Empty() {
		return nil, "", hide("the content is not the DER of an IssuerAndSerialNumber")
	}
	if _, err := pki.ParseNameDER(name); err != nil {
		return nil, "", hide("the issuer that the content names: %w", err)
	}
	if number.Sign() <= 0 {
		return nil, "", errNoCertificate
	}
	return name, pki.SerialFromBig(number), nil
}
