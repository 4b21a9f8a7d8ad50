package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// CRL is what a certificate revocation list says, beside its entries.
type CRL struct {
	Number                 *big.Int  // only rises; persisted by the caller before it is signed
	ThisUpdate, NextUpdate time.Time // whole seconds are kept
	NextPublish            time.Time // when the next list comes, for clients that fetch ahead; zero leaves it out
	Entries                []Revoked // in any order; for SignCRL only

	// What the list covers. OnlyCA and Point make the critical extension
	// issuingDistributionPoint (RFC 5280, section 5.2.5).
	OnlyCA   bool
	Point    string   // the URI in the certificates that a shard covers, octet for octet; empty for a full list
	Base     *big.Int // the list that a delta list adds to; nil for a complete list
	Freshest string   // where the delta list of a complete list is; empty leaves it out
}

// Revoked is one entry of a CRL.
type Revoked struct {
	Serial       pki.Serial
	At           time.Time
	Reason       pki.Reason // Unspecified is left out of the encoding
	InvalidityAt *time.Time // since when the key is thought to be compromised
}

// Entries hands the entries of a list to each, in strictly rising order of their
// serials as numbers, and returns the first error, its own or that of each.
type Entries func(each func(Revoked) error) error

// SignCRL returns a small list, which it holds in memory as a whole, with the
// entries that crl has. Its entries may not be younger than the list.
func (i *Issuer) SignCRL(ctx context.Context, crl CRL) ([]byte, error) {
	entries := slices.Clone(crl.Entries)
	slices.SortFunc(entries, func(a, b Revoked) int { return a.Serial.Big().Cmp(b.Serial.Big()) })
	signed, err := i.writeCRL(ctx, &memory{}, crl, func(each func(Revoked) error) error {
		for _, e := range entries {
			if e.At.After(crl.ThisUpdate) {
				return fmt.Errorf("serial %s: revoked after the list's own date", e.Serial)
			}
			if err := each(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return io.ReadAll(signed.Reader())
}

// WriteCRL signs a v2 list of any length (RFC 5280, section 5) and returns it in
// a temporary file of the given folder; memory does not grow with the entries.
// The head of the list and its first entries are linted under a throw-away
// signature first, and the signature is verified afterwards.
func (i *Issuer) WriteCRL(ctx context.Context, dir string, crl CRL, entries Entries) (*SignedCRL, error) {
	file, err := newScratch(dir)
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	signed, err := i.writeCRL(ctx, file, crl, entries)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return signed, nil
}

func (i *Issuer) writeCRL(ctx context.Context, to scratch, crl CRL, entries Entries) (*SignedCRL, error) {
	if i.Certificate() == nil {
		return nil, unsigned(errors.New("sign CRL: the root does not exist yet"))
	}
	body, err := i.encodeCRL(ctx, to, crl, entries)
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	draft, err := i.signDummy(body.sample())
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	if err := LintList(draft); err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	input, free, err := body.input(i.scheme)
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	defer free()
	sig, err := i.signInput(ctx, "CRL", input)
	if err != nil {
		return nil, err
	}
	signed, err := body.assemble(i.scheme.algorithm, sig)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: %w", err)
	}
	return signed, signed.readBack()
}

// readBack parses a list that is not too long for that.
func (s *SignedCRL) readBack() error {
	if s.Size > readBackSize {
		return nil
	}
	der, err := io.ReadAll(s.Reader())
	if err == nil {
		_, err = x509.ParseRevocationList(der)
	}
	if err != nil {
		return fmt.Errorf("sign CRL: read back: %w", err)
	}
	return nil
}

func (crl CRL) check() error {
	if !isCRLNumber(crl.Number) || crl.Base != nil && (!isCRLNumber(crl.Base) || crl.Base.Cmp(crl.Number) >= 0) {
		return errors.New("the CRL number must be a number of at most 159 bits that is not negative, and a delta " +
			"list's higher than its base's")
	}
	if !crl.NextUpdate.After(crl.ThisUpdate) {
		return errors.New("nextUpdate is not after thisUpdate")
	}
	if crl.Base != nil && crl.Freshest != "" { // RFC 5280, section 5.2.6
		return errors.New("a delta list does not point to a delta list")
	}
	for _, uri := range []string{crl.Point, crl.Freshest} {
		if err := checkLocation(uri); err != nil {
			return err
		}
	}
	return nil
}

// isCRLNumber is RFC 5280, section 5.2.3: at most 20 octets.
func isCRLNumber(n *big.Int) bool { return n != nil && n.Sign() >= 0 && n.BitLen() <= 159 }

// crlExtensions returns crlExtensions in the order in which they are encoded.
func (i *Issuer) crlExtensions(crl CRL) ([]byte, error) {
	var l list
	l.add(oidAuthorityKeyID, false, func(b *cryptobyte.Builder) { addAuthorityKeyID(b, i.keyID) })
	l.add(oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(crl.Number) })
	if crl.Base != nil {
		l.add(oidDeltaIndicator, true, func(b *cryptobyte.Builder) { b.AddASN1BigInt(crl.Base) })
	}
	if crl.OnlyCA || crl.Point != "" { // never with all its fields empty (rule C6)
		l.add(oidIssuingPoint, true, crl.addIssuingPoint)
	}
	if crl.Freshest != "" {
		l.add(oidFreshestCRL, false, func(b *cryptobyte.Builder) { addPoints(b, crl.Freshest) })
	}
	if !crl.NextPublish.IsZero() {
		l.add(oidNextPublish, false, func(b *cryptobyte.Builder) { addTime(b, crl.NextPublish) })
	}
	if l.err != nil {
		return nil, l.err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(),
		func(b *cryptobyte.Builder) { addExtensions(b, l.extensions) })
	return b.Bytes()
}

func (crl CRL) addIssuingPoint(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if crl.Point != "" {
			addPointName(b, crl.Point)
		}
		if crl.OnlyCA { // onlyContainsCACerts [2] BOOLEAN
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		}
	})
}
