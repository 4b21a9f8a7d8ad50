// Package issuer is one CA key and name: it turns a template into a certificate
// and a list of revocations into a CRL.
//
// A certificate is made in two steps so that signing something unlinted does not
// compile: Draft encodes the TBSCertificate, signs it with a throw-away key and
// lints it; Sign takes only a Draft, once, and puts the CA's signature on exactly
// those octets. The result is parsed again, compared, and verified with the CA's
// public key before it is returned.
//
// Whether a request may have this certificate is not decided here: profile and
// hierarchy have said so before. The package does no I/O but the signature and
// has no clock. Every error says whether a signature may exist (ErrUnsigned).
package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"

	"github.com/privyseal/privyseal/internal/keys"
	"github.com/privyseal/privyseal/internal/pki"
)

// ErrUnsigned is in the chain of every error after which it is certain that the
// CA's key signed nothing. After any other error a signature may exist somewhere
// and the serial must be treated as used.
var ErrUnsigned = errors.New("nothing was signed")

// unsigned marks an error as ErrUnsigned.
func unsigned(err error) error { return fmt.Errorf("%w: %w", ErrUnsigned, err) }

// Signer is what an issuer needs of its key. SignContext signs a digest (RSA,
// ECDSA) or a message (Ed25519); an error that wraps keys.ErrNotSigned promises
// that no signature was made.
type Signer interface {
	Public() crypto.PublicKey
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Locations are the URLs that an issuer writes into certificates. They are plain
// http (rule X10): a client that checks a TLS certificate cannot use TLS to
// fetch what it checks with. An empty one is left out.
type Locations struct {
	CRL       string // the issuer's list, DER
	Shards    int    // into how many lists new certificates are divided; 0: all are on CRL
	OCSP      string // the responder
	CAIssuers string // the issuer's own certificate, DER
}

// Shard returns the shard that a new certificate belongs to for good: 0 for the
// full list, otherwise its serial modulo Shards, plus one (rule C4).
func (l Locations) Shard(s pki.Serial) int {
	if l.Shards < 1 {
		return 0
	}
	return int(new(big.Int).Mod(s.Big(), big.NewInt(int64(l.Shards))).Int64()) + 1
}

// List returns the URL of the list of a shard: CRL for the full list, otherwise
// the same with the number as a last element, as in …/crl/web-1/7.crl.
func (l Locations) List(shard int) string {
	if shard == 0 || l.CRL == "" {
		return l.CRL
	}
	return strings.TrimSuffix(l.CRL, ".crl") + "/" + strconv.Itoa(shard) + ".crl"
}

// Delta returns the URL of the delta list that goes with CRL.
func (l Locations) Delta() string {
	if l.CRL == "" {
		return ""
	}
	return strings.TrimSuffix(l.CRL, ".crl") + "-delta.crl"
}

// Issuer is a CA that can sign. Its methods may be called concurrently.
type Issuer struct {
	id        string
	chain     []*x509.Certificate // issuer first, root last; empty for SelfSigned
	locations Locations
	signer    Signer
	scheme    scheme
	dummy     crypto.Signer // throw-away key of the same type, for drafts
	subject   []byte        // the DN that goes into certificates, as the CA's own has it
	keyID     []byte        // the CA's subject key identifier
}

// New returns the issuer of the given CA certificate and key. chain begins with
// the issuer and ends with its root; calaw.Foreign has said that the CA may stand.
// It refuses a key that is not the certificate's, and a self-signed issuer: a root's
// key has no place in a server (see NewOffline).
func New(id string, chain []*x509.Certificate, signer Signer, loc Locations) (*Issuer, error) {
	if len(chain) > 0 && bytes.Equal(chain[0].RawSubject, chain[0].RawIssuer) {
		return nil, fmt.Errorf("issuer %s: %s is self-signed: a root signs only in a ceremony", id, chain[0].Subject)
	}
	return NewOffline(id, chain, signer, loc)
}

// NewOffline is New for a ceremony, where the issuer may be a root.
func NewOffline(id string, chain []*x509.Certificate, signer Signer, loc Locations) (*Issuer, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("issuer %s: no certificate", id)
	}
	ca := chain[0]
	switch {
	case !ca.IsCA:
		return nil, fmt.Errorf("issuer %s: %s is not a CA certificate", id, ca.Subject)
	case !pki.SameKey(ca.PublicKey, signer.Public()):
		return nil, fmt.Errorf("issuer %s: the key is not the one of the certificate %s", id, ca.Subject)
	}
	for i, c := range chain {
		if up := chain[min(i+1, len(chain)-1)]; !pki.SameName(c.RawIssuer, up.RawSubject) {
			return nil, fmt.Errorf("issuer %s: the chain is not in order, or does not end in a root", id)
		}
	}
	keyID := ca.SubjectKeyId
	if len(keyID) == 0 { // verifiers compare it only where there is one (RFC 5280, section 4.2.1.1)
		var err error
		if keyID, err = keyIdentifier(ca.PublicKey); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", id, err)
		}
	}
	i, err := newIssuer(id, ca.RawSubject, keyID, signer, loc)
	if err != nil {
		return nil, err
	}
	i.chain = chain
	return i, nil
}

// minRSA is what a new CA's key has at least (G1-50).
const minRSA = 3072

// SelfSigned returns an issuer for the one certificate that has no issuer yet: a
// root of the given DER subject. It drafts nothing but that certificate and
// signs no CRL; NewOffline takes over once the certificate exists.
func SelfSigned(id string, subject []byte, signer Signer) (*Issuer, error) {
	if k, ok := signer.Public().(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return nil, fmt.Errorf("issuer %s: an RSA key of %d bits is too short for a new CA: want %d or more",
			id, k.N.BitLen(), minRSA)
	}
	keyID, err := keyIdentifier(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", id, err)
	}
	return newIssuer(id, subject, keyID, signer, Locations{})
}

func newIssuer(id string, subject, keyID []byte, signer Signer, loc Locations) (*Issuer, error) {
	scheme, err := schemeFor(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", id, err)
	}
	for _, u := range []string{loc.CRL, loc.OCSP, loc.CAIssuers} {
		if err := checkLocation(u); err != nil {
			return nil, fmt.Errorf("issuer %s: %w", id, err)
		}
	}
	dummy, err := throwAway(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", id, err)
	}
	return &Issuer{
		id: id, locations: loc, signer: signer, scheme: scheme, dummy: dummy,
		subject: subject, keyID: keyID,
	}, nil
}

// ID returns the issuer's id, which is part of its URLs.
func (i *Issuer) ID() string { return i.id }

// Certificate returns the CA's certificate; nil for SelfSigned.
func (i *Issuer) Certificate() *x509.Certificate {
	if len(i.chain) == 0 {
		return nil
	}
	return i.chain[0]
}

// Chain returns the certificates from the issuer up to its root. The slice is
// shared and must not be changed.
func (i *Issuer) Chain() []*x509.Certificate { return i.chain }

// Healthy returns why the key failed when it was last used; nil if it did not, or
// if it does not tell.
func (i *Issuer) Healthy() error {
	if k, ok := i.signer.(interface{ Healthy() error }); ok {
		return k.Healthy()
	}
	return nil
}

// Locations returns the URLs that are written into certificates.
func (i *Issuer) Locations() Locations { return i.locations }

// sign puts the CA's signature on TBS octets and returns the whole structure,
// verified with the CA's public key (rule X16). kind is for errors.
func (i *Issuer) sign(ctx context.Context, kind string, tbs []byte) ([]byte, error) {
	sig, err := i.signInput(ctx, kind, i.scheme.digest(tbs))
	if err != nil {
		return nil, err
	}
	return assemble(tbs, i.scheme.algorithm, sig)
}

// signInput returns the CA's signature over what scheme.digest made, verified.
func (i *Issuer) signInput(ctx context.Context, kind string, input []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, unsigned(fmt.Errorf("sign %s: %w", kind, err))
	}
	sig, err := i.signer.SignContext(ctx, input, i.scheme.hash)
	if err != nil {
		err = fmt.Errorf("sign %s: %w", kind, err)
		if errors.Is(err, keys.ErrNotSigned) {
			err = unsigned(err)
		}
		return nil, err
	}
	if !i.scheme.verify(i.signer.Public(), input, sig) {
		return nil, fmt.Errorf("sign %s: the key returned a signature that does not verify", kind)
	}
	return sig, nil
}

// checkLocation refuses URLs that relying parties could not follow.
func checkLocation(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !isIA5(s) {
		return fmt.Errorf("location %q: want an absolute http URL in ASCII", s)
	}
	if u.Scheme != "http" {
		return fmt.Errorf("location %q: want http, not %s (relying parties cannot use TLS to check TLS)", s, u.Scheme)
	}
	return nil
}

func isIA5(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
