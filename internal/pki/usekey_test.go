package pki_test

import (
	"context"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // as strangers' certificates may have it
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/privyseal/privyseal/internal/fault"
	"github.com/privyseal/privyseal/internal/pki"
	"github.com/privyseal/privyseal/internal/pki/pkitest"
)

// modulus is an odd number of so many bits.
func modulus(bits int) *big.Int {
	n := new(big.Int).SetBit(new(big.Int), bits-1, 1)
	return n.SetBit(n, 0, 1)
}

func TestFS2_Usable(t *testing.T) {
	t.Parallel()
	var none *rsa.PublicKey
	slow := *elliptic.P256().Params() // computes with math/big
	for name, c := range map[string]struct {
		key    crypto.PublicKey
		reason string
	}{
		"8192 bits":          {&rsa.PublicKey{N: modulus(8192), E: 65537}, ""},
		"8193 bits":          {&rsa.PublicKey{N: modulus(8193), E: 65537}, "key_size"},
		"254000 bits":        {pkitest.Huge(254_000).Public(), "key_size"},
		"exponent 3":         {&rsa.PublicKey{N: modulus(2048), E: 3}, ""},
		"largest exponent":   {&rsa.PublicKey{N: modulus(2048), E: 1<<31 - 1}, ""},
		"exponent too large": {&rsa.PublicKey{N: modulus(2048), E: 1<<31 + 1}, "key_exponent"},
		"exponent 1":         {&rsa.PublicKey{N: modulus(2048), E: 1}, "key_exponent"},
		"even exponent":      {&rsa.PublicKey{N: modulus(2048), E: 65536}, "key_exponent"},
		"even modulus":       {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}, "key_weak"},
		"negative modulus":   {&rsa.PublicKey{N: big.NewInt(-5), E: 65537}, "key_invalid"},
		"no modulus":         {&rsa.PublicKey{E: 65537}, "key_invalid"},
		"no key":             {none, "key_invalid"},
		"nothing":            {nil, "key_type"},
		"P-224":              {&ecdsa.PublicKey{Curve: elliptic.P224()}, ""},
		"a curve of its own": {&ecdsa.PublicKey{Curve: &slow}, "key_type"},
		"short Ed25519":      {ed25519.PublicKey{1, 2, 3}, "key_invalid"},
		"Ed25519":            {make(ed25519.PublicKey, 32), ""},
		"DSA":                {&dsa.PublicKey{}, "key_type"},
	} {
		err := pki.Usable(c.key)
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.reason != "" && (!fault.Is(err, fault.BadPublicKey) || fault.Of(err).Reason != c.reason):
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
}

func TestFS2_NothingIsComputedWithAHugeKey(t *testing.T) {
	t.Parallel()
	key := pkitest.Huge(254_000).Public()
	err := pki.UseKey(t.Context(), key, func() error { t.Error("the operation ran"); return nil })
	if !fault.Is(err, fault.BadPublicKey) {
		t.Error(err)
	}
	holder := &x509.Certificate{PublicKey: key, SignatureAlgorithm: x509.SHA256WithRSA}
	for name, err := range map[string]error{
		"signature":   pki.CheckSignature(t.Context(), key, x509.SHA256WithRSA, nil, nil),
		"certificate": pki.SignedBy(holder, holder),
		"chain link":  pki.CertifiedBy(holder, holder),
		"list":        pki.ListedBy(&x509.RevocationList{}, holder),
		"chain":       pki.VerifyChain(t.Context(), holder, nil, x509.NewCertPool(), time.Now()),
	} {
		if !fault.Is(err, fault.BadPublicKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFS2_HugeCSR: its signature is right, so only its size can be what is wrong.
func TestFS2_HugeCSR(t *testing.T) {
	t.Parallel()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "huge"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, pkitest.Huge(20_000))
	if err != nil {
		t.Fatal(err)
	}
	if csr, err := x509.ParseCertificateRequest(der); err != nil || csr.CheckSignature() != nil {
		t.Fatal("the signature is not right")
	}
	if _, err := pki.ParseCSR(t.Context(), der); !fault.Is(err, fault.BadPublicKey) || fault.Of(err).Reason != "key_size" {
		t.Error(err)
	}
	if _, err := pki.ParseCSRTemplate(der); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("as a template: %v", err)
	}
}

// TestFS2_HugeIntermediate: what stands between a client and an anchor is the
// client's to choose.
func TestFS2_HugeIntermediate(t *testing.T) {
	t.Parallel()
	root, leaf := newKey(t), newKey(t)
	anchor := certify(t, "root", nil, root.Public(), root)
	roots := x509.NewCertPool()
	roots.AddCert(anchor)
	between := newKey(t)
	good := certify(t, "between", anchor, between.Public(), root)
	huge := pkitest.Huge(20_000)
	bad := certify(t, "between", anchor, huge.Public(), root)
	verify := func(c *x509.Certificate, sent ...*x509.Certificate) error {
		return pki.VerifyChain(t.Context(), c, sent, roots, time.Now())
	}
	byGood, byBad := certify(t, "leaf", good, leaf.Public(), between), certify(t, "leaf", bad, leaf.Public(), huge)
	if err := verify(byGood, good); err != nil {
		t.Error(err)
	}
	if err := verify(byBad, bad); err == nil {
		t.Error("a huge key has verified a certificate")
	}
	many := make([]*x509.Certificate, 4)
	for i := range many {
		many[i] = certify(t, "other", anchor, newKey(t).Public(), root)
	}
	if err := verify(byGood, append(many, good)...); err == nil {
		t.Error("as many certificates are tried as are sent")
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func certify(t *testing.T, cn string, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFS2_QueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, release, done := pki.NewQueue(1, 1), make(chan struct{}), make(chan error, 2)
		go func() { done <- q.Do(t.Context(), func() { <-release }) }() // has the turn
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { done <- q.Do(short, func() { t.Error("ran after its time") }) }() // waits
		synctest.Wait()
		err := q.Do(t.Context(), func() { t.Error("ran beyond the bound") })
		if f := fault.Of(err); f.Kind != fault.Unavailable || f.Reason != "busy" || f.RetryAfter != 5*time.Second {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := <-done; !fault.Is(err, fault.Unavailable) {
			t.Errorf("one whose time is up: %v", err)
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		ran := false
		if err := q.Do(t.Context(), func() { ran = true }); err != nil || !ran {
			t.Errorf("afterwards: %v", err)
		}
	})
}
