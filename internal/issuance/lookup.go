package issuance

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// LookupNumber finds a certificate as messages name one: by its issuer's name in
// DER and its serial number. Several issuers may have one name, such as the
// generations of a pool. The row is nil if the issuer, whose id is returned, has
// none of that number; NotFound if there is no issuer of that name.
func (p *Pipeline) LookupNumber(ctx context.Context, name []byte, serial pki.Serial) (*store.Certificate, string, error) {
	issuers, err := p.store.Issuers(ctx)
	if err != nil {
		return nil, "", err
	}
	found := ""
	for _, i := range issuers {
		cert, err := x509.ParseCertificate(i.Certificate)
		if err != nil {
			return nil, "", err
		}
		if !sameName(cert.RawSubject, name) {
			continue
		}
		found = i.ID
		row, err := p.store.CertificateBySerial(ctx, i.ID, serial)
		if err == nil {
			return row, i.ID, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, "", err
		}
	}
	if found == "" {
		return nil, "", fault.New(fault.NotFound, "this CA has no issuer of that name").Because("no_such_issuer")
	}
	return nil, found, nil
}

// sameName compares two names as names: clients write the string types that they
// know.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := pki.ParseNameDER(a)
	y, errY := pki.ParseNameDER(b)
	return errX == nil && errY == nil && x.EqualRFC5280(y)
}
