package crl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

// FuzzImport reads strangers' lists in both ways: strictly, as an import does,
// and streaming, as a list on disk is read. What the strict parser takes, the
// other reads too, with the same number and the same entries.
func FuzzImport(f *testing.F) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{9}, 32))
	if err != nil {
		f.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	parent := &x509.Certificate{SubjectKeyId: []byte{1, 2, 3}, RawSubject: []byte{0x30, 0}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: key.Public()}
	for entries := range 3 {
		l := &x509.RevocationList{Number: big.NewInt(int64(entries)), ThisUpdate: at, NextUpdate: at.AddDate(30*entries, 0, 7)}
		for n := range entries {
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber: big.NewInt(int64(200 + n)), RevocationTime: at, ReasonCode: n,
			})
		}
		der, err := x509.CreateRevocationList(rand.Reader, l, parent, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add([]byte("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseList(text)
		if err != nil {
			if r, err := newReader(bytes.NewReader(text)); err == nil {
				_ = r.walk() // must only not fail hard
			}
			return
		}
		_ = follows(list, nil, at)
		r, err := newReader(bytes.NewReader(list.Raw))
		if err != nil {
			return // stricter: nextUpdate and the version must be there
		}
		n := 0
		for {
			more, err := r.next()
			if err != nil {
				return
			}
			if !more {
				break
			}
			if _, err := r.last.revoked(); err != nil {
				return
			}
			if r.last.id() != "" && list.RevokedCertificateEntries[n].SerialNumber.Cmp(new(big.Int).SetBytes(r.last.serial)) != 0 {
				t.Errorf("entry %d: %x, want %x", n, r.last.serial, list.RevokedCertificateEntries[n].SerialNumber)
			}
			n++
		}
		if err := r.end(); err != nil {
			return
		}
		if n != len(list.RevokedCertificateEntries) || r.number.Cmp(list.Number) != 0 {
			t.Errorf("%d entries and number %d, want %d and %d", n, r.number, len(list.RevokedCertificateEntries), list.Number)
		}
	})
}
