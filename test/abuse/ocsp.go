package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // CertIDs have it (RFC 6960, section 4.1.1)
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// spellings asks for one certificate in requests that no two are alike: forty CertIDs
// each, which name it by several hashes, with and without the parameter NULL.
func spellings(ctx context.Context, t *target, workers int, ready chan<- error) tally {
	hc, err := t.client(ctx, attackers, workers)
	var forms [][]byte
	if err == nil {
		forms, err = certIDs(filepath.Join(t.server.Dir, "chain.pem"))
	}
	if ready <- err; err != nil {
		return tally{}
	}
	url := "http://" + t.server.Addr.HTTP + "/ocsp/dev-a-1"
	return flood(ctx, workers, messages, func(n int) string {
		return post(ctx, hc, url, "application/ocsp-request", request(forms, n))
	})
}

// request is an OCSPRequest (RFC 6960, section 4.1.1) of forty CertIDs, of forms that
// the digits of n choose.
func request(forms [][]byte, n int) []byte {
	sequence := func(b *cryptobyte.Builder, f cryptobyte.BuilderContinuation) { b.AddASN1(cbasn1.SEQUENCE, f) }
	var b cryptobyte.Builder
	sequence(&b, func(b *cryptobyte.Builder) { // OCSPRequest
		sequence(b, func(b *cryptobyte.Builder) { // TBSRequest
			sequence(b, func(b *cryptobyte.Builder) { // requestList
				for digit := range 40 {
					form := forms[n>>(2*min(digit, 6))%len(forms)]
					sequence(b, func(b *cryptobyte.Builder) { b.AddBytes(form) })
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// certIDs are the CertIDs of a serial of the issuer whose certificate is the first in a
// file: by SHA-1 and SHA-256, with and without NULL.
func certIDs(file string) ([][]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("chain.pem holds no certificate")
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	var key struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		return nil, err
	}
	nameSHA1, keySHA1 := sha1.Sum(issuer.RawSubject), sha1.Sum(key.Bits.Bytes) //nolint:gosec // as above
	nameSHA256, keySHA256 := sha256.Sum256(issuer.RawSubject), sha256.Sum256(key.Bits.Bytes)
	var forms [][]byte
	for _, h := range []struct {
		oid       asn1.ObjectIdentifier
		name, key []byte
	}{
		{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, nameSHA1[:], keySHA1[:]},
		{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, nameSHA256[:], keySHA256[:]},
	} {
		for _, null := range []bool{true, false} {
			var b cryptobyte.Builder
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(h.oid)
					if null {
						b.AddASN1NULL()
					}
				})
				b.AddASN1OctetString(h.name)
				b.AddASN1OctetString(h.key)
				b.AddASN1BigInt(big.NewInt(1 << 40))
			})
			forms = append(forms, b.BytesOrPanic())
		}
	}
	return forms, nil
}
