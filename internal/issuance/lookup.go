package issuance

import (
	"context"
	"errors"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/store"
)

// LookupNumber finds a certificate as messages name one: by its issuer's name in
// DER and its serial number. Several issuers may have one name, such as the
// generations of a pool. The row is nil if the issuer, whose id is returned, has
// none of that number; NotFound if there is no issuer of that name.
func (p *Pipeline) LookupNumber(
	ctx context.Context, name []byte, serial pki.Serial,
) (*store.Certificate, string, error) {
	found := ""
	for _, c := range p.rules.Load().CAs.Named(name) {
		for _, id := range c.IDs() {
			row, err := p.store.CertificateBySerial(ctx, id, serial)
			if err == nil {
				return row, c.ID, nil
			}
			if !errors.Is(err, store.ErrNotFound) {
				return nil, "", err
			}
		}
		found = c.ID
	}
	if found == "" {
		return nil, "", fault.New(fault.NotFound, "this CA has no issuer of that name").Because("no_such_issuer")
	}
	return nil, found, nil
}
