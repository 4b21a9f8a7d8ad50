package owncert

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/privyseal/privyseal/internal/keys"
)

// selfSignedLife is how long a listener's self-signed certificate is good, and
// selfSignedRest how much is left when it is replaced. Clients trust its fingerprint, so
// it changes as seldom as can be.
const (
	selfSignedLife = 10 * 365 * 24 * time.Hour
	selfSignedRest = 30 * 24 * time.Hour
)

// SelfSigned returns the self-signed certificate that a file keeps for a listener, and
// makes it if there is none, or what is there ends soon or cannot be read. It is no CA,
// and clients know it by its fingerprint alone.
func SelfSigned(ctx context.Context, f File, name string, now time.Time) (*Pair, error) {
	p, err := f.Read()
	switch {
	case err == nil && now.Add(selfSignedRest).Before(p.Certificate.NotAfter):
		return p, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		f.Log.WarnContext(ctx, "a self-signed certificate cannot be used; a new one, with another fingerprint, is made",
			"file", f.Path, "error", err)
	}
	key, err := keys.Make("ec-p256")
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cut(name)}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make self-signed certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make self-signed certificate: %w", err)
	}
	p = &Pair{Certificate: c, Key: key}
	_, err = f.Keep(ctx, []Generation{{Pairs: []Pair{*p}}})
	return p, err
}
