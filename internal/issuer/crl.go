package issuer

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/privyseal/privyseal/internal/pki"
)

// CRL is what a certificate revocation list says.
type CRL struct {
	Number                 *big.Int  // only rises; persisted by the caller before it is signed
	ThisUpdate, NextUpdate time.Time // whole seconds are kept
	Entries                []Revoked // in any order
	OnlyCA                 bool      // the list covers CA certificates only (RFC 5280, section 5.2.5)
}

// Revoked is one entry of a CRL.
type Revoked struct {
	Serial       pki.Serial
	At           time.Time
	Reason       pki.Reason // Unspecified is left out of the encoding
	InvalidityAt *time.Time // since when the key is thought to be compromised
}

// SignCRL returns a full v2 list (RFC 5280, section 5). It is linted under a
// throw-away signature first, and read back and verified afterwards.
func (i *Issuer) SignCRL(ctx context.Context, crl CRL) ([]byte, error) {
	if i.Certificate() == nil {
		return nil, unsigned(errors.New("sign CRL: the root does not exist yet"))
	}
	tbs, err := i.encodeCRL(crl)
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	draft, err := i.signDummy(tbs)
	if err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	if err := lintList(draft); err != nil {
		return nil, unsigned(fmt.Errorf("sign CRL: %w", err))
	}
	der, err := i.sign(ctx, "CRL", tbs)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: read back: %w", err)
	}
	if !bytes.Equal(parsed.RawTBSRevocationList, tbs) {
		return nil, errors.New("sign CRL: the signed octets are not those that were linted")
	}
	return der, nil
}

// encodeCRL returns the TBSCertList (RFC 5280, section 5.1).
func (i *Issuer) encodeCRL(crl CRL) ([]byte, error) {
	if err := crl.check(); err != nil {
		return nil, err
	}
	entries := slices.Clone(crl.Entries)
	slices.SortFunc(entries, func(a, b Revoked) int { return a.Serial.Big().Cmp(b.Serial.Big()) })
	for j := 1; j < len(entries); j++ {
		if entries[j].Serial.Big().Cmp(entries[j-1].Serial.Big()) == 0 {
			return nil, fmt.Errorf("serial %s is listed twice", entries[j].Serial)
		}
	}
	extensions, err := i.crlExtensions(crl)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 512+64*len(entries)))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version 2
		b.AddBytes(i.scheme.algorithm)
		b.AddBytes(i.subject)
		addTime(b, crl.ThisUpdate)
		addTime(b, crl.NextUpdate)
		if len(entries) > 0 { // never an empty SEQUENCE (rule C1)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range entries {
					e.add(b)
				}
			})
		}
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return tbs, nil
}

func (crl CRL) check() error {
	if crl.Number == nil || crl.Number.Sign() < 0 || crl.Number.BitLen() > 159 { // RFC 5280, section 5.2.3
		return errors.New("the CRL number must be a number of at most 159 bits that is not negative")
	}
	if !crl.NextUpdate.After(crl.ThisUpdate) {
		return errors.New("nextUpdate is not after thisUpdate")
	}
	for _, e := range crl.Entries {
		// removeFromCRL belongs in a delta list only (rule C2).
		if !e.Reason.Valid() || e.Reason == pki.RemoveFromCRL {
			return fmt.Errorf("serial %s: %s does not belong in a full list", e.Serial, e.Reason)
		}
		if e.Serial.Big().Sign() <= 0 {
			return fmt.Errorf("serial %q is not a number", string(e.Serial))
		}
		if e.At.After(crl.ThisUpdate) {
			return fmt.Errorf("serial %s: revoked after the list's own date", e.Serial)
		}
	}
	return nil
}

func (i *Issuer) crlExtensions(crl CRL) ([]byte, error) {
	var l list
	l.add(oidAuthorityKeyID, false, func(b *cryptobyte.Builder) { addAuthorityKeyID(b, i.keyID) })
	l.add(oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(crl.Number) })
	if crl.OnlyCA {
		l.add(oidIssuingPoint, true, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				// onlyContainsCACerts [2] BOOLEAN
				b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
			})
		})
	}
	if l.err != nil {
		return nil, l.err
	}
	var b cryptobyte.Builder
	addExtensions(&b, l.extensions)
	return b.Bytes()
}

// add writes one element of revokedCertificates (RFC 5280, section 5.3). None of
// its extensions is critical.
func (e Revoked) add(b *cryptobyte.Builder) {
	var l list
	if e.Reason != pki.Unspecified {
		l.add(oidReasonCode, false, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(e.Reason)) })
	}
	if e.InvalidityAt != nil { // always GeneralizedTime
		l.add(oidInvalidityDate, false, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(e.InvalidityAt.UTC()) })
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(e.Serial.Big())
		addTime(b, e.At)
		if len(l.extensions) > 0 {
			addExtensions(b, l.extensions)
		}
		if l.err != nil {
			b.SetError(l.err)
		}
	})
}
