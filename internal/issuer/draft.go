package issuer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/profile"
)

// Draft is a TBSCertificate that has passed the linter and waits for the CA's
// signature. Only Issuer.Draft makes one, and it can be signed once, by the
// issuer that drafted it.
type Draft struct {
	issuer *Issuer
	serial pki.Serial
	tbs    []byte
	used   atomic.Bool
}

// TBS returns a copy of the octets that will be signed.
func (d *Draft) TBS() []byte { return bytes.Clone(d.tbs) }

// Serial returns the serial number of the certificate to be.
func (d *Draft) Serial() pki.Serial { return d.serial }

// Shard returns the list that the certificate will be on if it is revoked. It is
// fixed from now on.
func (d *Draft) Shard() int { return d.issuer.locations.Shard(d.serial) }

// Draft encodes the certificate that the template describes, signs it with a
// throw-away key and lints it (rule X12). The CA's key is not touched: every
// error is ErrUnsigned. What the linter refuses is fault.BadCSR with the reason
// "lint", for the template's own rules let through what the request asked.
func (i *Issuer) Draft(t *profile.Template, serial pki.Serial) (*Draft, error) {
	if err := i.checkTemplate(t); err != nil {
		return nil, unsigned(fmt.Errorf("draft certificate: %w", err))
	}
	tbs, err := i.encodeTBS(t, serial)
	if err != nil {
		return nil, unsigned(fmt.Errorf("draft certificate: %w", err))
	}
	der, err := i.signDummy(tbs)
	if err != nil {
		return nil, unsigned(fmt.Errorf("draft certificate: %w", err))
	}
	if err := checkParsed(der, tbs); err != nil {
		return nil, unsigned(fmt.Errorf("draft certificate: %w", err))
	}
	if err := LintCertificate(der, t.Profile); err != nil {
		return nil, unsigned(fault.New(fault.BadCSR, "certificate does not pass the linter: %w", err).Because("lint"))
	}
	return &Draft{issuer: i, serial: serial, tbs: tbs}, nil
}

// signDummy returns tbs signed by the throw-away key.
func (i *Issuer) signDummy(tbs []byte) ([]byte, error) {
	sig, err := i.dummy.Sign(rand.Reader, i.scheme.digest(tbs), i.scheme.hash)
	if err != nil {
		return nil, fmt.Errorf("sign with the throw-away key: %w", err)
	}
	return assemble(tbs, i.scheme.algorithm, sig)
}

// checkParsed reads a certificate back and compares what was signed.
func checkParsed(der, tbs []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(c.RawTBSCertificate, tbs) {
		return errors.New("read back: the signed octets are not those of the draft")
	}
	return nil
}

// Sign puts the CA's signature on the draft. Errors that wrap ErrUnsigned mean
// that no certificate exists; after any other one may.
func (i *Issuer) Sign(ctx context.Context, d *Draft) ([]byte, error) {
	if d == nil || d.issuer != i {
		return nil, unsigned(errors.New("sign certificate: the draft is not this issuer's"))
	}
	if d.used.Swap(true) {
		// Not ErrUnsigned: the first call may have signed it.
		return nil, errors.New("sign certificate: the draft was used before")
	}
	der, err := i.sign(ctx, "certificate", d.tbs)
	if err != nil {
		return nil, err
	}
	if err := checkParsed(der, d.tbs); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}
