package ceremony

import (
	"context"
	"crypto/x509"
	"fmt"

	"github.com/privyseal/privyseal/internal/pki"
)

// SubordinateSpec says what offline CA is to be made below another.
type SubordinateSpec struct {
	CASpec
	Subject   string // RFC 4514
	Algorithm string // "ec-p384" (default) or "rsa-4096"
	UseKey    bool   // as in RootSpec
}

// Subordinate makes an offline CA in sub's folder and has it certified by ca: a
// policy CA below a root. Like Root it makes the key, or uses the one that an
// interrupted ceremony left, and writes the certificate last.
func Subordinate(ctx context.Context, ca, sub CA, spec SubordinateSpec) (*x509.Certificate, error) {
	if exists(sub.path(certFile)) {
		return nil, refuse("exists", "make CA: %s holds a CA already", sub.Dir)
	}
	if err := sub.makeDirs(); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	csr, err := sub.request(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	c, err := SignCA(ctx, ca, csr, spec.CASpec)
	if err != nil {
		return nil, err
	}
	if err := Install(sub, ca, c); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return c, nil
}

func (ca CA) request(ctx context.Context, spec SubordinateSpec) (*pki.CSR, error) {
	key, err := ca.makeKey(ctx, spec.Algorithm, spec.UseKey)
	if err != nil {
		return nil, err
	}
	defer ca.giveBack(key) //nolint:errcheck // nothing is lost with it
	return NewRequest(key, spec.Subject)
}

// Install writes the certificate that ca has signed for the offline CA sub, and
// those above it, into sub's folder: the last step of Subordinate.
func Install(sub, ca CA, c *x509.Certificate) error {
	above, err := ca.Chain()
	if err != nil {
		return err
	}
	chain := [][]byte{c.Raw}
	for _, a := range above {
		chain = append(chain, a.Raw)
	}
	return sub.found(chain...)
}
